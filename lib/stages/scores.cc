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

void record_scores(const fs::path& folder, const std::string& artifact, const std::string& model_sha256, const TaskResult& result,
                   const std::vector<TaskExample>& examples) {
  const fs::path place = score_file(folder, result.name, artifact);
  make_folder(place.parent_path());
  ScoreHeader header{artifact, model_sha256, result.name, examples_hash(examples), result.labels, {}, {}};
  // Of a classification accuracy follows from each row.
  for (const auto& [metric, values] : result.values)
    if (result.kind != "classification") header.metrics.push_back(metric);
  ScoreWriter writer(place, header);
  std::vector<double> shares;
  for (size_t i = 0; i < result.truth.size(); ++i) {
    ExampleScore score;
    if (!result.likelihoods.empty()) {
      const std::vector<double>& likelihoods = result.likelihoods[i];
      const double most = *std::max_element(likelihoods.begin(), likelihoods.end());
      double sum = 0;
      shares.clear();
      for (const double l : likelihoods) sum += shares.emplace_back(std::exp(l - most));
      for (double& share : shares) share /= sum;
      score = example_score(shares, result.truth[i]);
    } else {
      // All that is known of a written answer is how sure its tokens are: one thing and everything else.
      score = example_score({1 - result.confidence[i], result.confidence[i]}, result.truth[i] == result.predicted[i] ? 1 : 0);
      score.max_probability = result.confidence[i];
      score.label = result.truth[i];
    }
    score.chosen = result.predicted[i];
    for (const auto& [metric, values] : result.values)
      if (result.kind != "classification") score.values.push_back(values[i]);
    writer.add(score);
  }
  writer.commit();
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
