#include "eval/fidelity.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/log.h"
#include "base/signals.h"
#include "eval/statistics.h"

namespace attar {

namespace {
/// One number per scored position of each kind.
struct PositionScores {
  std::vector<double> kl, base_nll, model_nll, delta_p;
  TokenCalibration base_calibration, model_calibration;
  int64_t same = 0;

  /// base, model (n, V) logits, targets (n).
  void add(const at::Tensor& base_logits, const at::Tensor& model_logits, const at::Tensor& targets) {
    const at::Tensor base = at::log_softmax(base_logits.to(at::kDouble), 1), model = at::log_softmax(model_logits.to(at::kDouble), 1);
    const at::Tensor wanted = targets.unsqueeze(1);
    const at::Tensor base_target = base.gather(1, wanted).squeeze(1), model_target = model.gather(1, wanted).squeeze(1);
    base_calibration.add(base, targets);
    model_calibration.add(model, targets);
    same += base.argmax(1).eq(model.argmax(1)).sum().item<int64_t>();
    append(kl, (base.exp() * (base - model)).sum(1));
    append(base_nll, -base_target);
    append(model_nll, -model_target);
    append(delta_p, model_target.exp() - base_target.exp());
  }

 private:
  static void append(std::vector<double>& out, const at::Tensor& values) {
    const at::Tensor dense = values.cpu().contiguous();
    out.insert(out.end(), dense.data_ptr<double>(), dense.data_ptr<double>() + dense.numel());
  }
};

FidelityResult summarize(const PositionScores& scores, const std::string& protocol, int64_t bytes) {
  FidelityResult out;
  const double n = static_cast<double>(scores.kl.size());
  const MeanError kl = mean_and_error(scores.kl);
  std::vector<double> sorted = scores.kl, difference(scores.kl.size());
  std::sort(sorted.begin(), sorted.end());
  out.mean = kl.mean;
  out.error = kl.error;
  out.p50 = percentile(sorted, 0.5);
  out.p90 = percentile(sorted, 0.9);
  out.p99 = percentile(sorted, 0.99);
  out.p999 = percentile(sorted, 0.999);
  out.max = sorted.back();
  out.top1 = static_cast<double>(scores.same) / n;
  out.top1_error = n > 1 ? std::sqrt(out.top1 * (1 - out.top1) / (n - 1)) : 0;
  double squares = 0;
  for (size_t i = 0; i < scores.kl.size(); ++i) {
    squares += scores.delta_p[i] * scores.delta_p[i];
    out.mean_delta_p += scores.delta_p[i] / n;
    difference[i] = scores.model_nll[i] - scores.base_nll[i];
  }
  out.rms_delta_p = std::sqrt(squares / n);
  const MeanError delta = mean_and_error(difference);
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
      const at::Tensor theirs = base.logits(base_hidden.slice(0, begin, end)).slice(1, 0, vocab).to(ours.device());
      scores.add(theirs, ours, batch.targets.slice(0, begin, end).to(ours.device()));
    }
    if (!std::isfinite(scores.kl.back())) fail(str("KL at scored token ", scores.kl.size() - 1), "a finite number", str(scores.kl.back()));
    progress.update(static_cast<int64_t>(scores.kl.size()));
    stop_if_asked();
  }
  progress.finish();
  check(!scores.kl.empty(), "text to evaluate on", "one scored token at least", "none");
  return summarize(scores, positions.protocol(), positions.bytes());
}

}  // namespace attar
