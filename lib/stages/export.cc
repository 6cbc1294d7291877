#include "export/export.h"

#include "base/check.h"
#include "base/log.h"
#include "export/tensor_errors.h"
#include "stages/masked.h"
#include "stages/stage.h"

namespace attar {

void run_export(StageRun& run, const ExportConfig& config) {
  const fs::path source = model_path(*run.input("model"));
  StoredModel model = read_stored(source);
  if (!run.license.empty()) model.license = run.license;
  if (!run.base_model.empty()) model.base_model = run.base_model;
  ExportConfig used = config;
  if (const fs::path* imatrix = run.input("imatrix")) used.imatrix = imatrix_path(*imatrix).string();
  ExportReport report;
  std::string path;
  if (config.format == "gguf") {
    path = "model.gguf";
    report = export_gguf(model, used, run.out / path);
    if (run.recipe) add_tensor_errors(run.out / path, model, report.tensors);  // for the report
  } else if (config.format == "onnx") {
    path = ".";
    report = export_onnx(model, used, run.out);
    if (run.recipe) add_onnx_errors(run.out / "model.onnx", model, report.tensors);
  } else if (config.format == "hf") {
    path = ".";
    report = export_hf(model, used, run.out);
  } else {
    fail("format", "gguf, onnx or hf", config.format);
  }
  const std::shared_ptr<const Masks> masks = masks_of(source, model.spec);
  if (masks) report.notes.push_back(mask_note(*masks, model.spec));
  if (masks && config.format == "hf") keep_masks(run, masks, load_checkpoint(source, {.keep_dtype = true, .tokenizer = false}));
  for (const std::string& note : report.notes) log_warn(run.label + ": " + note);
  run.facts["path"] = path;
  run.facts["format"] = config.format;
  run.facts["parameters"] = parameter_count(model.spec);
  run.facts["tensors"] = report.tensors;
  run.facts["notes"] = report.notes;
  run.facts["elements_proven"] = report.elements_proven;
  log_info(str(run.label, ": written and read back, ", human_count(static_cast<double>(report.elements_proven)), " elements equal the model's"));
}

}  // namespace attar
