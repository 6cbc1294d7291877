#include "eval/fidelity.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/log.h"
#include "base/signals.h"

namespace attar {

namespace {
/// What is kept of the scored positions, in constant memory.
struct PositionScores {
  RunningMean kl, base_nll, model_nll, delta_nll, delta_p, squared_delta_p;
  RunningPercentiles kls;
  TokenCalibration base_calibration, model_calibration;
  int64_t same = 0;

  void add(const ComparedRow& row) {
    // Rounding may take the KL of two rows that are as good as equal below 0.
    const double kl_now = std::max(row.kl, 0.0), change = std::exp(-row.model.nll) - std::exp(-row.base.nll);
    kl.add(kl_now);
    kls.add(kl_now);
    base_nll.add(row.base.nll);
    model_nll.add(row.model.nll);
    delta_nll.add(row.model.nll - row.base.nll);
    delta_p.add(change);
    squared_delta_p.add(change * change);
    base_calibration.add(row.base.confidence, row.base.right);
    model_calibration.add(row.model.confidence, row.model.right);
    same += row.base.best == row.model.best;
  }
};

FidelityResult summarize(const PositionScores& scores, const std::string& protocol, int64_t bytes) {
  FidelityResult out;
  const double n = static_cast<double>(scores.kl.count());
  const MeanError kl = scores.kl.result(), delta = scores.delta_nll.result();
  out.mean = kl.mean;
  out.error = kl.error;
  out.p50 = scores.kls.at(0.5);
  out.p90 = scores.kls.at(0.9);
  out.p99 = scores.kls.at(0.99);
  out.p999 = scores.kls.at(0.999);
  out.max = scores.kls.max();
  out.top1 = static_cast<double>(scores.same) / n;
  out.top1_error = n > 1 ? std::sqrt(out.top1 * (1 - out.top1) / (n - 1)) : 0;
  out.mean_delta_p = scores.delta_p.mean();
  out.rms_delta_p = std::sqrt(scores.squared_delta_p.mean());
  out.delta_nll = delta.mean;
  out.delta_nll_error = delta.error;
  out.model = perplexity_of(scores.model_nll, protocol);
  out.base = perplexity_of(scores.base_nll, protocol);
  out.model.bytes = out.base.bytes = bytes;
  out.model.ece = scores.model_calibration.error();
  out.base.ece = scores.base_calibration.error();
  out.protocol = protocol;
  return out;
}
}  // namespace

Json FidelityResult::kld_json() const {
  return Json{{"mean", mean}, {"stderr", error}, {"p50", p50}, {"p90", p90}, {"p99", p99}, {"p999", p999}, {"max", max},
              {"tokens", model.tokens}, {"protocol", protocol}};
}

Json FidelityResult::top1_json() const { return Json{{"value", top1}, {"stderr", top1_error}}; }

FidelityResult fidelity(const Decoder& base, const Decoder& model, ScoredPositions& positions) {
  const at::NoGradGuard no_grad;
  const int64_t vocab = std::min(base.spec().vocab, model.spec().vocab), step = slice_rows(vocab);
  PositionScores scores;
  positions.rewind();
  Progress progress("fidelity", positions.count(), "tokens");
  for (ScoredBatch batch; positions.next(batch);) {
    if (batch.positions.numel() == 0) continue;
    const int64_t highest = batch.targets.max().item<int64_t>();
    check(highest < vocab, "token ids of the text", "below both models' vocabularies", str(highest), "base and model must share one tokenizer");
    const at::Tensor base_hidden = scored_hidden(base, batch), model_hidden = scored_hidden(model, batch);
    for (int64_t begin = 0; begin < base_hidden.size(0); begin += step) {
      const int64_t end = std::min(begin + step, base_hidden.size(0));
      const at::Tensor ours = model.logits(model_hidden.slice(0, begin, end)).slice(1, 0, vocab);
      const at::Tensor theirs = base.logits(base_hidden.slice(0, begin, end)).slice(1, 0, vocab);
      for (const ComparedRow& row : compare_rows(theirs, ours, batch.targets.slice(0, begin, end))) {
        if (!std::isfinite(row.kl))
          fail(str("KL at scored token ", scores.kl.count()), "a finite number", str(row.kl), "the weights of one are damaged");
        scores.add(row);
      }
    }
    progress.update(scores.kl.count());
    stop_if_asked();
  }
  progress.finish();
  check(scores.kl.count() > 0, "text to evaluate on", "one scored token at least", "none");
  return summarize(scores, positions.protocol(), positions.bytes());
}

}  // namespace attar
