#include "stages/grid_solution.h"

#include "base/check.h"
#include "base/log.h"
#include "quant/budget.h"
#include "quant/gptq.h"
#include "quant/rounding.h"

namespace attar {
namespace {

void solve_by_gptq(StageRun& run, const QuantConfig& config, Checkpoint& model, const TypePlan& plan, const TokenRows& rows) {
  const GptqReport report = gptq_checkpoint(model, plan.types, rows, {.rows = config.calibration_rows}, config.damping,
                                            *process_group_from_environment(), run.work / "layers");
  for (const std::string& name : report.rounded) log_warn(run.label + ": " + name + ": its Hessian is not positive definite; rounded instead");
  run.facts["gptq"] = {{"rounded_instead", report.rounded}, {"highest_damping", report.highest_damping}};
}

void solve_by_rounding(StageRun& run, const QuantConfig& config, Checkpoint& model, const TypePlan& plan, const ImportanceMap& importance,
                       const TokenRows& rows) {
  const RoundingConfig& how = config.rounding;
  Checkpoint begun = model;  // tensors are replaced, not written to
  begun.codes.clear();
  solve_on_grid(run, config, how.start, begun, plan, importance, rows);
  const RoundingReport report =
      learn_rounding(model, begun.codes, rows, {.rows = config.calibration_rows},
                     {.steps = how.steps, .rows = how.rows, .size = how.lr, .scales = how.scales, .seed = run.seed_of("rounding")},
                     *process_group_from_environment(), run.work / "rounding");
  const std::vector<std::string>& rest = report.not_learned;
  if (!rest.empty())
    log_warn(str(run.label, ": ", rest.size(), " weights (", rest[0], rest.size() > 1 ? ", ...)" : ")", " stay as ", how.start,
                 " rounded them: the levels of their types are not evenly spaced"));
  int64_t improved = 0;
  Json layers = Json::array();
  for (const RoundedLayer& layer : report.layers) {
    improved += layer.after < layer.before;
    layers.push_back({{"before", layer.before}, {"after", layer.after}});
  }
  log_info(str(run.label, ": ", improved, " of ", report.layers.size(), " layers nearer to the model's outputs than ", how.start, " left them"));
  run.facts["rounding"] = {{"start", how.start}, {"improved_layers", improved}, {"layers", layers}, {"not_learned", rest}};
}

}  // namespace

void check_solution(const QuantConfig& config, const std::string& key, const std::string& method) {
  const RoundingConfig& how = config.rounding;
  const bool learns = method == "rounding", propagates = method == "gptq" || (learns && how.start == "gptq");
  const bool chosen = has_budget(config.budget) || !config.budget.plan.empty();
  const char* works = key == "start" ? "start: round or search" : "method ptq, search or qat";
  check(config.scheme != "int8" || chosen || !(learns || propagates), "scheme int8", works, method,
        "this works on grids of blocks; q8_0 is 8 bits in blocks of 32");
  if (!learns) return;
  check(how.start == "round" || how.start == "search" || how.start == "gptq", "rounding.start", "round, search or gptq", how.start);
  check(how.steps > 0, "rounding.steps", "1 or more", str(how.steps));
  check(how.rows > 0, "rounding.rows", "1 or more", str(how.rows));
  check(how.lr >= 0 && how.lr <= 1, "rounding.lr", "0 to 1 levels", str(how.lr));
}

bool solution_reads_rows(const std::string& method) { return method == "gptq" || method == "rounding"; }

void solve_on_grid(StageRun& run, const QuantConfig& config, const std::string& method, Checkpoint& model, const TypePlan& plan,
                   const ImportanceMap& importance, const TokenRows& rows) {
  if (method == "gptq") return solve_by_gptq(run, config, model, plan, rows);
  if (method == "rounding") return solve_by_rounding(run, config, model, plan, importance, rows);
  quantize_checkpoint(model, plan.types, importance, method == "search" ? Rounding::search : Rounding::ggml);
}

}  // namespace attar
