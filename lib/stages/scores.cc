#include "stages/scores.h"

#include <algorithm>
#include <cmath>

#include "base/hash.h"

namespace attar {

std::string examples_hash(const std::vector<TaskExample>& examples) {
  Sha256 hash;
  for (const TaskExample& example : examples) {
    const std::string line = to_line(Json::array({example.prompt, example.label}));
    hash.add(line + "\n");
  }
  return hash.hex();
}

void record_scores(const fs::path& folder, const std::string& artifact, const std::string& model_sha256, const TaskResult& result,
                   const std::vector<TaskExample>& examples) {
  const fs::path place = score_file(folder, result.name, artifact);
  make_folder(place.parent_path());
  ScoreWriter writer(place, {artifact, model_sha256, result.name, examples_hash(examples), result.labels});
  std::vector<double> shares;
  for (size_t i = 0; i < result.truth.size(); ++i) {
    const std::vector<double>& likelihoods = result.likelihoods[i];
    const double most = *std::max_element(likelihoods.begin(), likelihoods.end());
    double sum = 0;
    shares.clear();
    for (const double l : likelihoods) sum += shares.emplace_back(std::exp(l - most));
    for (double& share : shares) share /= sum;
    ExampleScore score = example_score(shares, result.truth[i]);
    score.chosen = result.predicted[i];
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
