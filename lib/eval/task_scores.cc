#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "eval/task_eval.h"

namespace attar {

namespace {
constexpr int64_t kBins = 15;
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

/// Mean F1 over the labels that occur or are predicted.
double macro_f1_of(const std::vector<std::vector<int64_t>>& confusion) {
  const std::vector<double> f1 = f1_of(confusion);
  double sum = 0;
  int64_t present = 0;
  for (size_t c = 0; c < f1.size(); ++c) {
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
  std::vector<ReliabilityBin> bins(kBins);
  const int64_t n = static_cast<int64_t>(order.size());
  for (int64_t i = 0; i < n; ++i) {
    const size_t c = static_cast<size_t>(order[static_cast<size_t>(i)]);
    const int64_t bin = equal_mass ? i * kBins / n : std::min(kBins - 1, static_cast<int64_t>(confidence[c] * static_cast<double>(kBins)));
    ReliabilityBin& b = bins[static_cast<size_t>(bin)];
    b.confidence += confidence[c];
    b.accuracy += correct[c];
    ++b.n;
  }
  for (int64_t i = 0; i < kBins; ++i) {
    ReliabilityBin& b = bins[static_cast<size_t>(i)];
    b.low = static_cast<double>(i) / kBins;
    b.high = static_cast<double>(i + 1) / kBins;
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
}  // namespace

std::vector<double> TaskResult::correct() const {
  std::vector<double> out;
  for (size_t i = 0; i < truth.size(); ++i) out.push_back(truth[i] == predicted[i] ? 1 : 0);
  return out;
}

void score_task(TaskResult& r) {
  const size_t n = r.truth.size(), count = r.labels.size();
  check(n > 0 && r.likelihoods.size() == n, "examples of a task", "one at least, each with likelihoods", str(n, " and ", r.likelihoods.size()));
  r.predicted.clear();
  r.confidence.clear();
  std::vector<double> brier, nll;
  for (size_t i = 0; i < n; ++i) {
    for (const double l : r.likelihoods[i])
      if (!std::isfinite(l)) fail(str("likelihoods of example ", i), "finite numbers", str(l), "the model's weights are damaged");
    const std::vector<double> shares = label_shares(r.likelihoods[i]);
    const auto best = std::max_element(r.likelihoods[i].begin(), r.likelihoods[i].end()) - r.likelihoods[i].begin();
    const size_t truth = static_cast<size_t>(r.truth[i]);
    r.predicted.push_back(best);
    r.confidence.push_back(shares[static_cast<size_t>(best)]);
    double squares = 0;
    for (size_t c = 0; c < count; ++c) squares += (shares[c] - (c == truth)) * (shares[c] - (c == truth));
    brier.push_back(squares);
    const double most = r.likelihoods[i][static_cast<size_t>(best)];
    double sum = 0;
    for (const double l : r.likelihoods[i]) sum += std::exp(l - most);
    nll.push_back(most + std::log(sum) - r.likelihoods[i][truth]);
  }
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
  const std::vector<double> correct = r.correct();
  const int64_t cases = static_cast<int64_t>(n);
  r.confusion = confusion_of(all);
  r.f1 = f1_of(r.confusion);
  r.accuracy = proportion(static_cast<int64_t>(std::accumulate(correct.begin(), correct.end(), 0.0)), cases);
  r.macro_f1 = bootstrap(cases, [&](const std::vector<int64_t>& drawn) { return macro_f1_of(confusion_of(drawn)); }, kResamples);
  const auto ece_of = [&](bool equal_mass) {
    return [&, equal_mass](const std::vector<int64_t>& drawn) { return calibration_error(bins_of(r.confidence, correct, drawn, equal_mass)); };
  };
  r.ece = bootstrap(cases, ece_of(false), kResamples);
  r.ece_equal_mass = bootstrap(cases, ece_of(true), kResamples / 4);
  r.ece.low = std::max(r.ece.low, 0.0);
  r.ece_equal_mass.low = std::max(r.ece_equal_mass.low, 0.0);
  r.brier = mean_measure(brier);
  r.label_nll = mean_measure(nll);
  r.reliability = bins_of(r.confidence, correct, all, false);
}

Json TaskResult::to_json() const {
  return Json{{"accuracy", accuracy.to_json()},
              {"macro_f1", macro_f1.to_json()},
              {"ece", ece.to_json()},
              {"ece_equal_mass", ece_equal_mass.to_json()},
              {"brier", brier.to_json()},
              {"label_nll", label_nll.to_json()}};
}

Json TaskResult::details() const {
  Json bins = Json::array();
  for (const auto& bin : reliability)
    bins.push_back(Json{{"low", bin.low}, {"high", bin.high}, {"confidence", bin.confidence}, {"accuracy", bin.accuracy}, {"n", bin.n}});
  Json out = {{"labels", labels}, {"confusion", confusion}, {"f1", f1}, {"reliability", bins}, {"shortened", shortened}};
  if (!priors.empty()) out["priors"] = priors;
  return out;
}

}  // namespace attar
