#include "eval/perplexity.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "base/check.h"
#include "base/log.h"
#include "base/signals.h"
#include "eval/statistics.h"

namespace attar {

void TokenCalibration::add(const at::Tensor& log_probs, const at::Tensor& targets) {
  const auto [best, chosen] = log_probs.max(1);
  const at::Tensor confidence = best.to(at::kDouble).exp().cpu().contiguous(), right = chosen.eq(targets).to(at::kDouble).cpu().contiguous();
  for (int64_t i = 0; i < confidence.numel(); ++i) {
    const double p = confidence.data_ptr<double>()[i];
    const auto bin = std::min(static_cast<size_t>(p * static_cast<double>(count_.size())), count_.size() - 1);
    count_[bin] += 1, confidence_[bin] += p, right_[bin] += right.data_ptr<double>()[i];
  }
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

PerplexityResult perplexity_of(const std::vector<double>& nll, std::string protocol) {
  const MeanError mean = mean_and_error(nll);
  PerplexityResult out;
  out.nll = mean.mean;
  out.value = std::exp(mean.mean);
  out.error = out.value * mean.error;
  out.tokens = static_cast<int64_t>(nll.size());
  out.protocol = std::move(protocol);
  return out;
}

PerplexityResult perplexity(const Decoder& model, ScoredPositions& positions) {
  const at::NoGradGuard no_grad;
  std::vector<double> nll;
  nll.reserve(static_cast<size_t>(positions.count()));
  positions.rewind();
  TokenCalibration calibration;
  Progress progress("perplexity", positions.count(), "tokens");
  for (ScoredBatch batch; positions.next(batch);) {
    const at::Tensor hidden = scored_hidden(model, batch);
    const int64_t count = hidden.size(0), step = slice_rows(model.spec().vocab);
    for (int64_t begin = 0; begin < count; begin += step) {
      const int64_t end = std::min(begin + step, count);
      const at::Tensor scores = at::log_softmax(model.logits(hidden.slice(0, begin, end)).to(at::kDouble), 1);
      const at::Tensor target = batch.targets.slice(0, begin, end).to(scores.device());
      calibration.add(scores, target);
      const at::Tensor lost = (-scores.gather(1, target.unsqueeze(1)).squeeze(1)).cpu().contiguous();
      nll.insert(nll.end(), lost.data_ptr<double>(), lost.data_ptr<double>() + lost.numel());
    }
    for (size_t i = nll.size() - static_cast<size_t>(count); i < nll.size(); ++i)
      if (!std::isfinite(nll[i])) fail(str("likelihood of scored token ", i), "a finite number", str(nll[i]), "the model's weights are damaged");
    progress.update(static_cast<int64_t>(nll.size()));
    stop_if_asked();
  }
  progress.finish();
  PerplexityResult out = perplexity_of(nll, positions.protocol());
  out.bytes = positions.bytes(), out.ece = calibration.error();
  return out;
}

}  // namespace attar
