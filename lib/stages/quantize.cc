#include "quant/quantize.h"

#include "base/check.h"
#include "base/log.h"
#include "calibrate/importance.h"
#include "export/tensor_errors.h"
#include "quant/budget.h"
#include "quant/type_plan.h"
#include "report/terminal.h"
#include "stages/grid_solution.h"
#include "stages/joint_types.h"
#include "stages/masked.h"
#include "stages/qat.h"

namespace attar {
namespace {

/// The importance matrix that the stage names: a calibrate stage's folder or a file. Linears that it does not hold are named.
ImportanceMap importance_of_run(const StageRun& run, const ModelSpec& spec) {
  const fs::path* given = run.input("imatrix");
  if (!given) return {};
  ImportanceMap importance = importance_by_weight(read_imatrix(imatrix_path(*given)), spec);
  int64_t missing = 0;
  std::string first;
  for (const ParameterInfo& p : parameters_of(spec))
    if (is_linear_weight(p.name) && !importance.count(p.name) && missing++ == 0) first = p.name;
  if (missing > 0) log_warn(str(run.label, ": ", missing, " weights (", first, missing > 1 ? ", ...)" : ")", " are not in the importance matrix"));
  return importance;
}

/// Chooses types for a budget; the table goes to the terminal and the manifest.
TypePlan types_for_budget(StageRun& run, const QuantConfig& config, const Checkpoint& model, const TokenRows& rows, const ImportanceMap& importance) {
  const auto group = process_group_from_environment();
  const bool searches = config.method == "search" || config.method == "gptq" || (config.method == "rounding" && config.rounding.start != "round");
  const Rounding rounding = searches ? Rounding::search : Rounding::ggml;
  plan_for_budget(model.spec, type_candidates(model.spec, budget_types(config.budget), config.embeddings), config.budget);  // refused at once
  const std::vector<MeasuredTensor> measured = measure_sensitivity(model, budget_types(config.budget), config.embeddings, rows, importance, rounding,
                                                                   {.rows = config.budget.rows, .partial = run.work / "sensitivity.json"}, *group);
  const BudgetPlan chosen = plan_for_budget(model.spec, measured, config.budget);
  Json table = Json::array();
  std::vector<std::vector<std::string>> lines;
  for (size_t i = 0; i < measured.size(); ++i) {
    const MeasuredType& type = chosen.chosen[i];
    const char* name = ggml_type_info(type.type).name;
    Json kl = Json::object();
    for (const MeasuredType& other : measured[i].types) kl[ggml_type_info(other.type).name] = other.kl;
    table.push_back({{"tensor", measured[i].group.gguf}, {"type", name}, {"bytes", type.bytes}, {"kl", type.kl}, {"measured", kl}});
    lines.push_back({measured[i].group.gguf, name, str(type.bytes), str(type.kl)});
  }
  log_info("types for the budget:\n" + format_table({"tensor", "type", "bytes", "KL alone"}, lines));
  run.facts["budget"] = {
      {"limit", chosen.limit}, {"bytes", chosen.bytes}, {"granularity", chosen.granularity}, {"kl", chosen.kl}, {"tensors", table}};
  log_info(str(run.label, ": ", chosen.bytes, " of ", chosen.limit, " bytes, summed KL ", chosen.kl));
  return chosen.plan;
}

/// Keys of training that would do nothing beside `method: rounding`.
void check_no_training(const QuantConfig& config) {
  const QuantConfig plain;
  check(config.start == plain.start, "start", "rounding.start, which method: rounding reads", "start: " + config.start,
        "rounding: {start: " + config.start + "}; or method: qat, start: rounding");
  const std::pair<const char*, bool> of_training[] = {
      {"scales", config.scales != plain.scales}, {"activations", config.activations != plain.activations},
      {"masters", config.masters != plain.masters}, {"delay", config.delay != plain.delay},
      {"lora.rank", config.lora.rank != plain.lora.rank}, {"teacher", !config.teacher.empty()}};
  for (const auto& [key, set] : of_training)
    check(!set, key, "method: qat, which alone trains", "method: rounding", "to train from the rounding's codes: method: qat, start: rounding");
}

}  // namespace

void run_quantize(StageRun& run, const QuantConfig& config) {
  const std::string& method = config.method;
  check(method == "ptq" || method == "search" || method == "gptq" || method == "rounding" || method == "qat", "method",
        "ptq, search, gptq, rounding or qat", method);
  check(config.damping > 0 && config.damping < 1e3, "damping", "above 0", str(config.damping));
  check(config.calibration_rows > 0, "calibration_rows", "1 or more", str(config.calibration_rows));
  const fs::path* given = run.input("budget.plan");
  const bool budgeted = has_budget(config.budget);
  check(!given || !budgeted, "budget", "plan, bits or bytes", "several of them");
  if (method == "qat") check_qat(config);
  else check_solution(config, "method", method);
  if (method == "rounding") check_no_training(config);
  const bool reads_rows = budgeted || solution_reads_rows(method == "qat" ? config.start : method);
  Checkpoint model = load_model(*run.input("model"), method == "qat" || reads_rows);
  const std::shared_ptr<const Masks> masks = masks_of(*run.input("model"), model.spec);
  if (method == "qat") model.codes.clear();  // training moves every weight, also those that are not rounded again
  const ImportanceMap importance = importance_of_run(run, model.spec);
  PreparedRows rows;
  if (reads_rows) rows = prepare_rows(run, config.data, *model.tokenizer, model.spec.context);
  const TypePlan plan = given      ? TypePlan{given_types(*given, model.spec), {}}
                        : budgeted ? types_for_budget(run, config, model, rows.train, importance)
                                   : plan_types(model.spec, config.scheme, config.mix, config.embeddings, !importance.empty());
  for (const std::string& note : plan.notes) log_warn(run.label + ": " + note);
  if (method == "qat") train_on_grid(run, config, model, plan, importance, masks, rows.train);
  else solve_on_grid(run, config, method, model, plan, importance, rows.train);
  if (!run.license.empty()) model.license = run.license;
  save_checkpoint(model, run.out);
  keep_masks(run, masks, model);
  const int64_t bytes = tensor_bytes(model.spec, plan.types);
  run.facts["parameters"] = parameter_count(model.spec);
  run.facts["scheme"] = budgeted || given ? "budget" : config.scheme;
  run.facts["method"] = method;
  run.facts["quantized_tensors"] = plan.types.size();
  run.facts["tensor_bytes"] = bytes;
  run.facts["notes"] = plan.notes;
  // What it was is read again from where it lies, a tensor at a time.
  if (run.recipe)
    run.facts["tensors"] = coded_tensor_errors(stored_view(model), read_stored(model_path(*run.input("model")), /*tokenizer=*/false));
  log_info(str(run.label, ": ", plan.types.size(), " weights on the grid of ", budgeted || given ? "a budget" : config.scheme, ", ", bytes,
               " bytes of tensors"));
}

}  // namespace attar
