#include "prune/prune.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "data_path.h"
#include "spec/pruned_spec.h"

namespace attar {
namespace {

Checkpoint tiny_model() {
  Checkpoint model;
  ModelSpec& s = model.spec;
  s.vocab = 50, s.hidden = 32, s.head_size = 8, s.context = 32;
  s.layers.assign(2, LayerSpec{.ffn = 64, .heads = 4, .kv_heads = 2});
  model.weights = Decoder::random(s, 11).weights();
  for (auto& [name, tensor] : model.weights) tensor = tensor.to(at::kDouble) * 5;
  return model;
}

PruneConfig config_of(double ffn) {
  PruneConfig config;
  config.ffn = ffn, config.multiple = 8, config.criterion = "magnitude";
  return config;
}

/// Channels that are zero everywhere are the ones that go, and nothing changes.
TEST(Prune, RemovingZeroChannelsLeavesLogitsUnchanged) {
  Checkpoint model = tiny_model();
  for (int64_t layer = 0; layer < 2; ++layer)
    for (int64_t channel = layer; channel < 64; channel += 2) {
      model.weights.at(layer_name(layer, "mlp.gate_proj.weight"))[channel].zero_();
      model.weights.at(layer_name(layer, "mlp.up_proj.weight"))[channel].zero_();
      model.weights.at(layer_name(layer, "mlp.down_proj.weight")).select(1, channel).zero_();
    }
  Json report;
  const Checkpoint small = prune(model, config_of(0.5), {}, 0, report);
  EXPECT_EQ(small.spec.layers[1].ffn, 32);
  EXPECT_EQ(parameter_count(small.spec), parameter_count(pruned_spec(model.spec, config_of(0.5))));
  const at::Tensor ids = at::arange(20, at::kLong).view({2, 10});
  const Decoder before(model.spec, model.weights), after(small.spec, small.weights);
  const at::Tensor a = before.logits(before.hidden({ids, {}, {}, {}})), b = after.logits(after.hidden({ids, {}, {}, {}}));
  EXPECT_LT((a - b).abs().max().item<double>(), 1e-9);
  EXPECT_GT(a.abs().max().item<double>(), 1e-3);
}

TEST(Prune, ActivationKeepsTheLoudestChannels) {
  const Checkpoint model = tiny_model();
  ActivationStatistics statistics;
  for (int64_t layer = 0; layer < 2; ++layer) statistics.magnitude[layer_name(layer, "mlp.down_proj.weight")] = at::arange(64, at::kDouble);
  PruneConfig config = config_of(0.25);
  config.criterion = "activation";
  Json report;
  const Checkpoint small = prune(model, config, statistics, 0, report);
  EXPECT_TRUE(at::equal(small.weights.at(layer_name(0, "mlp.up_proj.weight")), model.weights.at(layer_name(0, "mlp.up_proj.weight")).slice(0, 48, 64)));
  EXPECT_TRUE(at::equal(small.weights.at(layer_name(1, "mlp.down_proj.weight")), model.weights.at(layer_name(1, "mlp.down_proj.weight")).slice(1, 48, 64)));
  EXPECT_EQ(report["layers"].size(), 2u);
}

TEST(Prune, BudgetIsMetOrRefusedWithTheNearest) {
  const ModelSpec spec = tiny_model().spec;
  PruneConfig config = config_of(1);
  config.parameters = parameter_count(spec) - 1;
  const ModelSpec small = pruned_spec(spec, config);
  EXPECT_LE(parameter_count(small), config.parameters);
  EXPECT_EQ(small.layers[0].ffn, 56) << "one step of the multiple is enough";
  config.parameters = 10;
  try {
    pruned_spec(spec, config);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(std::to_string(parameter_count(pruned_spec(spec, config_of(1e-9))))), std::string::npos) << error.what();
  }
  EXPECT_THROW(pruned_spec(spec, config_of(0)), Error);
  EXPECT_THROW(pruned_spec(spec, config_of(1.5)), Error);
}

TEST(Prune, StatisticsOfAnotherModelAreRefused) {
  PruneConfig config = config_of(0.5);
  config.criterion = "activation";
  Json report;
  EXPECT_THROW(prune(tiny_model(), config, {}, 0, report), Error);
}

}  // namespace
}  // namespace attar
