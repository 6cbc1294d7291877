// attar export --format gguf, attar verify --against: files and models at rest, without LibTorch.
#include <omp.h>

#include <iostream>

#include "base/log.h"
#include "base/signals.h"
#include "export/export.h"
#include "front/front.h"
#include "plan/recipe.h"

namespace attar {
namespace {

void use_threads(const Words& words) {
  const int64_t threads = words.integer("threads");
  if (threads < 0) fail("--threads", "0 (as many as cores) or more", str(threads));
  if (threads > 0) omp_set_num_threads(static_cast<int>(std::min<int64_t>(threads, 1024)));
}

}  // namespace

bool exports_here(const Words& words) {
  if (words.get("format") != "gguf") return false;
  std::error_code ignored;
  return !fs::exists(fs::path(words.get("model")) / "masks.safetensors", ignored);  // what they are worth, the engine says
}

int tool_export_gguf(const Words& words) {
  catch_signals();
  use_threads(words);
  const fs::path place = fs::absolute(words.get("out")).lexically_normal();
  check(!place.filename().empty() && !fs::is_directory(place), place.string(), "a file to write", "a folder",
        "name the file: --out " + (place / "model.gguf").string());
  const Command* command = nullptr;
  for (const Command& known : commands())
    if (known.name == "export") command = &known;
  auto config = read_fields<ExportConfig>(from_json(stage_configuration(*command, words)), "export");
  if (!config.imatrix.empty()) config.imatrix = imatrix_path(config.imatrix).string();
  const ExportReport report = export_gguf(read_stored(model_path(config.model)), config, place);
  for (const std::string& note : report.notes) log_warn("export: " + note);
  log_info(str("export: written and read back, ", human_count(static_cast<double>(report.elements_proven)), " elements equal the model's"));
  return 0;
}

int tool_verify_against(const Words& words) {
  use_threads(words);
  const StoredModel model = read_stored(model_path(words.get("against")), /*tokenizer=*/false);
  std::vector<Fault> faults = compare_with_model(model_path(words.get("path")), model);
  if (!faults.empty()) throw Error(std::move(faults));
  std::cout << words.get("path") << ": every element equals " << words.get("against") << "\n";
  return 0;
}

}  // namespace attar
