#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/signals.h"
#include "data/row_reader.h"
#include "data/task.h"
#include "decide/choice.h"
#include "decide/cost.h"
#include "decide/weights.h"
#include "device/device.h"
#include "eval/fidelity.h"
#include "eval/latency.h"
#include "eval/memorization.h"
#include "eval/perplexity.h"
#include "eval/runtime.h"
#include "eval/statistics.h"
#include "eval/task_eval.h"
#include "formats/text_lines.h"
#include "report/report.h"
#include "report/run_log.h"
#include "stages/drift.h"
#include "stages/evaluate.h"
#include "stages/kv_cost.h"
#include "stages/learned.h"
#include "stages/run.h"
#include "stages/scores.h"

namespace attar {
namespace {

/// The held-out rows of the task as one text, each prompt followed by its right answer: what perplexity reads when no text is named.
std::string task_text(const std::vector<TaskExample>& examples) {
  std::string text;
  for (const TaskExample& example : examples) text += example.prompt + example.answer + "\n";
  return text;
}

/// Ids of a task's rows as they are trained on.
std::vector<std::vector<int32_t>> trained_ids(const TaskConfig& task, const fs::path& file, const Tokenizer& tokenizer) {
  const TaskRows rows(task);
  std::vector<std::vector<int32_t>> out;
  RecordReader records(file);
  for (Json record; records.next(record);) out.push_back(render_document(rows.document(records, record, false), tokenizer).ids);
  check(!out.empty(), file.string(), "rows of data", "none");
  return out;
}

/// Seconds from the call until attar can compute with the artifact and its tokenizer. Its files were read just before: the disk does not count.
Json load_times(const fs::path& path, int64_t runs) {
  std::vector<double> times;
  for (int64_t run = 0; run < runs; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    Checkpoint model = load_model(path, true);
    const Decoder decoder(model.spec, std::move(model.weights));
    times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    stop_if_asked();
  }
  std::sort(times.begin(), times.end());
  return {{"value", percentile(times, 0.5)}, {"least", times.front()}, {"most", times.back()}, {"runs", runs}, {"page_cache", "warm"}};
}

/// A .txt file as it is; of rows the texts, one after another.
std::string plain_text(const fs::path& file) {
  if (text_ending(file) != ".jsonl" && text_ending(file) != ".csv") return read_file(file);
  RecordReader rows(file);
  std::string text;
  for (Json row; rows.next(row);) text += rows.text(row, "text") + "\n";
  return text;
}

/// What could not be measured leaves the rest; its sentence stands under "failed".
void add_failure(Json& out, const std::string& sentence) {
  out["failed"] = out.contains("failed") ? out["failed"].get<std::string>() + "; " + sentence : sentence;
}

/// Texts that an artifact wrote, until the stage is whole.
fs::path written_file(const fs::path& work, const std::string& task, const std::string& label) {
  return score_file(work / "written", task, label).replace_extension(".json");
}

}  // namespace

Evaluation::Evaluation(EvaluationInputs inputs) : inputs_(std::move(inputs)) {
  if (inputs_.task) check(!inputs_.task->test.empty(), "test rows of task " + inputs_.task->name, "a file", "nothing", "name it: test");
  if (inputs_.task) examples_ = read_task(inputs_.task->test, *inputs_.task, inputs_.task_rows);
  check(inputs_.stride >= 0, "stride", "0 or more", str(inputs_.stride));
  check(inputs_.memorization.rows >= 0, "memorization.rows", "0 or more", str(inputs_.memorization.rows));
  if (inputs_.memorization.rows > 0)
    check(inputs_.task && !inputs_.task->train.empty(), "memorization", "a task with training rows", "none",
          "name a task file with train, or set memorization.rows=0");
  if (inputs_.latency) check_running(inputs_.running);
  if (inputs_.base) base_ = load_model(*inputs_.base, true);
}

Json Evaluation::memorized(const Decoder& model, const Tokenizer& tokenizer) const {
  MemorizationOptions options;
  options.rows = inputs_.memorization.rows, options.prefix = inputs_.memorization.prefix, options.length = inputs_.memorization.length;
  const TaskConfig& task = *inputs_.task;
  return memorization(model, trained_ids(task, task.train, tokenizer), trained_ids(task, task.test, tokenizer), options).to_json();
}

std::unique_ptr<ScoredPositions> Evaluation::positions(const Checkpoint& model, std::string& source) {
  const bool own = !inputs_.text;
  if (own && !inputs_.task) return nullptr;
  int64_t ctx = std::min(inputs_.ctx, model.spec.context);
  if (base_) ctx = std::min(ctx, base_->spec.context);
  const auto bos = chunk_bos(*model.tokenizer);
  if (!own && inputs_.stride == 0) {
    source = inputs_.text->filename().string();
    return chunk_positions(streamed_ids(file_text(*inputs_.text), model.tokenizer), bos, ctx, inputs_.text_tokens, model.tokenizer.get());
  }
  // All held-out rows, whatever number of them the task is judged on: text_tokens limits the text.
  const std::string text = own ? task_text(read_task(inputs_.task->test, *inputs_.task)) : plain_text(*inputs_.text);
  source = own ? "the task's held-out rows" : inputs_.text->filename().string();
  auto ids = text_ids(text, *model.tokenizer);
  if (inputs_.stride > 0) return window_positions(std::move(ids), bos, ctx, inputs_.stride, inputs_.text_tokens, model.tokenizer.get());
  // A few rows are enough for a task; a text that was named must be long enough.
  if (own && static_cast<int64_t>(ids.size()) < 2 * ctx) {
    source = str("not measured: the task's held-out rows have ", ids.size(), " tokens, and two chunks of ", ctx, " are needed");
    return nullptr;
  }
  return chunk_positions(std::move(ids), bos, ctx, inputs_.text_tokens, model.tokenizer.get());
}

Json Evaluation::measure(const fs::path& artifact, const std::string& label) {
  const fs::path path = model_path(artifact);
  Json out = measured(path, label);
  if (inputs_.latency && inputs_.running.load_runs > 0) out["latency"]["load_s"] = load_times(path, inputs_.running.load_runs);
  return out;
}

Json Evaluation::measured(const fs::path& path, const std::string& label) {
  at::NoGradGuard no_grad;
  Json out = Json::object();
  out["path"] = path.string();
  const Weights weights = weigh_files(path);
  out["bytes"] = weights.bytes, out["sha256"] = weights.sha256;
  reset_peak_rss();
  const int64_t before = current_rss_bytes();
  Checkpoint model = load_model(path, true);
  const int64_t parameters = parameter_count(model.spec);
  out["parameters"] = parameters;
  out["bits_per_weight"] = 8.0 * out["bytes"].get<double>() / static_cast<double>(parameters);
  const Decoder decoder(model.spec, model.weights);
  std::string source;
  const auto scored = positions(model, source);
  const bool same_tokens = !base_ || model.tokenizer->fingerprint() == base_->tokenizer->fingerprint();
  if (!same_tokens) add_failure(out, Fault{"KL of " + label + " to the base", "the base's tokenizer", "another", "KL needs the same tokens"}.line());
  if (scored && base_ && same_tokens) {
    const Decoder base(base_->spec, base_->weights);
    const FidelityResult fidelity_result = fidelity(base, decoder, *scored);
    out["perplexity"] = fidelity_result.model.to_json();
    out["kld"] = fidelity_result.kld_json();
    out["top1_agreement"] = fidelity_result.top1_json();
    out["rms_delta_p"] = fidelity_result.rms_delta_p;
  } else if (scored) {
    out["perplexity"] = perplexity(decoder, *scored).to_json();
  }
  if (scored && inputs_.kv_cache != "f32") out["kv_cache"] = kv_cache_cost(decoder, inputs_.kv_cache, *scored);
  if (scored) out["text"] = source;
  else if (!source.empty()) out["notes"].push_back("perplexity: " + source);
  stop_if_asked();
  if (inputs_.task) {
    TaskOptions options;
    options.shorten = inputs_.shorten;
    try {
      keep_task(evaluate_task(decoder, *model.tokenizer, *inputs_.task, examples_, options), label, out["sha256"].get<std::string>(), out);
      if (!inputs_.scores.empty()) record_reference(inputs_.scores, *inputs_.task, examples_, *model.tokenizer);
      if (!inputs_.scores.empty() && inputs_.learned_score != "none")
        out["task_details"][inputs_.task->name]["learned_score"] = add_learned_score(score_file(inputs_.scores, inputs_.task->name, label), decoder,
                                                                                     *model.tokenizer, examples_, inputs_.learned_score);
    } catch (const Error& error) {
      add_failure(out, "task " + inputs_.task->name + ": " + error.what());
    }
  }
  if (inputs_.latency) {
    EnergyMeter energy;
    const LatencyGrid latency = measure_grid(decoder, inputs_.running, &energy);
    out["latency"] = latency.to_json();
    out["energy"] = latency.points.front().energy_json();
  } else {
    out["energy"] = "not measured";
  }
  out["memory"] = {{"peak_rss_bytes", peak_rss_bytes()}, {"rss_before_bytes", before}};
  if (inputs_.memorization.rows > 0) out["memorization"] = memorized(decoder, *model.tokenizer);
  return out;
}

void Evaluation::keep_task(TaskResult result, const std::string& label, const std::string& sha256, Json& out) {
  const std::string& task = inputs_.task->name;
  out["tasks"][task] = result.to_json();
  out["task_details"][task] = result.details();
  if (!inputs_.scores.empty()) record_scores(inputs_.scores, label, sha256, result, examples_);
  if (result.shortened > 0) result.notes.push_back(str(result.shortened, " prompts were longer than the context and lost their beginning"));
  for (const std::string& note : result.notes) out["notes"].push_back(task + ": " + note);
  if (!inputs_.work.empty() && !result.written.empty()) {
    const fs::path written = written_file(inputs_.work, task, label);
    make_folder(written.parent_path());
    write_json(written, result.written);
  }
  results_[label] = std::move(result);
}

Json Evaluation::ask(const RuntimeConfig& config, const std::string& label, const fs::path& kept) {
  check(inputs_.task.has_value(), "runtime " + config.url, "a task whose questions it is asked", "none", "name a task file: --task");
  const Runtime runtime(config);
  Json out = {{"path", config.url}, {"runtime", runtime.facts()}};
  keep_task(runtime.evaluate(*inputs_.task, examples_, kept), label, sha256(runtime.fingerprint()), out);
  out["runtime"]["method"] = results_.at(label).method;
  if (const auto file = results_.find(config.of); !config.of.empty() && file != results_.end())
    out["agreement"] = {{"with", config.of}, {"same_answers", answer_agreement(results_.at(label), file->second).to_json()}};
  return out;
}

void Evaluation::recall(const std::string& label) {
  if (!inputs_.task || inputs_.scores.empty()) return;
  const std::string& task = inputs_.task->name;
  const fs::path file = score_file(inputs_.scores, task, label), written = written_file(inputs_.work, task, label);
  if (!fs::exists(file)) return;
  TaskResult result = recorded_result(read_scores(file), inputs_.task->kind);
  if (fs::exists(written)) result.written = read_json(written).get<std::vector<std::string>>();
  results_[label] = std::move(result);
}

Json Evaluation::compare(const std::string& label, const std::string& base) const {
  const auto a = results_.find(label), b = results_.find(base);
  if (a == results_.end() || b == results_.end() || label == base) return Json();
  const std::vector<double> own = a->second.correct(), other = b->second.correct();
  int64_t only_a = 0, only_b = 0;
  for (size_t i = 0; i < own.size(); ++i) {
    only_a += own[i] > other[i];
    only_b += own[i] < other[i];
  }
  Json out = {{"against", base}};
  for (const auto& [metric, values] : a->second.values)
    for (const auto& [same, others] : b->second.values)
      if (same == metric) out["differences"][metric] = paired_bootstrap(values, others, 2000).difference.to_json();
  // Accuracy has a key of its own too, for programs that know no other metric.
  if (out.contains("differences") && out["differences"].contains("accuracy")) out["accuracy_difference"] = out["differences"]["accuracy"];
  out["mcnemar_p"] = mcnemar_exact(only_a, only_b);
  return out;
}

void run_evaluate(StageRun& run, const EvaluateConfig& config) {
  EvaluationInputs inputs;
  if (run.task) inputs.task = complete_task(*run.task, run.base);
  if (const fs::path* text = run.input("text")) inputs.text = *text;
  if (const fs::path* base = run.input("base")) inputs.base = *base;
  inputs.ctx = config.ctx, inputs.stride = config.stride, inputs.text_tokens = config.text_tokens, inputs.task_rows = config.task_rows,
  inputs.latency = config.latency, inputs.running = config.running;
  inputs.memorization = config.memorization;
  inputs.kv_cache = config.kv_cache;
  inputs.learned_score = config.learned_score;
  inputs.scores = inputs.work = run.work;
  check(inputs.text || inputs.task, "evaluate", "a text or a task", "neither");
  std::optional<PriceConfig> prices;
  if (const fs::path* file = run.input("prices")) prices = read_prices(*file);
  inputs.shorten = config.long_prompts == "shorten";
  check(inputs.shorten || config.long_prompts == "refuse", "long_prompts", "refuse or shorten", config.long_prompts,
        nearest_hint(config.long_prompts, {"refuse", "shorten"}));
  Evaluation evaluation(std::move(inputs));
  Json artifacts = Json::object(), lineage = Json::object();
  std::vector<Fault> failed;  // what could not be judged; the rest of the report is kept
  const fs::path done = run.work / "artifacts.json";
  if (fs::exists(done)) artifacts = read_json(done);
  for (const auto& [id, artifact] : artifacts.items()) evaluation.recall(id);
  const auto keep = [&](const std::string& id, const Json& measured) {
    Json entry = {{"stage", id}};
    entry.update(measured);
    artifacts[id] = std::move(entry);
    // What failed is measured again when the stage is.
    Json whole = artifacts;
    for (const auto& [other, artifact] : artifacts.items())
      if (artifact.contains("failed")) whole.erase(other);
    write_json(done, whole);
    if (measured.contains("failed")) failed.push_back({id + ": " + measured["failed"].get<std::string>(), "", "", ""});
    stop_if_asked();
  };
  for (size_t i = 0; i < config.of.size(); ++i) {
    const std::string& id = config.of[i];
    const fs::path path = run.inputs.at(str("of[", i, "]"));
    if (artifacts.contains(id)) continue;
    log_info(str(run.label, ": measuring ", id, " (", i + 1, " of ", config.of.size(), ")"));
    Json measured = {{"path", path.string()}};
    try {
      measured = evaluation.measure(path, id);
    } catch (const Error& error) {
      add_failure(measured, error.what());
    }
    const fs::path relative = fs::path(measured["path"].get<std::string>()).lexically_normal().lexically_relative(run.run_folder.lexically_normal());
    if (!run.run_folder.empty() && !relative.empty() && *relative.begin() != "..") measured["path"] = relative.string();
    keep(id, measured);
  }
  for (const auto& [name, runtime] : config.runtime) {
    if (artifacts.contains(name)) continue;
    log_info(str(run.label, ": asking ", name, " at ", runtime.url));
    try {
      keep(name, evaluation.ask(runtime, name, run.work / ("answers_" + name + ".jsonl")));
    } catch (const Error& error) {
      keep(name, {{"path", runtime.url}, {"failed", error.what()}});
    }
  }
  for (auto& [id, artifact] : artifacts.items())
    if (Json compared = evaluation.compare(id, config.base); !compared.is_null()) artifact["comparison"] = std::move(compared);
  if (prices)
    for (auto& [id, artifact] : artifacts.items())
      if (Json cost = artifact_cost(artifact, *prices); !cost.is_null()) artifact["cost"] = std::move(cost);
  KeptScores kept(run.work);
  const Json gates = run.recipe ? judge_gates(recipe_gates(*run.recipe), artifacts, std::ref(kept)) : Json::array();
  const bool passed = gates_passed(gates);
  std::map<std::string, SweepCandidate> candidates;
  if (run.recipe)
    for (const auto& [id, swept] : run.recipe->swept) candidates[id] = {swept.stage, swept.values};
  for (const char* kept_folder : {"scores", "drift"})
    if (fs::exists(run.work / kept_folder))
      fs::copy(run.work / kept_folder, run.out / kept_folder, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  const MachineFacts machine = machine_facts();
  Json report = {{"verdict", gates.empty() ? "no gates"
                             : passed      ? "pass"
                                           : "fail"},
                 {"name", run.recipe ? run.recipe->name : run.id},
                 {"base", config.base},
                 {"artifacts", artifacts},
                 {"gates", gates},
                 {"environment",
                  {{"cpu", machine.cpu},
                   {"cores", machine.cores},
                   {"memory_bytes", machine.memory},
                   {"gpu", machine.gpu},
                   {"libtorch", machine.libtorch},
                   {"compiler", machine.compiler},
                   {"system", machine.system},
                   {"threads", thread_count()},
                   {"attar", ATTAR_VERSION}}},
                 {"recipe", run.recipe ? run.recipe->effective : Json()},
                 {"license", run.license},
                 {"base_model", run.base_model}};
  std::map<std::string, std::vector<Json>> logs;
  if (run.recipe) {
    for (const Stage& stage : run.recipe->stages) {
      if (stage.kind == "evaluate" || stage.kind == "route") continue;
      const Manifest manifest = read_manifest(run.run_folder / stage.id);
      Json facts = manifest.facts;
      facts.erase("cache");
      lineage[stage.id] = {{"kind", stage.kind},          {"key", manifest.key}, {"inputs", manifest.inputs},
                           {"outputs", manifest.outputs}, {"facts", facts},      {"seconds", manifest.seconds}};
      const fs::path log = run.run_folder / stage.id / "log.jsonl";
      if (fs::exists(log)) logs[stage.id] = read_run_log(log);
    }
  }
  report["lineage"] = std::move(lineage);
  report["decision"] = decide(artifacts, gates, candidates);
  if (run.recipe && run.recipe->task)
    for (const auto& [what, path] :
         {std::pair{"train", &run.recipe->task->train}, {"test", &run.recipe->task->test}, {"valid", &run.recipe->task->valid}})
      if (!path->empty() && fs::is_regular_file(*path)) report["data"][what] = {{"path", *path}, {"sha256", sha256_file(*path)}};
  // Beside the stage's place, because a stage is whole or absent: read it, mend what failed, run again.
  const fs::path partial = (run.run_folder.empty() ? run.work : run.run_folder) / (run.id + ".partial");
  if (!failed.empty()) {
    make_folder(partial);
    write_report(report, logs, partial);
    failed.back().hint = "everything else is kept: " + (partial / "report.html").string();
    throw Error(std::move(failed));
  }
  fs::remove_all(partial);
  write_report(report, logs, run.out);
  run.facts["verdict"] = report["verdict"];
}

}  // namespace attar
