#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"

namespace attar {

/// What texts look like to a tokenizer: their lengths, and how far each is from the words of all the others.
struct TextProfile {
  std::string tokenizer;                   ///< its fingerprint; profiles of different ones are not compared
  std::map<int32_t, int64_t> counts;       ///< of every token
  std::vector<double> lengths;             ///< tokens of each text
  std::vector<double> surprisal;           ///< of each text: mean -log share of its tokens among those of the other texts, nats, add-one smoothed
  Json to_json() const;
};
/// Of reference texts: a text is judged by all others, its own tokens taken out, so that it does not look nearer than a new one would.
TextProfile profile_texts(const std::vector<std::vector<int32_t>>& texts, const std::string& tokenizer);
/// Of new texts, judged by the reference's tokens.
TextProfile profile_texts(const std::vector<std::vector<int32_t>>& texts, const TextProfile& reference);
/// Strict; Error names `where`.
TextProfile read_profile(const Json& json, const std::string& where);

/// Largest distance between two samples' distribution functions, and its p-value by Kolmogorov's limit (Smirnov 1948); conservative where values
/// repeat.
struct KolmogorovSmirnov {
  double distance = 0, p = 1;
};
KolmogorovSmirnov kolmogorov_smirnov(std::vector<double> a, std::vector<double> b);

/// Two-sided p-value of Fisher's exact test: `a` of `a_all` against `b` of `b_all`; tables no likelier than the seen one count.
double fisher_exact(int64_t a, int64_t a_all, int64_t b, int64_t b_all);

/// Whether values of one sample tend to lie above those of another, two-sided (Mann and Whitney 1947): normal limit with mid-ranks, corrected for
/// ties and continuity.
struct MannWhitney {
  double delta = 0, p = 1;                 ///< delta: P(a > b) - P(a < b) of a pair drawn; of ones and zeros the difference of the shares
};
MannWhitney mann_whitney(const std::vector<double>& a, const std::vector<double>& b);

/// How right the answers were by one metric of the task, a value an example.
struct DriftScores {
  std::string metric;                      ///< accuracy, exact_match, rouge_l, ...
  std::vector<double> reference, now;      ///< either empty: not compared
  bool less_is_better = false;
};

/// One comparison of new inputs with the reference.
struct DriftTest {
  std::string name;                        ///< length, words, confidence, or the metric
  double reference = 0, now = 0;           ///< medians; of a metric means
  double effect = 0;                       ///< distance of distribution functions; of a metric how much worse it became (MannWhitney::delta)
  double p = 1, adjusted = 1;              ///< adjusted: Holm's, over all tests that were made
  bool drifted = false;
};

struct DriftInputs {
  TextProfile reference, now;
  std::vector<double> reference_confidence, confidence;   ///< empty: not compared
  std::vector<DriftScores> scores;                        ///< of rows that have labels
};

/// Lengths, words and confidence by Kolmogorov-Smirnov; metrics of ones and zeros by Fisher's exact test, others by Mann-Whitney's.
/// A test counts as drift where its adjusted p is below `level` and its effect `threshold` or more: many inputs make any difference sure, not large.
/// Error if profiles are of different tokenizers, or either side has fewer than 20 texts.
std::vector<DriftTest> find_drift(const DriftInputs& inputs, double level, double threshold);

Json drift_json(const std::vector<DriftTest>& tests, double level, double threshold);  ///< {drifted, level, threshold, tests: [...]}

}  // namespace attar
