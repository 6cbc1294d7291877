#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/signals.h"
#include "data/row_reader.h"
#include "data/task.h"
#include "device/device.h"
#include "eval/fidelity.h"
#include "eval/latency.h"
#include "eval/perplexity.h"
#include "eval/statistics.h"
#include "eval/task_eval.h"
#include "formats/text_lines.h"
#include "report/report.h"
#include "report/run_log.h"
#include "stages/evaluate.h"
#include "stages/run.h"

namespace attar {
namespace {

/// Bytes of the files that hold weights, and their hash: of the one file of an export, else of all in order.
void weigh(const fs::path& path, Json& out) {
  std::vector<fs::path> files;
  if (!fs::is_directory(path)) {
    files = {path};
  } else {
    for (const auto& entry : fs::directory_iterator(path)) {
      const std::string name = entry.path().filename().string();
      if (entry.is_regular_file() && (name.ends_with(".safetensors") || name.ends_with(".gguf") || name.ends_with(".onnx") || name.ends_with(".onnx.data")))
        if (name != "codes.safetensors" && name != "statistics.safetensors") files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
  }
  uint64_t bytes = 0;
  Sha256 all;
  for (const fs::path& file : files) bytes += fs::file_size(file), all.add(sha256_file(file));
  out["bytes"] = bytes;
  out["sha256"] = files.size() == 1 ? sha256_file(files[0]) : all.hex();
}

/// The held-out rows of the task as one text, each prompt followed by its right answer: what perplexity reads when no text is named.
std::string task_text(const TaskConfig& task, const std::vector<TaskExample>& examples) {
  const auto answers = task_answers(task);
  std::string text;
  for (const TaskExample& example : examples) text += example.prompt + answers[static_cast<size_t>(example.label)] + "\n";
  return text;
}

/// A .txt file as it is; of rows the texts, one after another.
std::string plain_text(const fs::path& file) {
  if (text_ending(file) != ".jsonl" && text_ending(file) != ".csv") return read_file(file);
  RecordReader rows(file);
  std::string text;
  for (Json row; rows.next(row);) text += rows.text(row, "text") + "\n";
  return text;
}

}  // namespace

Evaluation::Evaluation(EvaluationInputs inputs) : inputs_(std::move(inputs)) {
  if (inputs_.task) examples_ = read_task(inputs_.task->test, *inputs_.task, inputs_.task_rows);
  if (inputs_.base) base_ = load_model(*inputs_.base, true);
}

std::unique_ptr<ScoredPositions> Evaluation::positions(const Checkpoint& model, std::string& source) {
  const bool own = !inputs_.text;
  if (own && !inputs_.task) return nullptr;
  // All held-out rows, whatever number of them the task is judged on: text_tokens limits the text.
  const std::string text = own ? task_text(*inputs_.task, read_task(inputs_.task->test, *inputs_.task)) : plain_text(*inputs_.text);
  source = own ? "the task's held-out rows" : inputs_.text->filename().string();
  auto ids = text_ids(text, *model.tokenizer);
  int64_t ctx = std::min(inputs_.ctx, model.spec.context);
  if (base_) ctx = std::min(ctx, base_->spec.context);
  const auto bos = chunk_bos(*model.tokenizer);
  if (inputs_.stride > 0) return window_positions(std::move(ids), bos, ctx, inputs_.stride, inputs_.text_tokens, model.tokenizer.get());
  return chunk_positions(std::move(ids), bos, ctx, inputs_.text_tokens, model.tokenizer.get());
}

Json Evaluation::measure(const fs::path& artifact, const std::string& label) {
  at::NoGradGuard no_grad;
  const fs::path path = model_path(artifact);
  Json out = Json::object();
  out["path"] = path.string();
  weigh(path, out);
  reset_peak_rss();
  const int64_t before = current_rss_bytes();
  Checkpoint model = load_model(path, true);
  const int64_t parameters = parameter_count(model.spec);
  out["parameters"] = parameters;
  out["bits_per_weight"] = 8.0 * out["bytes"].get<double>() / static_cast<double>(parameters);
  const Decoder decoder(model.spec, model.weights);
  std::string source;
  const auto scored = positions(model, source);
  if (scored && base_) {
    check(model.tokenizer->fingerprint() == base_->tokenizer->fingerprint(), label, "the base's tokenizer", "another", "KL needs the same tokens");
    const Decoder base(base_->spec, base_->weights);
    const FidelityResult fidelity_result = fidelity(base, decoder, *scored);
    out["perplexity"] = fidelity_result.model.to_json();
    out["kld"] = fidelity_result.kld_json();
    out["top1_agreement"] = fidelity_result.top1_json();
    out["rms_delta_p"] = fidelity_result.rms_delta_p;
  } else if (scored) {
    out["perplexity"] = perplexity(decoder, *scored).to_json();
  }
  if (scored) out["text"] = source;
  stop_if_asked();
  if (inputs_.task) {
    const TaskResult result = evaluate_task(decoder, *model.tokenizer, *inputs_.task, examples_);
    out["tasks"][inputs_.task->name] = result.to_json();
    out["task_details"][inputs_.task->name] = result.details();
    correct_[label] = result.correct();
    if (result.shortened > 0) out["notes"].push_back(str(result.shortened, " prompts were longer than the context and lost their beginning"));
  }
  if (inputs_.latency) {
    LatencyOptions options;
    options.prompt_tokens = 32, options.new_tokens = 16, options.runs = 5, options.warm_up = 1;
    out["latency"] = measure_latency(decoder, options).to_json();
  }
  out["memory"] = {{"peak_rss_bytes", peak_rss_bytes()}, {"rss_before_bytes", before}};
  out["energy"] = "not measured";
  return out;
}

Json Evaluation::compare(const std::string& label, const std::string& base) const {
  const auto a = correct_.find(label), b = correct_.find(base);
  if (a == correct_.end() || b == correct_.end() || label == base) return Json();
  int64_t only_a = 0, only_b = 0;
  for (size_t i = 0; i < a->second.size(); ++i) {
    only_a += a->second[i] > b->second[i];
    only_b += a->second[i] < b->second[i];
  }
  const PairedDifference difference = paired_bootstrap(a->second, b->second, 2000);
  return {{"against", base}, {"accuracy_difference", difference.difference.to_json()}, {"mcnemar_p", mcnemar_exact(only_a, only_b)}};
}

void run_evaluate(StageRun& run, const EvaluateConfig& config) {
  EvaluationInputs inputs;
  if (run.task) inputs.task = complete_task(*run.task, run.base);
  if (const fs::path* text = run.input("text")) inputs.text = *text;
  if (const fs::path* base = run.input("base")) inputs.base = *base;
  inputs.ctx = config.ctx, inputs.stride = config.stride, inputs.text_tokens = config.text_tokens, inputs.task_rows = config.task_rows, inputs.latency = config.latency;
  check(inputs.text || inputs.task, "evaluate", "a text or a task", "neither");
  Evaluation evaluation(std::move(inputs));
  Json artifacts = Json::object(), lineage = Json::object();
  const fs::path done = run.work / "artifacts.json";
  if (fs::exists(done)) artifacts = read_json(done);
  for (size_t i = 0; i < config.of.size(); ++i) {
    const std::string& id = config.of[i];
    const fs::path path = run.inputs.at(str("of[", i, "]"));
    if (!artifacts.contains(id)) {
      log_info(str(run.label, ": measuring ", id, " (", i + 1, " of ", config.of.size(), ")"));
      Json measured = evaluation.measure(path, id);
      const fs::path relative = fs::path(measured["path"].get<std::string>()).lexically_normal().lexically_relative(run.run_folder.lexically_normal());
      if (!run.run_folder.empty() && !relative.empty() && *relative.begin() != "..") measured["path"] = relative.string();
      Json entry = {{"stage", id}};
      entry.update(measured);
      if (const Json compared = evaluation.compare(id, config.base); !compared.is_null()) entry["comparison"] = compared;
      artifacts[id] = std::move(entry);
      write_json(done, artifacts);
      stop_if_asked();
    }
  }
  bool passed = true;
  Json gates = run.recipe ? judge_gates(*run.recipe, artifacts, passed) : Json::array();
  const MachineFacts machine = machine_facts();
  Json report = {{"verdict", gates.empty() ? "no gates" : passed ? "pass" : "fail"}, {"name", run.recipe ? run.recipe->name : run.id},
                 {"base", config.base}, {"artifacts", artifacts}, {"gates", gates},
                 {"environment", {{"cpu", machine.cpu}, {"cores", machine.cores}, {"memory_bytes", machine.memory}, {"gpu", machine.gpu}, {"libtorch", machine.libtorch},
                                  {"compiler", machine.compiler}, {"system", machine.system}, {"threads", thread_count()}, {"attar", ATTAR_VERSION}}},
                 {"recipe", run.recipe ? run.recipe->effective : Json()}, {"license", run.license}, {"base_model", run.base_model}};
  std::map<std::string, std::vector<Json>> logs;
  if (run.recipe) {
    for (const Stage& stage : run.recipe->stages) {
      if (stage.kind == "evaluate") continue;
      const Manifest manifest = read_manifest(run.run_folder / stage.id);
      Json facts = manifest.facts;
      facts.erase("cache");
      lineage[stage.id] = {{"kind", stage.kind}, {"key", manifest.key}, {"inputs", manifest.inputs}, {"outputs", manifest.outputs}, {"facts", facts}, {"seconds", manifest.seconds}};
      const fs::path log = run.run_folder / stage.id / "log.jsonl";
      if (fs::exists(log)) logs[stage.id] = read_run_log(log);
    }
  }
  report["lineage"] = std::move(lineage);
  write_report(report, logs, run.out);
  run.facts["verdict"] = report["verdict"];
}

}  // namespace attar
