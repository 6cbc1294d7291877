#include "prune/prune.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "base/check.h"
#include "data/source.h"
#include "model/decoder.h"
#include "small_model.h"
#include "spec/pruned_spec.h"

namespace attar {
namespace {

Checkpoint tiny_model() {
  Checkpoint model = small_model(small_shape(50, 32, 8, 2, LayerSpec{.ffn = 64, .heads = 4, .kv_heads = 2}), 11);
  for (auto& [name, tensor] : model.weights) tensor = tensor.to(at::kDouble) * 5;
  return model;
}

PruneConfig config_of(double ffn) {
  PruneConfig config;
  config.ffn = ffn, config.multiple = 8, config.criterion = "magnitude";
  return config;
}

/// Rows of random ids, the last one half padding.
TokenRows random_rows(int64_t rows, int64_t seq, int64_t vocab) {
  TokenRows out = random_token_rows(rows, seq, vocab, 3);
  cut_row(out, rows - 1, seq / 2);
  return out;
}

ActivationStatistics fake_statistics(const ModelSpec& spec) {
  ActivationStatistics statistics;
  for (int64_t layer = 0; layer < static_cast<int64_t>(spec.layers.size()); ++layer) {
    statistics.magnitude[layer_name(layer, "mlp.down_proj.weight")] = at::arange(64, at::kDouble);
    statistics.magnitude[layer_name(layer, "self_attn.o_proj.weight")] = at::arange(32, at::kDouble);
    statistics.block_influence.push_back(1.0 + static_cast<double>(layer));
  }
  statistics.hidden_magnitude = at::arange(32, 0, -1, at::kDouble);
  return statistics;
}

TEST(Prune, ActivationKeepsTheLoudest) {
  const Checkpoint model = tiny_model();
  PruneEvidence evidence;
  evidence.statistics = fake_statistics(model.spec);
  PruneConfig config = config_of(0.25);
  config.criterion = "activation", config.kv_heads = 0.5, config.hidden = 0.5;
  Json report;
  const Checkpoint small = prune(model, config, evidence, 0, *single_process(), report);
  const at::Tensor up = model.weights.at(layer_name(0, "mlp.up_proj.weight")), v = model.weights.at(layer_name(1, "self_attn.v_proj.weight"));
  EXPECT_TRUE(at::equal(small.weights.at(layer_name(0, "mlp.up_proj.weight")), up.slice(0, 48, 64).slice(1, 0, 16)));
  EXPECT_TRUE(at::equal(small.weights.at(layer_name(1, "self_attn.v_proj.weight")), v.slice(0, 8, 16).slice(1, 0, 16)));
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
  for (double PruneConfig::* share : {&PruneConfig::ffn, &PruneConfig::heads, &PruneConfig::kv_heads, &PruneConfig::hidden, &PruneConfig::depth})
    for (double value : {0.0, 1.5, -1.0}) {
      PruneConfig wrong = config_of(1);
      wrong.*share = value;
      EXPECT_THROW(pruned_spec(spec, wrong), Error) << value;
    }
  PruneConfig shallow = config_of(1);
  shallow.depth = 0.5, shallow.protect = 1;
  EXPECT_THROW(pruned_spec(spec, shallow), Error) << "both layers are protected";
}

TEST(Prune, StatisticsOfAnotherModelAreRefused) {
  PruneConfig config = config_of(0.5);
  config.criterion = "activation";
  Json report;
  EXPECT_THROW(prune(tiny_model(), config, {}, 0, *single_process(), report), Error);
  PruneEvidence evidence;
  evidence.statistics = fake_statistics(tiny_model().spec);
  evidence.statistics.magnitude.begin()->second = at::ones({63}, at::kDouble);
  EXPECT_THROW(prune(tiny_model(), config, evidence, 0, *single_process(), report), Error);
}

/// The first-order score against its own definition: d loss / d gate, a gate multiplying what the part gives.
TEST(Prune, TaylorIsTheDerivativeByAGate) {
  Checkpoint model = tiny_model();
  const TokenRows rows = random_rows(4, 16, 50);
  const Saliency scores = taylor_saliency(model, rows, 4, 4, *single_process());
  const double step = 1e-4;
  const auto loss_with = [&](const std::string& module, int64_t column, int64_t width, double gate) {
    Checkpoint changed = model;
    at::Tensor weight = changed.weights.at(module).clone();
    weight.slice(1, column, column + width).mul_(gate);
    changed.weights[module] = weight;
    return calibration_loss(changed, rows, 4, 4);
  };
  // A gate on an FFN channel scales one column of down; the score sums the products of gate, up and down, of which down's is that derivative. SiLU's
  // gate is no linear map, so only the down part is compared: with gate and up frozen the score would be its square.
  const std::string down = layer_name(1, "mlp.down_proj.weight");
  const Decoder plain(model.spec, model.weights);
  StateDict weights;
  for (const auto& [name, tensor] : model.weights) weights[name] = tensor.clone();
  Decoder decoder(model.spec, weights);
  decoder.require_grad(true);
  const Batch batch = make_batch(rows, {0, 1, 2, 3});
  const at::Tensor hidden = decoder.hidden({batch.at("ids"), batch.at("segments"), {}, {}});
  const at::Tensor logits = at::linear(hidden, decoder.output_weight());
  const at::Tensor loss = at::cross_entropy_loss(logits.reshape({-1, 50}), batch.at("labels").reshape({-1}));
  loss.backward();
  const auto product = [&](const char* rest) {
    const at::Tensor& w = decoder.weights().at(layer_name(1, rest));
    return (w.grad() * w.detach()).to(at::kDouble);
  };
  const at::Tensor expected =
      (product("mlp.gate_proj.weight").sum(1) + product("mlp.up_proj.weight").sum(1) + product("mlp.down_proj.weight").sum(0)).square();
  EXPECT_LT(((scores.layers[1].ffn - expected).abs() / expected.max()).max().item<double>(), 1e-6);
  for (int64_t channel : {0, 17, 63}) {
    const double derivative = (loss_with(down, channel, 1, 1 + step) - loss_with(down, channel, 1, 1 - step)) / (2 * step);
    EXPECT_NEAR(derivative, product("mlp.down_proj.weight").sum(0)[channel].item<double>(), 1e-6 + 1e-3 * std::abs(derivative));
  }
  EXPECT_NEAR(loss.item<double>(), calibration_loss(model, rows, 4, 4), 1e-6);
}

TEST(Prune, PerLayerSharesKeepTheTotal) {
  Checkpoint model = tiny_model();
  PruneEvidence evidence;
  evidence.statistics = fake_statistics(model.spec);
  // Layer 1's channels are evenly loud, layer 0's importance sits in its last eight.
  at::Tensor peaked = at::ones({64}, at::kDouble);
  peaked.slice(0, 56).fill_(100);
  evidence.statistics.magnitude[layer_name(0, "mlp.down_proj.weight")] = peaked;
  evidence.statistics.magnitude[layer_name(1, "mlp.down_proj.weight")] = at::ones({64}, at::kDouble);
  PruneConfig config = config_of(0.5);
  config.criterion = "activation", config.per_layer = true;
  Json report;
  const Checkpoint small = prune(model, config, evidence, 0, *single_process(), report);
  EXPECT_EQ(small.spec.layers[0].ffn, 8);
  EXPECT_EQ(small.spec.layers[1].ffn, 56);
  EXPECT_EQ(parameter_count(small.spec), parameter_count(pruned_spec(model.spec, config)));
}

TEST(Prune, DepthByLossRemovesTheLayerThatIsNotMissed) {
  Checkpoint model = tiny_model();
  model.spec.layers.assign(4, model.spec.layers[0]);
  model.weights = Decoder::random(model.spec, 2).weights();
  for (auto& [name, tensor] : model.weights) tensor = tensor * 8;
  for (const char* rest : {"self_attn.o_proj.weight", "mlp.down_proj.weight"}) model.weights.at(layer_name(2, rest)).mul_(1e-6);
  const TokenRows rows = random_rows(4, 16, 50);
  PruneConfig config = config_of(1);
  config.depth = 0.75, config.depth_by = "loss";
  PruneEvidence evidence;
  evidence.rows = &rows;
  Json report;
  prune(model, config, evidence, 0, *single_process(), report);
  double least = 1e9;
  int64_t best = -1;
  for (int64_t gone : {1, 2}) {
    Kept kept = kept_whole(model.spec);
    kept.layers.erase(kept.layers.begin() + gone);
    const double loss = calibration_loss(cut(model, kept), rows, 4, 4);
    if (loss < least) least = loss, best = gone;
  }
  for (const Json& layer : report["layers"]) EXPECT_NE(layer["layer"].get<int64_t>(), best);
  EXPECT_EQ(report["layers"].size(), 3u);
}

}  // namespace
}  // namespace attar
