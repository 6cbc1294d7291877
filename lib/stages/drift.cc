#include "stages/drift.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "base/check.h"
#include "base/yaml.h"
#include "data/row_reader.h"
#include "decide/drift.h"
#include "decide/scores.h"
#include "decide/weights.h"
#include "eval/task_eval.h"
#include "stages/stage.h"

namespace attar {
namespace {

constexpr const char* kDriftFormat = "attar drift reference";
constexpr int64_t kDriftVersion = 1;
constexpr size_t kFewestLabels = 20;

fs::path task_folder(const fs::path& folder, const std::string& task) {
  return folder / "drift" / score_file(folder, task, "").parent_path().filename();
}

std::vector<std::vector<int32_t>> input_ids(const std::vector<TaskExample>& examples, const Tokenizer& tokenizer) {
  std::vector<std::vector<int32_t>> out;
  for (const TaskExample& example : examples) out.push_back(prompt_ids(example.prompt, tokenizer));
  return out;
}

/// Rows that may lack a label: -1 where they do.
std::vector<TaskExample> read_new_rows(const fs::path& file, const TaskConfig& task) {
  const TaskRows rows(task);
  std::vector<TaskExample> out;
  RecordReader records(file);
  for (Json record; records.next(record);) {
    const auto label = record.find(task.label);
    const bool labelled = label != record.end() && !label->is_null() && !(label->is_string() && label->get<std::string>().empty());
    out.push_back(rows.example(records, record, labelled));
    if (!labelled) out.back().label = -1;
  }
  check(!out.empty(), file.string(), "rows of data", "none");
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
  const fs::path path = get<std::string>((*artifacts)[request.artifact], "path", report.string());
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
                     {"profile", profile_texts(input_ids(examples, tokenizer), fingerprint).to_json()}});
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
  TaskConfig task = request.task.empty() ? read_fields<TaskConfig>(from_json(kept["task"]), place.string()) : load_task(request.task);
  check(task.kind == "classification", "attar drift", "a classification, whose labels have probabilities",
        "task " + task.name + " of kind " + task.kind);
  check(task.labels == scores.header.labels, "labels of the task", "those that " + request.artifact + " was judged by", "others");
  const std::vector<TaskExample> rows = read_new_rows(request.data, task);
  std::vector<TaskExample> judged = rows;
  for (TaskExample& row : judged) row.label = std::max<int64_t>(row.label, 0);  // confidence and choice do not depend on the truth
  TaskOptions options;
  options.shorten = true;
  const TaskResult result = evaluate_task(Decoder(model.spec, model.weights), *model.tokenizer, task, judged, options);
  DriftInputs inputs;
  inputs.reference = read_profile(kept["profile"], place.string());
  inputs.now = profile_texts(input_ids(rows, *model.tokenizer), inputs.reference);
  inputs.now.tokenizer = fingerprint;
  inputs.confidence = result.confidence;
  for (const ExampleScore& score : scores.rows) inputs.reference_confidence.push_back(score.max_probability);
  for (size_t i = 0; i < rows.size(); ++i)
    if (rows[i].label >= 0) inputs.correct.push_back(rows[i].label == result.predicted[i] ? 1 : 0);
  const size_t labelled = inputs.correct.size();
  if (labelled >= kFewestLabels) inputs.reference_correct = scores.correct();
  Json out = drift_json(find_drift(inputs, request.level, request.threshold), request.level, request.threshold);
  out["artifact"] = request.artifact, out["task"] = task.name, out["rows"] = rows.size(), out["labelled"] = labelled;
  out["reference_rows"] = scores.rows.size();
  return out;
}

}  // namespace attar
