#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "base/check.h"
#include "eval/task_scores.h"

namespace attar {

namespace {
constexpr int64_t kReliabilityBins = 15;
constexpr int64_t kResamples = 1000;

/// Shares of the labels by their likelihoods (softmax).
std::vector<double> label_shares(const std::vector<double>& likelihoods) {
  const double most = *std::max_element(likelihoods.begin(), likelihoods.end());
  std::vector<double> out;
  double sum = 0;
  for (const double l : likelihoods) sum += out.emplace_back(std::exp(l - most));
  for (double& share : out) share /= sum;
  return out;
}

std::vector<double> f1_of(const std::vector<std::vector<int64_t>>& confusion) {
  const size_t count = confusion.size();
  std::vector<double> out(count, 0);
  for (size_t c = 0; c < count; ++c) {
    int64_t truth = 0, predicted = 0;
    for (size_t other = 0; other < count; ++other) {
      truth += confusion[c][other];
      predicted += confusion[other][c];
    }
    if (truth + predicted > 0) out[c] = 2.0 * static_cast<double>(confusion[c][c]) / static_cast<double>(truth + predicted);
  }
  return out;
}

/// Mean F1 over those of the first `labels` labels that occur or are predicted.
double macro_f1_of(const std::vector<std::vector<int64_t>>& confusion, size_t labels) {
  const std::vector<double> f1 = f1_of(confusion);
  double sum = 0;
  int64_t present = 0;
  for (size_t c = 0; c < labels; ++c) {
    int64_t seen = 0;
    for (size_t other = 0; other < f1.size(); ++other) seen += confusion[c][other] + confusion[other][c];
    sum += f1[c];
    present += seen > 0;
  }
  return present ? sum / static_cast<double>(present) : 0;
}

/// Bins of consecutive cases after sorting by confidence, as near equal in size as can be.
std::vector<ReliabilityBin> bins_of(const std::vector<double>& confidence, const std::vector<double>& correct, const std::vector<int64_t>& cases,
                                    bool equal_mass) {
  std::vector<int64_t> order = cases;
  if (equal_mass)
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return confidence[static_cast<size_t>(a)] < confidence[static_cast<size_t>(b)]; });
  std::vector<ReliabilityBin> bins(kReliabilityBins);
  const int64_t n = static_cast<int64_t>(order.size());
  for (int64_t i = 0; i < n; ++i) {
    const size_t c = static_cast<size_t>(order[static_cast<size_t>(i)]);
    const auto by_width = [&] { return std::min(kReliabilityBins - 1, static_cast<int64_t>(confidence[c] * static_cast<double>(kReliabilityBins))); };
    const int64_t bin = equal_mass ? i * kReliabilityBins / n : by_width();
    ReliabilityBin& b = bins[static_cast<size_t>(bin)];
    b.confidence += confidence[c];
    b.accuracy += correct[c];
    ++b.n;
  }
  for (int64_t i = 0; i < kReliabilityBins; ++i) {
    ReliabilityBin& b = bins[static_cast<size_t>(i)];
    b.low = static_cast<double>(i) / kReliabilityBins;
    b.high = static_cast<double>(i + 1) / kReliabilityBins;
    if (b.n == 0) continue;
    b.confidence /= static_cast<double>(b.n);
    b.accuracy /= static_cast<double>(b.n);
  }
  return bins;
}

double calibration_error(const std::vector<ReliabilityBin>& bins) {
  double sum = 0, n = 0;
  for (const auto& bin : bins) {
    sum += static_cast<double>(bin.n) * std::abs(bin.accuracy - bin.confidence);
    n += static_cast<double>(bin.n);
  }
  return n > 0 ? sum / n : 0;
}

Measure mean_measure(const std::vector<double>& values) {
  const MeanError mean = mean_and_error(values);
  const double half = 1.959963984540054 * mean.error;
  return {mean.mean, mean.mean - half, mean.mean + half, static_cast<int64_t>(values.size())};
}
/// What is known of a classification from the labels' likelihoods: confidence, calibration, Brier score.
void score_shares(TaskResult& r, bool choose) {
  const size_t n = r.truth.size(), count = r.labels.size();
  check(r.likelihoods.size() == n, "examples of a task", "each with likelihoods", str(n, " and ", r.likelihoods.size()));
  std::vector<double> brier, nll;
  r.confidence.clear();
  for (size_t i = 0; i < n; ++i) {
    for (const double l : r.likelihoods[i])
      if (!std::isfinite(l)) fail(str("likelihoods of example ", i), "finite numbers", str(l), "the model's weights are damaged");
    const std::vector<double> shares = label_shares(r.likelihoods[i]);
    const auto best = std::max_element(r.likelihoods[i].begin(), r.likelihoods[i].end()) - r.likelihoods[i].begin();
    const size_t truth = static_cast<size_t>(r.truth[i]);
    if (choose) r.predicted.push_back(best);
    r.confidence.push_back(shares[static_cast<size_t>(r.predicted[i])]);
    double squares = 0;
    for (size_t c = 0; c < count; ++c) squares += (shares[c] - (c == truth)) * (shares[c] - (c == truth));
    brier.push_back(squares);
    const double most = r.likelihoods[i][static_cast<size_t>(best)];
    double sum = 0;
    for (const double l : r.likelihoods[i]) sum += std::exp(l - most);
    nll.push_back(most + std::log(sum) - r.likelihoods[i][truth]);
  }
  r.brier = mean_measure(brier);
  r.label_nll = mean_measure(nll);
}

