#include "stages/scores.h"

#include <algorithm>
#include <cmath>

#include "base/hash.h"

namespace attar {

std::string examples_hash(const std::vector<TaskExample>& examples) {
  Sha256 hash;
  for (const TaskExample& example : examples) {
    Json row = Json::array({example.prompt, example.label});
    // A classification's label is its answer.
    if (!example.choices.empty()) row.push_back(example.choices);
    else if (!example.accepted.empty()) row.push_back(example.accepted);
    hash.add(to_line(row) + "\n");
  }
  return hash.hex();
}

ExampleScore scored_example(const TaskResult& result, size_t i) {
  ExampleScore out;
  if (!result.likelihoods.empty()) {
    const std::vector<double>& likelihoods = result.likelihoods[i];
    const double most = *std::max_element(likelihoods.begin(), likelihoods.end());
    std::vector<double> shares;
    double sum = 0;
    for (const double l : likelihoods) sum += shares.emplace_back(std::exp(l - most));
    for (double& share : shares) share /= sum;
    out = example_score(shares, result.truth[i]);
  } else {
    // All that is known of a written answer is how sure it is: one thing and everything else, which is no surer where it is likelier.
    const double sure = result.confidence.empty() ? 1 : result.confidence[i];
    out = example_score({1 - sure, sure}, result.truth[i] == result.predicted[i] ? 1 : 0);
    out.max_probability = sure;
    if (sure < 0.5) out.margin = 0, out.entropy = std::log(2.0);
    out.label = result.truth[i];
  }
  out.chosen = result.predicted[i];
  for (const auto& [metric, values] : result.values)
    if (result.kind != "classification") out.values.push_back(values[i]);
  return out;
}

void record_scores(const fs::path& folder, const std::string& artifact, const std::string& model_sha256, const TaskResult& result,
                   const std::vector<TaskExample>& examples) {
  const fs::path place = score_file(folder, result.name, artifact);
  make_folder(place.parent_path());
  ScoreHeader header{artifact, model_sha256, result.name, examples_hash(examples), result.labels, {}, {}};
  // Of a classification accuracy follows from each row.
  for (const auto& [metric, values] : result.values)
    if (result.kind != "classification") header.metrics.push_back(metric);
  header.confident = !result.likelihoods.empty() || !result.confidence.empty();
  ScoreWriter writer(place, header);
  for (size_t i = 0; i < result.truth.size(); ++i) writer.add(scored_example(result, i));
  writer.commit();
}

TaskResult recorded_result(const Scores& scores, const std::string& kind) {
  TaskResult out;
  out.name = scores.header.task, out.kind = kind, out.labels = scores.header.labels;
  for (const ExampleScore& row : scores.rows) out.truth.push_back(row.label), out.predicted.push_back(row.chosen);
  if (scores.header.metrics.empty()) out.values.push_back({"accuracy", scores.correct()});
  for (size_t m = 0; m < scores.header.metrics.size(); ++m) {
    out.values.push_back({scores.header.metrics[m], {}});
    for (const ExampleScore& row : scores.rows) out.values.back().second.push_back(row.values[m]);
  }
  return out;
}

std::vector<Gate> recipe_gates(const Recipe& recipe) {
  std::vector<Gate> out;
  for (const auto& [path, limit] : recipe.gates) {
    const auto swept = recipe.swept.find(path.substr(0, path.find('.')));
    out.push_back({path, limit, swept == recipe.swept.end() ? "" : swept->second.stage});
  }
  return out;
}

const Scores* KeptScores::operator()(const std::string& artifact, const std::string& task) {
  const auto [found, fresh] = read_.try_emplace({artifact, task});
  const fs::path file = score_file(folder_, task, artifact);
  if (fresh && fs::exists(file)) {
    Scores scores = read_scores(file);
    if (scores.header.artifact == artifact) found->second = std::move(scores);
  }
  return found->second ? &*found->second : nullptr;
}

}  // namespace attar
