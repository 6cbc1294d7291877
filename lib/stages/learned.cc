#include "stages/learned.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "base/rng.h"
#include "decide/scores.h"
#include "eval/learned_score.h"

namespace attar {

Json add_learned_score(const fs::path& score_file, const Decoder& model, const Tokenizer& tokenizer, const std::vector<TaskExample>& examples,
                       const std::string& config) {
  const bool fit = config == "last" || config == "mean";
  check(fit || fs::is_regular_file(config), "learned_score", "last, mean, none or a router.json", config);
  Scores scores = read_scores(score_file);
  check(scores.rows.size() == examples.size(), score_file.string(), str(examples.size(), " rows"), str(scores.rows.size()));
  LearnedScore learned;
  if (!fit) {
    const Json router = read_json(config);
    check(router.is_object() && router.contains("learned"), config, "a router with a learned score", "another",
          "make one: attar route --score learned");
    learned = LearnedScore::from_json(router["learned"], config + ": learned");
  }
  std::vector<std::vector<int32_t>> prompts;
  for (const TaskExample& example : examples) prompts.push_back(prompt_ids(example.prompt, tokenizer));
  const at::Tensor states = prompt_states(model, prompts, fit ? config : learned.of);
  if (fit) {
    constexpr int64_t kLeastRows = 80;
    const auto n = static_cast<int64_t>(scores.rows.size());
    check(n >= kLeastRows, "test rows for learned_score", str(kLeastRows, " at least"), str(n), "leave learned_score out, or give more rows");
    const auto order = permutation(n, 0, stream_of("rows of a learned score"));
    std::vector<double> correct;
    const std::vector<int64_t> chosen(order.begin(), order.begin() + n / 4);
    for (const int64_t row : chosen) {
      ExampleScore& score = scores.rows[static_cast<size_t>(row)];
      score.fitted = true;
      correct.push_back(score.correct() ? 1 : 0);
    }
    learned = fit_learned_score(states.index_select(0, at::tensor(chosen, at::kLong)), correct, config);
  }
  const std::vector<double> shares = learned_scores(learned, states);
  scores.header.learned = learned.to_json();
  ScoreWriter writer(score_file, scores.header);
  for (size_t i = 0; i < shares.size(); ++i) {
    scores.rows[i].learned = shares[i];
    writer.add(scores.rows[i]);
  }
  writer.commit();
  Json out = scores.header.learned;
  out.erase("weights");
  out.erase("bias");
  return out;
}

}  // namespace attar
