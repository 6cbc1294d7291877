#include "prune/prune.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "data/source.h"
#include "kernels/linear_loss.h"
#include "model/decoder.h"
#include "prune/merge_heads.h"
#include "prune/surgery.h"

namespace attar {
namespace {

constexpr int64_t kPruneBatch = 16;

/// Share of a vector's sum that some of its elements hold.
double share_of(const at::Tensor& scores, const at::Tensor& kept) {
  const double all = scores.sum().item<double>();
  return all > 0 ? scores.index_select(0, kept).sum().item<double>() / all : 1.0;
}

}  // namespace

bool needs_statistics(const PruneConfig& config) {
  return config.method == "structure" ? config.criterion == "activation" : config.method == "wanda" && !config.calibration.empty();
}
bool needs_calibration(const PruneConfig& config) {
  if (config.method != "structure") return config.method != "magnitude" && !needs_statistics(config);
  const bool passes = needs_statistics(config) && config.calibration.empty();
  return passes || config.criterion == "taylor" || config.merge_heads || (config.depth < 1 && config.depth_by == "loss");
}

Saliency model_saliency(const Checkpoint& model, const PruneConfig& config, const PruneEvidence& evidence, uint64_t seed, ProcessGroup& group) {
  if (config.criterion == "activation") return activation_saliency(model.spec, evidence.statistics);
  if (config.criterion == "magnitude") return magnitude_saliency(model);
  if (config.criterion == "random") return random_saliency(model.spec, seed);
  check(config.criterion == "taylor", "criterion", "activation, taylor, magnitude or random", config.criterion);
  check(evidence.rows, "criterion taylor", "calibration rows", "none", "give data");
  return taylor_saliency(model, *evidence.rows, config.calibration_rows, kPruneBatch, group);
}

double calibration_loss(const Checkpoint& model, const TokenRows& rows, int64_t limit, int64_t batch) {
  at::NoGradGuard no_grad;
  const Decoder decoder(model.spec, model.weights);
  const int64_t count = std::min(limit, rows.rows());
  double sum = 0, tokens = 0;
  for (int64_t first = 0; first < count; first += batch) {
    std::vector<int64_t> numbers;
    for (int64_t r = first; r < std::min(first + batch, count); ++r) numbers.push_back(r);
    const Batch part = make_batch(rows, numbers);
    const at::Tensor hidden = decoder.hidden({part.at("ids"), part.at("segments"), {}, {}});
    const at::Tensor labels = part.at("labels").reshape({-1});
    const LinearLossResult loss = linear_loss(hidden.reshape({-1, hidden.size(-1)}), decoder.output_weight(), {}, labels, {}, LossWeights{.ce = 1},
                                              model.spec.logit_softcap, model.spec.vocab, false);
    sum += loss.terms[1].item<double>();
    tokens += labels.ne(-100).sum().item<double>();
  }
  return sum / std::max(tokens, 1.0);
}

Checkpoint prune(const Checkpoint& model, const PruneConfig& config, const PruneEvidence& evidence, uint64_t seed, ProcessGroup& group,
                 Json& report) {
  return prune(model, config, evidence, model_saliency(model, config, evidence, seed, group), group, report);
}

Checkpoint prune(const Checkpoint& model, const PruneConfig& config, const PruneEvidence& evidence, const Saliency& saliency, ProcessGroup& group,
                 Json& report) {
  const auto loss_of = [&](const std::vector<int64_t>& layers) {
    check(evidence.rows, "depth_by loss", "calibration rows", "none", "give data");
    Kept kept = kept_whole(model.spec);
    std::vector<KeptLayer> some;
    for (int64_t layer : layers) some.push_back(kept.layers[static_cast<size_t>(layer)]);
    kept.layers = some;
    return calibration_loss(cut(model, kept), *evidence.rows, config.calibration_rows, kPruneBatch);
  };
  const Kept kept = choose(model.spec, config, saliency, evidence.statistics, loss_of);
  Checkpoint out;
  if (config.merge_heads) {
    check(evidence.rows, "merge_heads", "calibration rows", "none", "give data");
    out = cut(with_merged_heads(model, kept, *evidence.rows, config.calibration_rows, group), kept);
  } else {
    out = cut(model, kept);
  }
  report = {{"criterion", config.criterion},
            {"merged_heads", config.merge_heads},
            {"hidden_before", model.spec.hidden},
            {"hidden", out.spec.hidden},
            {"kept_hidden_importance", share_of(saliency.hidden, kept.hidden)},
            {"layers_before", model.spec.layers.size()},
            {"layers", Json::array()}};
  for (size_t i = 0; i < kept.layers.size(); ++i) {
    const KeptLayer& layer = kept.layers[i];
    const LayerSpec &before = model.spec.layers[static_cast<size_t>(layer.layer)], &after = out.spec.layers[i];
    const Saliency::Layer& scores = saliency.layers[static_cast<size_t>(layer.layer)];
    report["layers"].push_back({{"layer", layer.layer}, {"ffn_before", before.ffn}, {"ffn", after.ffn}, {"heads_before", before.heads},
                                {"heads", after.heads}, {"kv_heads_before", before.kv_heads}, {"kv_heads", after.kv_heads},
                                {"kept_importance", share_of(scores.ffn, layer.ffn)}, {"kept_head_importance", share_of(scores.heads, layer.heads)}});
  }
  return out;
}

}  // namespace attar
