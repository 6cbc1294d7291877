#include "stages/drift.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "base/check.h"
#include "base/yaml.h"
#include "data/row_reader.h"
#include "decide/drift.h"
#include "decide/gates.h"
#include "decide/scores.h"
#include "decide/weights.h"
#include "eval/task_eval.h"
#include "http/client.h"
#include "spec/task_check.h"
#include "stages/scores.h"
#include "stages/stage.h"

namespace attar {
namespace {

constexpr const char* kDriftFormat = "attar drift reference";
constexpr int64_t kDriftVersion = 1;
constexpr int64_t kFewestLabels = 20;

fs::path task_folder(const fs::path& folder, const std::string& task) {
  return folder / "drift" / score_file(folder, task, "").parent_path().filename();
}

/// Rows of which some lack their right answer.
struct NewRows {
  std::vector<TaskExample> examples;
  std::vector<bool> labelled;
};

NewRows read_new_rows(const fs::path& file, const TaskConfig& task) {
  const TaskRows rows(task);
  NewRows out;
  RecordReader records(file);
  for (Json record; records.next(record);) {
    const auto label = record.find(task.label);
    const bool there = label != record.end() && !label->is_null() && !(label->is_string() && label->get<std::string>().empty());
    // A text's last word is its own right answer.
    out.labelled.push_back(there || task.kind == "next_word");
    out.examples.push_back(rows.example(records, record, out.labelled.back()));
    // What is said of such a row is not looked at, but every answer is held against one.
    if (!out.labelled.back() && task.kind == "extraction") out.examples.back().answer = "{}";
  }
  check(!out.examples.empty(), file.string(), "rows of data", "none");
  return out;
}

/// Whether an extraction's text is JSON, and by the schema, can be said of every row.
bool needs_label(const std::string& metric) { return metric != "valid_json" && metric != "valid_schema"; }

/// Each metric of the examples: those of before, and those of the new rows that can have it.
std::vector<DriftScores> compared_scores(const Scores& reference, const TaskResult& result, const std::vector<bool>& labelled, bool enough) {
  std::vector<DriftScores> out;
  const auto add = [&](const std::string& metric, std::vector<double> before, const std::vector<double>& values) {
    if (needs_label(metric) && !enough) return;
    DriftScores scores{metric, std::move(before), {}, !more_is_better(metric)};
    for (size_t i = 0; i < values.size(); ++i)
      if (labelled[i] || !needs_label(metric)) scores.now.push_back(values[i]);
    out.push_back(std::move(scores));
  };
  if (result.kind == "classification") {
    add("accuracy", reference.correct(), result.correct());
    return out;
  }
  const std::vector<std::string>& kept = reference.header.metrics;
  for (const auto& [metric, values] : result.values) {
    const auto found = std::find(kept.begin(), kept.end(), metric);
    if (found == kept.end()) continue;
    std::vector<double> before;
    for (const ExampleScore& row : reference.rows) before.push_back(row.values[static_cast<size_t>(found - kept.begin())]);
    add(metric, std::move(before), values);
  }
  return out;
}

/// The one score file below a stage's folder that is of this artifact.
Scores kept_scores(const DriftRequest& request) {
  std::vector<std::string> there;
  std::error_code error;
  const fs::path root = request.reference / "scores";
  for (fs::recursive_directory_iterator it(root, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() != ".jsonl") continue;
    Scores scores = read_scores(it->path());
    if (scores.header.artifact == request.artifact) return scores;
    there.push_back(scores.header.artifact);
  }
  check(!there.empty(), request.reference.string(), "an evaluate stage's folder with scores of a task", "none there",
        "name the folder that holds report.json and scores/, or one that attar eval --scores wrote");
  fail("--artifact " + request.artifact, "one of those in " + root.string(), "another", nearest_hint(request.artifact, there));
}

/// Where the model lies: as asked for, else as the report says, relative to the run's folder.
fs::path drift_model(const DriftRequest& request) {
  if (!request.model.empty()) return request.model;
  const fs::path report = request.reference / "report.json";
  check(fs::exists(report), report.string(), "the report that names the model's path", "nothing", "name it: --model");
  const Json all = read_json(report);
  const auto artifacts = all.find("artifacts");
  check(artifacts != all.end() && artifacts->is_object() && artifacts->contains(request.artifact), report.string() + ": " + request.artifact,
        "an artifact of the report", "none of this name");
  const auto written = get<std::string>((*artifacts)[request.artifact], "path", report.string());
  check(!is_http_address(written), "--artifact " + request.artifact, "a model that lies on the disk", "a running server, " + written,
        "name the artifact whose file it runs");
  const fs::path path = written;
  const fs::path found = path.is_absolute() ? path : fs::absolute(report).lexically_normal().parent_path().parent_path() / path;
  check(fs::exists(found), found.string(), "the model that the report names", "nothing", "name it: --model");
  return found;
}

}  // namespace

void record_reference(const fs::path& folder, const TaskConfig& task, const std::vector<TaskExample>& examples, const Tokenizer& tokenizer) {
  const std::string fingerprint = tokenizer.fingerprint();
  const fs::path place = task_folder(folder, task.name) / (fingerprint.substr(0, 16) + ".json");
  if (fs::exists(place)) return;
  make_folder(place.parent_path());
  write_json(place, {{"format", kDriftFormat}, {"version", kDriftVersion}, {"task", write_fields(task)},
                     {"profile", profile_texts(prompts_of(tokenizer, examples), fingerprint).to_json()}});
}

Json measure_drift(const DriftRequest& request) {
  const at::NoGradGuard no_grad;
  const Scores scores = kept_scores(request);
  const fs::path path = model_path(drift_model(request));
  check(weigh_files(path).sha256 == scores.header.model_sha256, path.string(), "the model whose scores were kept as " + request.artifact, "another",
        "evaluate this one first: its confidence differs on the same inputs");
  const Checkpoint model = load_model(path, true);
  const std::string fingerprint = model.tokenizer->fingerprint();
  const fs::path place = task_folder(request.reference, scores.header.task) / (fingerprint.substr(0, 16) + ".json");
  check(fs::exists(place), place.string(), "what the held-out inputs look like to this tokenizer", "nothing", "evaluate again with this attar");
  const Json kept = read_json(place);
  const auto holds = [&kept](const char* key) { return kept.is_object() && kept.contains(key); };
  check(holds("format") && kept["format"] == kDriftFormat && holds("version") && kept["version"] == kDriftVersion && holds("profile")
            && holds("task"), place.string(), str(kDriftFormat, " of version ", kDriftVersion), "another file");
  const auto kept_task = read_fields<TaskConfig>(from_json(kept["task"]), place.string());
  const TaskConfig task = request.task.empty() ? kept_task : load_task(request.task);
  check(task.kind == kept_task.kind && task_method(task) == task_method(kept_task), "task " + task.name,
        "kind and method that " + request.artifact + " was judged by: " + kept_task.kind + ", " + task_method(kept_task),
        task.kind + ", " + task_method(task));
  check(task.kind != "classification" || task.labels == scores.header.labels, "labels of the task",
        "those that " + request.artifact + " was judged by", "others");
  const NewRows rows = read_new_rows(request.data, task);
  TaskOptions options;
  options.shorten = true;
  const TaskResult result = evaluate_task(Decoder(model.spec, model.weights), *model.tokenizer, task, rows.examples, options);
  DriftInputs inputs;
  inputs.reference = read_profile(kept["profile"], place.string());
  inputs.now = profile_texts(prompts_of(*model.tokenizer, rows.examples), inputs.reference);
  inputs.now.tokenizer = fingerprint;
  for (size_t i = 0; i < rows.examples.size(); ++i) inputs.confidence.push_back(scored_example(result, i).max_probability);
  for (const ExampleScore& score : scores.rows) inputs.reference_confidence.push_back(score.max_probability);
  const int64_t labelled = std::count(rows.labelled.begin(), rows.labelled.end(), true);
  inputs.scores = compared_scores(scores, result, rows.labelled, labelled >= kFewestLabels);
  Json out = drift_json(find_drift(inputs, request.level, request.threshold), request.level, request.threshold);
  out["artifact"] = request.artifact, out["task"] = task.name, out["rows"] = rows.examples.size(), out["labelled"] = labelled;
  out["reference_rows"] = scores.rows.size();
  return out;
}

}  // namespace attar
