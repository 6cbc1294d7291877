#include "eval/token_routing.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/log.h"
#include "base/signals.h"
#include "eval/positions.h"

namespace attar {
namespace {

constexpr double kThresholds[] = {0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99};

/// One number a position of each kind, in the order of the text.
struct TokenColumns {
  std::vector<double> kl, acceptance, most, sureness, same;
  std::vector<int64_t> run;   ///< begins anew where a position does not follow the one before it in the same document
};

void append_values(std::vector<double>& out, const at::Tensor& values) {
  const at::Tensor dense = values.to(at::kDouble).cpu().contiguous();
  out.insert(out.end(), dense.const_data_ptr<double>(), dense.const_data_ptr<double>() + dense.numel());
}

/// student (n, V) log-probabilities in float64, the teacher's word of the same positions.
void compare(const at::Tensor& student, const LogitTargets& targets, const at::Tensor& entropy, bool sampled, TokenColumns& out) {
  const auto [best, chosen] = student.max(1);
  append_values(out.sureness, best.exp());
  if (targets.kind == LogitTargets::Kind::dense) {
    const at::Tensor teacher = at::log_softmax(targets.log_probs.slice(1, 0, student.size(1)).to(at::kDouble), 1);
    const at::Tensor p = teacher.exp(), common = at::minimum(p, student.exp()).sum(1);
    append_values(out.kl, (p * (teacher - student)).sum(1));
    append_values(out.acceptance, common);
    append_values(out.most, common);
    append_values(out.same, teacher.argmax(1).eq(chosen));
    return;
  }
  const at::Tensor there = targets.ids.ge(0), ids = targets.ids.clamp_min(0).to(at::kLong);
  const at::Tensor zero = at::zeros({}, at::kDouble);
  const at::Tensor p = at::where(there, targets.probs.to(at::kDouble), zero), log_q = student.gather(1, ids);
  if (sampled) {
    append_values(out.kl, -(p * log_q).sum(1) - entropy.to(at::kDouble));
    return;
  }
  const at::Tensor q = at::where(there, log_q.exp(), zero), rest = targets.tail.to(at::kDouble).clamp_min(0), own_rest = (1 - q.sum(1)).clamp_min(0);
  const at::Tensor common = at::minimum(p, q).sum(1);
  append_values(out.kl,
                (at::xlogy(p, p) - p * at::where(there, log_q, zero)).sum(1) + at::xlogy(rest, rest) - at::xlogy(rest, own_rest.clamp_min(1e-300)));
  append_values(out.acceptance, common);
  append_values(out.most, common + at::minimum(rest, own_rest));
  append_values(out.same, ids.select(1, 0).eq(chosen));
}

/// Mean over all runs of positions of 1 + a(t) + a(t) a(t+1) + ... of `tokens` terms; none where no run is so long.
std::optional<double> tokens_per_call(const TokenColumns& columns, int64_t tokens) {
  const auto all = static_cast<int64_t>(columns.run.size());
  double sum = 0;
  int64_t drafts = 0;
  for (int64_t t = 0; t + tokens <= all; ++t) {
    if (columns.run[static_cast<size_t>(t)] != columns.run[static_cast<size_t>(t + tokens - 1)]) continue;
    double alive = 1;
    sum += 1, ++drafts;
    for (int64_t i = 0; i < tokens; ++i) sum += alive *= std::min(1.0, columns.acceptance[static_cast<size_t>(t + i)]);
  }
  return drafts ? std::optional<double>(sum / static_cast<double>(drafts)) : std::nullopt;
}

std::vector<DraftPoint> draft_points(const TokenColumns& columns, double acceptance, int64_t longest, double cost_ratio) {
  std::vector<DraftPoint> out;
  double power = 1, geometric = 1;
  for (int64_t k = 1; k <= longest; ++k) {
    geometric += power *= std::min(acceptance, 1.0);
    DraftPoint point{k, geometric, tokens_per_call(columns, k), {}};
    if (cost_ratio > 0) point.speed_up = point.per_call_in_text.value_or(point.per_call) / (1 + static_cast<double>(k) * cost_ratio);
    out.push_back(point);
  }
  return out;
}

KeptPoint kept_point(const TokenColumns& columns, double at_least, double cost_ratio) {
  double kept = 0, same = 0, accepted = 0;
  for (size_t i = 0; i < columns.sureness.size(); ++i)
    if (columns.sureness[i] >= at_least) kept += 1, same += columns.same[i], accepted += columns.acceptance[i];
  const double n = static_cast<double>(columns.sureness.size());
  KeptPoint out{at_least, kept / n, {}, {}, (same + n - kept) / n, {}};
  if (kept > 0) out.same_top = same / kept, out.acceptance = accepted / kept;
  if (cost_ratio > 0) out.cost = cost_ratio + 1 - out.kept;
  return out;
}

LogitTargets chosen_rows(const LogitTargets& targets, const at::Tensor& which) {
  LogitTargets out;
  out.kind = targets.kind;
  const auto take = [&](const at::Tensor& from) { return from.defined() ? from.index_select(0, which) : at::Tensor(); };
  out.log_probs = take(targets.log_probs), out.ids = take(targets.ids), out.probs = take(targets.probs), out.tail = take(targets.tail);
  return out;
}

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

}  // namespace

TokenRouting token_routing(const Decoder& student, const CacheReader& cache, const TokenRows& rows, const TokenRoutingOptions& options) {
  const at::NoGradGuard no_grad;
  check(options.draft >= 1 && options.draft <= 64, "draft", "1 to 64 tokens", str(options.draft));
  check(options.cost_ratio >= 0 && options.cost_ratio < 100, "cost ratio", "0 or more, as a share of the large model's", str(options.cost_ratio));
  check(rows.rows() == cache.rows(), "rows", str("the cache's ", cache.rows()), str(rows.rows()));
  const CacheIdentity& identity = cache.identity();
  const bool sampled = identity.codec.kind == "sampled";
  const int64_t vocab = std::min(student.spec().vocab, identity.vocab), step = slice_rows(vocab);
  const int64_t many = options.rows > 0 ? std::min(options.rows, rows.rows()) : rows.rows();
  TokenRouting out;
  out.codec = identity.codec.kind, out.temperature = identity.temperature, out.cost_ratio = options.cost_ratio;
  TokenColumns columns;
  Progress progress("token routing", many, "rows");
  int64_t run = 0;
  for (int64_t first = 0; first < many; first += options.batch) {
    std::vector<int64_t> numbers;
    for (int64_t r = first; r < std::min(first + options.batch, many); ++r) numbers.push_back(r);
    const Batch batch = make_batch(rows, numbers);
    const LogitTargets targets = cache.targets(batch);
    const at::Tensor entropy = sampled ? cache.entropies(batch) : at::Tensor();
    at::Tensor known = batch.at("labels").reshape({-1}).ne(-100);
    const int64_t learned = known.sum().item<int64_t>();
    // A server may have said nothing of a position: all mass outside the ids.
    if (targets.tail.defined()) known = known.logical_and(targets.tail.lt(1));
    const at::Tensor places = known.nonzero().squeeze(1);
    out.unknown += learned - places.size(0);
    if (places.size(0) == 0) continue;
    const at::Tensor segments = batch.at("segments").reshape({-1}).to(at::kLong).contiguous();
    for (int64_t i = 0, T = batch.at("labels").size(1), before = -2; i < places.size(0); ++i) {
      const int64_t place = places.const_data_ptr<int64_t>()[i];
      const bool follows = place == before + 1 && place / T == before / T
          && segments.const_data_ptr<int64_t>()[place] == segments.const_data_ptr<int64_t>()[before];
      columns.run.push_back(follows ? run : ++run);
      before = place;
    }
    const at::Device device = student.weights().begin()->second.device();
    const at::Tensor hidden = student.hidden({batch.at("ids").to(device), batch.at("segments").to(device), {}, {}});
    const at::Tensor flat = hidden.reshape({-1, hidden.size(-1)}).index_select(0, places.to(device));
    for (int64_t begin = 0; begin < places.size(0); begin += step) {
      const int64_t end = std::min(begin + step, places.size(0));
      const at::Tensor which = places.slice(0, begin, end);
      const at::Tensor logits = student.logits(flat.slice(0, begin, end)).slice(1, 0, vocab).cpu().to(at::kDouble) / identity.temperature;
      compare(at::log_softmax(logits, 1), chosen_rows(targets, which), sampled ? entropy.index_select(0, which) : entropy, sampled, columns);
    }
    if (!std::isfinite(columns.kl.back()))
      fail(str("KL of row ", numbers.back()), "a finite number", str(columns.kl.back()), "the student's weights are damaged");
    progress.update(first + static_cast<int64_t>(numbers.size()));
    stop_if_asked();
  }
  progress.finish();
  check(!columns.kl.empty(), "rows of the cache", "something to predict", "nothing");
  out.tokens = static_cast<int64_t>(columns.kl.size());
  out.kl = mean_and_error(columns.kl);
  if (sampled) return out;
  out.distributions = true;
  out.acceptance = mean_and_error(columns.acceptance), out.acceptance_at_most = mean_and_error(columns.most).mean;
  out.same_top = mean_and_error(columns.same);
  out.drafts = draft_points(columns, out.acceptance.mean, options.draft, options.cost_ratio);
  for (const double at_least : kThresholds) out.kept.push_back(kept_point(columns, at_least, options.cost_ratio));
  return out;
}

Json TokenRouting::to_json() const {
  const auto measured = [](const MeanError& m) { return Json{{"value", m.mean}, {"stderr", m.error}}; };
  Json out = {{"codec", codec}, {"tokens", tokens}, {"unknown", unknown}, {"temperature", temperature}, {"kl", measured(kl)}};
  out["kl"]["is"] = codec == "full" ? "of the kept distributions (half precision)"
      : codec == "top_k"            ? "a lower bound: what the cache dropped counts as one token"
                                    : "an unbiased estimate: the draws' cross-entropy minus the kept entropy";
  if (!distributions) {
    out["note"] = "a sampled cache gives KL only: shares of kept tokens and acceptance need the teacher's probabilities; capture with top_k or full";
    return out;
  }
  out["acceptance"] = measured(acceptance);
  out["acceptance"]["at_most"] = acceptance_at_most;
  out["same_top"] = measured(same_top);
  out["cost_ratio"] = cost_ratio > 0 ? Json(cost_ratio) : Json();
  for (const DraftPoint& d : drafts)
    out["drafts"].push_back(
        {{"tokens", d.tokens}, {"per_call", d.per_call}, {"per_call_in_text", or_null(d.per_call_in_text)}, {"speed_up", or_null(d.speed_up)}});
  for (const KeptPoint& k : kept)
    out["kept"].push_back({{"at_least", k.at_least}, {"share", k.kept}, {"same_top", or_null(k.same_top)}, {"acceptance", or_null(k.acceptance)},
                           {"same_top_of_all", k.same_top_of_all}, {"cost", or_null(k.cost)}});
  return out;
}

}  // namespace attar
