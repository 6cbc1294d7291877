#include "prune/merge_heads.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/TensorIndexing.h>

#include "base/check.h"
#include "model/decoder.h"
#include "prune/prune.h"
#include "small_model.h"

namespace attar {
namespace {

Checkpoint model_with_heads() {
  return small_model(small_shape(50, 32, 8, 2, LayerSpec{.ffn = 64, .heads = 6, .kv_heads = 2}), 6, 8);
}

TokenRows rows_for_heads() { return random_token_rows(16, 32, 50, 4); }

at::Tensor states_with_heads(const Checkpoint& model, const TokenRows& rows) {
  at::NoGradGuard no_grad;
  return Decoder(model.spec, model.weights).hidden({rows.ids.to(at::kLong), rows.segments, {}, {}});
}

/// The third head of each group asks what the first one asks, so it gives what that one gives.
void repeat_first_heads(Checkpoint& model) {
  for (int64_t layer = 0; layer < 2; ++layer)
    for (int64_t group = 0; group < 2; ++group) {
      at::Tensor q = model.weights.at(layer_name(layer, "self_attn.q_proj.weight"));
      q.slice(0, (group * 3 + 2) * 8, (group * 3 + 3) * 8).copy_(q.slice(0, group * 24, group * 24 + 8));
    }
}

Kept without_third_heads(const ModelSpec& spec) {
  Kept kept = kept_whole(spec);
  for (KeptLayer& layer : kept.layers) layer.heads = at::tensor(std::vector<int64_t>{0, 1, 3, 4}, at::kLong);
  return kept;
}

TEST(MergeHeads, HeadsThatRepeatOthersGoWithoutLoss) {
  Checkpoint model = model_with_heads();
  repeat_first_heads(model);
  const TokenRows rows = rows_for_heads();
  const Kept kept = without_third_heads(model.spec);
  const at::Tensor whole = states_with_heads(model, rows), plain = states_with_heads(cut(model, kept), rows);
  const Checkpoint merged = cut(with_merged_heads(model, kept, rows, 16, *single_process()), kept);
  const double scale = whole.abs().max().item<double>();
  EXPECT_EQ(merged.spec.layers[0].heads, 4);
  EXPECT_GT((plain - whole).abs().max().item<double>(), 1e-2 * scale) << "they do matter";
  EXPECT_LT((states_with_heads(merged, rows) - whole).abs().max().item<double>(), 1e-4 * scale);
  // Other text too: the map is the heads' own, not the calibration's.
  TokenRows other = rows;
  other.ids = other.ids.flip({1}).contiguous();
  EXPECT_LT((states_with_heads(merged, other) - states_with_heads(model, other)).abs().max().item<double>(), 1e-4 * scale);
}

TEST(MergeHeads, OtherwiseTheErrorIsTheSmallest) {
  const TokenRows rows = rows_for_heads();
  const Checkpoint model = model_with_heads();
  const Kept kept = without_third_heads(model.spec);
  const Checkpoint merged = with_merged_heads(model, kept, rows, 16, *single_process());
  const std::string name = layer_name(0, "self_attn.o_proj.weight");
  at::Tensor z;
  Decoder decoder(model.spec, model.weights);
  decoder.set_observer([&](const std::string& seen, const at::Tensor& x) {
    if (seen == name) z = x.reshape({-1, 48}).to(at::kDouble);
  });
  {
    at::NoGradGuard no_grad;
    decoder.hidden({rows.ids.to(at::kLong), rows.segments, {}, {}});
  }
  at::Tensor stays = at::ones({48}, at::kBool);
  stays.slice(0, 16, 24).fill_(false), stays.slice(0, 40, 48).fill_(false);
  const at::Tensor kept_z = z.index({at::indexing::Slice(), stays}), gone_z = z.index({at::indexing::Slice(), stays.logical_not()});
  const at::Tensor w = model.weights.at(name).to(at::kDouble);
  // The normal equations by another way: LibTorch's least squares on the inputs themselves.
  const at::Tensor map = std::get<0>(at::linalg_lstsq(kept_z, gone_z));
  const at::Tensor expected = w.index({at::indexing::Slice(), stays}) + at::mm(w.index({at::indexing::Slice(), stays.logical_not()}), map.t());
  const at::Tensor got = merged.weights.at(name).to(at::kDouble).index({at::indexing::Slice(), stays});
  EXPECT_LT((got - expected).abs().max().item<double>(), 1e-3 * expected.abs().max().item<double>());
  for (const auto& [other, tensor] : model.weights)
    if (!other.ends_with("o_proj.weight")) { EXPECT_TRUE(at::equal(tensor, merged.weights.at(other))) << other; }
}

TEST(MergeHeads, AStageOptionThatWholeGroupsTakeToo) {
  Checkpoint model = model_with_heads();
  const TokenRows rows = rows_for_heads();
  PruneConfig config;
  config.criterion = "magnitude", config.kv_heads = 0.5, config.multiple = 8;
  PruneEvidence evidence;
  evidence.rows = &rows;
  Json report;
  const at::Tensor whole = states_with_heads(model, rows);
  const Checkpoint plain = prune(model, config, evidence, 0, *single_process(), report);
  config.merge_heads = true;
  EXPECT_TRUE(needs_calibration(config));
  const Checkpoint merged = prune(model, config, evidence, 0, *single_process(), report);
  EXPECT_TRUE(report["merged_heads"].get<bool>());
  EXPECT_EQ(merged.spec.layers[0].heads, 3);
  const double before = (states_with_heads(plain, rows) - whole).square().mean().item<double>();
  EXPECT_LT((states_with_heads(merged, rows) - whole).square().mean().item<double>(), before);
  evidence.rows = nullptr;
  EXPECT_THROW(prune(model, config, evidence, 0, *single_process(), report), Error) << "no text";
}

}  // namespace
}  // namespace attar