void score_calibration(TaskResult& r, const std::vector<double>& correct) {
  const int64_t cases = static_cast<int64_t>(correct.size());
  const auto ece_of = [&](bool equal_mass) {
    return [&, equal_mass](const std::vector<int64_t>& drawn) { return calibration_error(bins_of(r.confidence, correct, drawn, equal_mass)); };
  };
  r.ece = bootstrap(cases, ece_of(false), kResamples);
  r.ece_equal_mass = bootstrap(cases, ece_of(true), kResamples / 4);
  r.ece.low = std::max(r.ece.low, 0.0);
  r.ece_equal_mass.low = std::max(r.ece_equal_mass.low, 0.0);
  std::vector<int64_t> all(correct.size());
  std::iota(all.begin(), all.end(), 0);
  r.reliability = bins_of(r.confidence, correct, all, false);
}
}  // namespace

void score_classes(TaskResult& r) {
  const size_t n = r.truth.size(), count = r.labels.size();
  check(n > 0, "examples of a task", "one at least", "none");
  const bool shares = !r.likelihoods.empty();
  if (shares) score_shares(r, r.predicted.empty());
  check(r.predicted.size() == n, "answers of a task", str(n), str(r.predicted.size()));
  std::vector<double> correct;
  for (size_t i = 0; i < n; ++i) correct.push_back(r.truth[i] == r.predicted[i] ? 1 : 0);
  const auto confusion_of = [&](const std::vector<int64_t>& cases) {
    std::vector<std::vector<int64_t>> out(count, std::vector<int64_t>(count, 0));
    for (const int64_t drawn : cases) {
      const size_t c = static_cast<size_t>(drawn);
      ++out[static_cast<size_t>(r.truth[c])][static_cast<size_t>(r.predicted[c])];
    }
    return out;
  };
  std::vector<int64_t> all(n);
  std::iota(all.begin(), all.end(), 0);
  r.confusion = confusion_of(all);
  r.f1 = f1_of(r.confusion);
  const bool unmatched = r.labels.back() == kNoLabel;
  add_share(r, "accuracy", correct);
  r.accuracy = r.measures.back().second;
  if (std::set<int64_t>(r.truth.begin(), r.truth.end()).size() > 1) {
    r.macro_f1 = bootstrap(
        static_cast<int64_t>(n), [&](const std::vector<int64_t>& drawn) { return macro_f1_of(confusion_of(drawn), count - (unmatched ? 1 : 0)); },
        kResamples);
    r.measures.push_back({"macro_f1", r.macro_f1});
  } else {
    r.notes.push_back(str("macro_f1 is left out: all ", n, " rows of the test set have the label '", r.labels[static_cast<size_t>(r.truth[0])],
                          "', and accuracy is the recall of that label alone"));
  }
  if (!shares) return score_confidence(r, correct);
  score_calibration(r, correct);
  r.measures.push_back({"ece", r.ece});
  r.measures.push_back({"ece_equal_mass", r.ece_equal_mass});
  r.measures.push_back({"brier", r.brier});
  r.measures.push_back({"label_nll", r.label_nll});
}

void score_confidence(TaskResult& r, const std::vector<double>& right) {
  if (r.confidence.empty()) return;
  score_calibration(r, right);
  r.measures.push_back({"ece", r.ece});
  r.measures.push_back({"ece_equal_mass", r.ece_equal_mass});
  std::vector<double> squares;
  for (size_t i = 0; i < right.size(); ++i) squares.push_back((r.confidence[i] - right[i]) * (r.confidence[i] - right[i]));
  r.measures.push_back({"answer_brier", mean_measure(squares)});
}

void add_share(TaskResult& result, const std::string& metric, std::vector<double> values) {
  const int64_t ones = std::count(values.begin(), values.end(), 1.0);
  result.measures.push_back({metric, proportion(ones, static_cast<int64_t>(values.size()))});
  result.values.push_back({metric, std::move(values)});
}

void add_mean(TaskResult& result, const std::string& metric, std::vector<double> values) {
  const auto mean = [&values](const std::vector<int64_t>& drawn) {
    double sum = 0;
    for (const int64_t c : drawn) sum += values[static_cast<size_t>(c)];
    return sum / static_cast<double>(drawn.size());
  };
  result.measures.push_back({metric, bootstrap(static_cast<int64_t>(values.size()), mean, kResamples)});
  result.values.push_back({metric, std::move(values)});
}

Json TaskResult::to_json() const {
  Json out = Json::object();
  for (const auto& [name, measure] : measures)
    if (name == metric) out[name] = measure.to_json();
  for (const auto& [name, measure] : measures) out[name] = measure.to_json();
  return out;
}

Json TaskResult::details() const {
  Json out = {{"kind", kind}, {"method", method}};
  if (!confusion.empty()) out["labels"] = labels, out["confusion"] = confusion, out["f1"] = f1;
  if (!reliability.empty()) {
    Json bins = Json::array();
    for (const auto& bin : reliability)
      bins.push_back(Json{{"low", bin.low}, {"high", bin.high}, {"confidence", bin.confidence}, {"accuracy", bin.accuracy}, {"n", bin.n}});
    out["reliability"] = std::move(bins);
  }
  out.update(more);
  out["shortened"] = shortened;
  if (!priors.empty()) out["priors"] = priors;
  return out;
}

}  // namespace attar
