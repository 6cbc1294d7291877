#include "eval/perplexity.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "base/check.h"
#include "base/log.h"
#include "base/signals.h"
#include "eval/statistics.h"

namespace attar {

Json PerplexityResult::to_json() const {
  return Json{{"value", value}, {"stderr", error}, {"nll", nll}, {"tokens", tokens}, {"protocol", protocol}};
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
  Progress progress("perplexity", positions.count(), "tokens");
  for (ScoredBatch batch; positions.next(batch);) {
    const at::Tensor hidden = scored_hidden(model, batch);
    const int64_t count = hidden.size(0), step = slice_rows(model.spec().vocab);
    for (int64_t begin = 0; begin < count; begin += step) {
      const int64_t end = std::min(begin + step, count);
      const at::Tensor logits = model.logits(hidden.slice(0, begin, end)).to(at::kDouble);
      const at::Tensor target = batch.targets.slice(0, begin, end).to(logits.device()).unsqueeze(1);
      const at::Tensor lost = (at::logsumexp(logits, {1}) - logits.gather(1, target).squeeze(1)).cpu().contiguous();
      nll.insert(nll.end(), lost.data_ptr<double>(), lost.data_ptr<double>() + lost.numel());
    }
    for (size_t i = nll.size() - static_cast<size_t>(count); i < nll.size(); ++i)
      if (!std::isfinite(nll[i])) fail(str("likelihood of scored token ", i), "a finite number", str(nll[i]), "the model's weights are damaged");
    progress.update(static_cast<int64_t>(nll.size()));
    stop_if_asked();
  }
  progress.finish();
  return perplexity_of(nll, positions.protocol());
}

}  // namespace attar
