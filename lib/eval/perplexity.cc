#include "eval/perplexity.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "base/check.h"
#include "base/log.h"
#include "base/signals.h"

namespace attar {

void TokenCalibration::add(const at::Tensor& log_probs, const at::Tensor& targets) {
  const auto [best, chosen] = log_probs.max(1);
  const at::Tensor confidence = best.to(at::kDouble).exp().cpu().contiguous(), right = chosen.eq(targets).to(at::kDouble).cpu().contiguous();
  for (int64_t i = 0; i < confidence.numel(); ++i) add(confidence.data_ptr<double>()[i], right.data_ptr<double>()[i] > 0.5);
}

void TokenCalibration::add(double confidence, bool right) {
  const auto bin = std::min(static_cast<size_t>(confidence * static_cast<double>(count_.size())), count_.size() - 1);
  count_[bin] += 1, confidence_[bin] += confidence, right_[bin] += right ? 1 : 0;
}

double TokenCalibration::error() const {
  double all = 0, apart = 0;
  for (size_t bin = 0; bin < count_.size(); ++bin) all += count_[bin], apart += std::abs(right_[bin] - confidence_[bin]);
  return all > 0 ? apart / all : 0;
}

double PerplexityResult::bits_per_byte() const { return nll * static_cast<double>(tokens) / std::log(2.0) / static_cast<double>(bytes); }

Json PerplexityResult::to_json() const {
  Json out{{"value", value}, {"stderr", error}, {"nll", nll}, {"tokens", tokens}, {"protocol", protocol}, {"ece", ece}};
  if (bytes > 0) out["bytes"] = bytes, out["bits_per_byte"] = bits_per_byte();
  return out;
}

PerplexityResult perplexity_of(const RunningMean& nll, std::string protocol) {
  const MeanError mean = nll.result();
  PerplexityResult out;
  out.nll = mean.mean;
  out.value = std::exp(mean.mean);
  out.error = out.value * mean.error;
  out.tokens = nll.count();
  out.protocol = std::move(protocol);
  return out;
}

PerplexityResult perplexity(const Decoder& model, ScoredPositions& positions) {
  const at::NoGradGuard no_grad;
  RunningMean nll;
  positions.rewind();
  TokenCalibration calibration;
  const int64_t step = slice_rows(model.spec().vocab);
  Progress progress("perplexity", positions.count(), "tokens");
  for (ScoredBatch batch; positions.next(batch);) {
    const at::Tensor hidden = scored_hidden(model, batch);
    for (int64_t begin = 0; begin < hidden.size(0); begin += step) {
      const int64_t end = std::min(begin + step, hidden.size(0));
      for (const ScoredRow& row : score_rows(model.logits(hidden.slice(0, begin, end)), batch.targets.slice(0, begin, end))) {
        if (!std::isfinite(row.nll))
          fail(str("likelihood of scored token ", nll.count()), "a finite number", str(row.nll), "the model's weights are damaged");
        nll.add(row.nll);
        calibration.add(row.confidence, row.right);
      }
    }
    progress.update(nll.count());
    stop_if_asked();
  }
  progress.finish();
  PerplexityResult out = perplexity_of(nll, positions.protocol());
  out.bytes = positions.bytes(), out.ece = calibration.error();
  return out;
}

}  // namespace attar
