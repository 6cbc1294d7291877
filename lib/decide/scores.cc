#include "decide/scores.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/hash.h"
#include "formats/text_lines.h"

namespace attar {
namespace {

constexpr const char* kScoreFormat = "attar scores";
constexpr int64_t kScoreVersion = 1;
constexpr const char* kNoConfidence = "not given";

double share_of(const Json& row, const char* key, const std::string& place, double most) {
  const double value = get<double>(row, key, place);
  if (!(value >= 0 && value <= most)) fail(place + ": " + key, str("0 to ", most), str(value));
  return value;
}

std::string file_word(const std::string& text) {
  std::string out;
  for (const char c : text)
    out += (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' ? c : '-';
  return out.empty() || out[0] == '.' ? "-" + out : out;
}

}  // namespace

ExampleScore example_score(const std::vector<double>& probabilities, int64_t label) {
  check(!probabilities.empty(), "probabilities of labels", "one at least", "none");
  ExampleScore out;
  out.label = label;
  double second = 0;
  out.max_probability = -1;
  for (size_t i = 0; i < probabilities.size(); ++i) {
    const double p = probabilities[i];
    if (p > out.max_probability) {
      second = std::max(out.max_probability, 0.0);
      out.max_probability = p;
      out.chosen = static_cast<int64_t>(i);
    } else {
      second = std::max(second, p);
    }
    if (p > 0) out.entropy -= p * std::log(p);
    const double truth = static_cast<int64_t>(i) == label ? 1 : 0;
    out.brier += (p - truth) * (p - truth);
  }
  out.max_probability = std::min(out.max_probability, 1.0);
  out.margin = std::max(0.0, out.max_probability - second);
  out.entropy = std::max(out.entropy, 0.0);
  if (label >= 0) out.label_probability = std::min(probabilities.at(static_cast<size_t>(label)), 1.0);
  return out;
}

std::vector<double> Scores::correct() const {
  std::vector<double> out;
  out.reserve(rows.size());
  for (const ExampleScore& row : rows) out.push_back(row.correct() ? 1 : 0);
  return out;
}

ScoreWriter::ScoreWriter(const fs::path& place, const ScoreHeader& header)
    : file_(place), learned_(!header.learned.is_null()), valued_(!header.metrics.empty()) {
  Json head = {{"format", kScoreFormat}, {"version", kScoreVersion}, {"artifact", header.artifact}, {"model_sha256", header.model_sha256},
                           {"task", header.task}, {"examples_sha256", header.examples_sha256}, {"labels", header.labels}};
  if (valued_) head["metrics"] = header.metrics;
  if (learned_) head["learned"] = header.learned;
  if (!header.confident) head["confidence"] = kNoConfidence;
  file_.write(to_line(head) + "\n");
}

void ScoreWriter::add(const ExampleScore& s) {
  Json row = {{"i", rows_++}, {"label", s.label}, {"chosen", s.chosen}, {"correct", s.correct()}, {"max_probability", s.max_probability},
                           {"margin", s.margin}, {"entropy", s.entropy}, {"label_probability", s.label_probability}, {"brier", s.brier}};
  if (valued_) row["values"] = s.values;
  if (learned_) row["learned"] = s.learned, row["fitted"] = s.fitted;
  file_.write(to_line(row) + "\n");
}

void ScoreWriter::commit() { file_.commit(); }

Scores read_scores(const fs::path& file) {
  const std::string name = file.string();
  check(fs::is_regular_file(file), name, "a score file that an evaluate stage wrote", "nothing", "run the evaluate stage again");
  LineReader lines(file);
  std::string line;
  check(lines.next(line), name, "a header line", "an empty file");
  const Json head = parse_json(line, name + ":1");
  check(head.is_object() && head.value("format", "") == kScoreFormat, name + ":1", "a score file's header", line.substr(0, 60));
  const int64_t version = get<int64_t>(head, "version", name);
  check(version == kScoreVersion, name, str("version ", kScoreVersion), str(version), "evaluate again with this attar");
  Scores out;
  out.header = {get<std::string>(head, "artifact", name), get<std::string>(head, "model_sha256", name), get<std::string>(head, "task", name),
                get<std::string>(head, "examples_sha256", name), get<std::vector<std::string>>(head, "labels", name)};
  if (head.contains("metrics")) out.header.metrics = get<std::vector<std::string>>(head, "metrics", name);
  if (head.contains("learned")) {
    out.header.learned = head["learned"];
    check(out.header.learned.is_object(), name + ":1: learned", "a learned score", to_line(out.header.learned).substr(0, 60));
  }
  if (head.contains("confidence")) {
    check(head["confidence"] == kNoConfidence, name + ":1: confidence", str("absent, or '", kNoConfidence, "'"),
          to_line(head["confidence"]).substr(0, 60));
    out.header.confident = false;
  }
  const int64_t labels = static_cast<int64_t>(out.header.labels.size());
  check(labels > 0, name + ":1", "labels", "none");
  while (lines.next(line)) {
    const int64_t number = static_cast<int64_t>(out.rows.size());
    const std::string place = str(name, ":", number + 2);
    const Json row = parse_json(line, place);
    check(row.is_object(), place, "an object", line.substr(0, 60));
    if (const int64_t i = get<int64_t>(row, "i", place); i != number) fail(place + ": i", str(number), str(i), "lines are missing or doubled");
    ExampleScore s;
    s.label = get<int64_t>(row, "label", place), s.chosen = get<int64_t>(row, "chosen", place);
    for (const int64_t id : {s.label, s.chosen})
      if (id < 0 || id >= labels) fail(place, str("labels 0 to ", labels - 1), str(id));
    s.max_probability = share_of(row, "max_probability", place, 1);
    s.margin = share_of(row, "margin", place, 1);
    s.entropy = share_of(row, "entropy", place, std::log(static_cast<double>(labels)) + 1e-6);
    s.label_probability = share_of(row, "label_probability", place, 1);
    s.brier = share_of(row, "brier", place, 2 + 1e-9);
    if (!out.header.learned.is_null()) s.learned = share_of(row, "learned", place, 1), s.fitted = get<bool>(row, "fitted", place);
    if (!out.header.metrics.empty()) s.values = get<std::vector<double>>(row, "values", place);
    check(s.values.size() == out.header.metrics.size(), place + ": values", str(out.header.metrics.size()), str(s.values.size()));
    out.rows.push_back(std::move(s));
  }
  check(!out.rows.empty(), name, "examples", "none");
  out.file_sha256 = sha256_file(file);
  return out;
}

void check_paired(const Scores& a, const Scores& b) {
  check(a.header.task == b.header.task, "scores of " + b.header.artifact, "task " + a.header.task, b.header.task);
  check(a.header.examples_sha256 == b.header.examples_sha256 && a.rows.size() == b.rows.size(), "scores of " + b.header.artifact,
        str("the ", a.rows.size(), " examples that ", a.header.artifact, " was judged on"), str(b.rows.size(), " others"),
        "evaluate both in one stage, on the same rows");
}

fs::path score_file(const fs::path& stage_folder, const std::string& task, const std::string& artifact) {
  return stage_folder / "scores" / file_word(task) / (file_word(artifact) + ".jsonl");
}

}  // namespace attar
