#include "calibrate/activations.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "base/check.h"
#include "data_path.h"
#include "data/source.h"
#include "small_model.h"
#include "spec/model_spec.h"

namespace attar {
namespace {

ModelSpec calibrated_spec() { return small_shape(50, 32, 8, 2, LayerSpec{.ffn = 64, .heads = 4, .kv_heads = 2}); }

TokenRows padded_rows() {
  TokenRows out = random_token_rows(10, 16, 50, 3);
  for (int64_t row : {2, 7}) cut_row(out, row, 9);
  return out;
}

/// The definitions, one tensor at a time in float64.
TEST(Activations, EqualTheirDefinitions) {
  const TokenRows rows = padded_rows();
  Decoder model = Decoder::random(calibrated_spec(), 4);
  for (auto& [name, tensor] : model.weights()) tensor = tensor * 6;
  const ActivationStatistics got = collect_activations(model, rows, {.rows = 10, .batch = 4}, *single_process());
  EXPECT_EQ(got.tokens, 8 * 16 + 2 * 9);
  EXPECT_EQ(got.rows, 10);

  std::map<std::string, at::Tensor> magnitude, square;
  std::vector<double> influence(2, 0.0);
  at::Tensor hidden = at::zeros({32}, at::kDouble), hidden_square = at::zeros({32}, at::kDouble);
  for (int64_t row = 0; row < 10; ++row) {
    const int64_t length = rows.lengths[row].item<int64_t>();
    at::Tensor before;
    model.set_observer([&](const std::string& name, const at::Tensor& x) {
      const at::Tensor v = x[0].to(at::kDouble);
      if (name.ends_with(".input") || name.ends_with(".output")) {
        hidden_square += v.square().sum(0);
        if (name.ends_with(".input")) before = v;
        else influence[static_cast<size_t>(name[13] - '0')] += (1 - at::cosine_similarity(before, v, -1, 1e-12)).sum().item<double>();
        return;
      }
      const at::Tensor mean = v.abs().mean(0).square();
      magnitude[name] = magnitude.count(name) ? magnitude[name] + mean : mean;
      square[name] = square.count(name) ? square[name] + v.square().sum(0) : v.square().sum(0);
      if (name.ends_with("q_proj.weight") || name.ends_with("gate_proj.weight")) hidden += mean;
    });
    model.hidden({rows.ids.slice(0, row, row + 1).slice(1, 0, length).to(at::kLong), {}, {}, {}});
  }
  model.set_observer({});
  ASSERT_EQ(got.magnitude.size(), 14u);
  const auto near = [](const at::Tensor& a, const at::Tensor& b) { return ((a - b).abs().max() / b.abs().max()).item<double>(); };
  for (const auto& [name, sum] : magnitude) {
    EXPECT_LT(near(got.magnitude.at(name), sum.sqrt()), 1e-5) << name;
    EXPECT_LT(near(got.mean_square.at(name), square.at(name) / double(got.tokens)), 1e-5) << name;
  }
  EXPECT_LT(near(got.hidden_magnitude, hidden.sqrt()), 1e-5);
  EXPECT_LT(near(got.hidden_square, hidden_square / double(got.tokens * 4)), 1e-5);
  for (size_t i = 0; i < 2; ++i) EXPECT_NEAR(got.block_influence[i], influence[i] / double(got.tokens), 1e-6);
}

TEST(Activations, GoOnWhereTheyWereKilledWithTheSameBits) {
  const TokenRows rows = padded_rows();
  Decoder model = Decoder::random(calibrated_spec(), 4);
  const TestFolder folder;
  const ActivationStatistics whole = collect_activations(model, rows, {.rows = 10, .batch = 2}, *single_process());
  CalibrationOptions options{.rows = 10, .batch = 2, .partial = folder.path() / "sums.safetensors", .save_every = 1};
  // Killed inside the fourth batch: an id that no table holds.
  TokenRows broken = rows;
  broken.ids = rows.ids.clone();
  broken.ids[6][3] = 99;
  EXPECT_THROW(collect_activations(model, broken, options, *single_process()), Error);
  ASSERT_TRUE(fs::exists(options.partial));
  const ActivationStatistics resumed = collect_activations(model, rows, options, *single_process());
  for (const auto& [name, tensor] : whole.magnitude) EXPECT_TRUE(at::equal(tensor, resumed.magnitude.at(name))) << name;
  EXPECT_EQ(whole.block_influence, resumed.block_influence);
  EXPECT_EQ(whole.tokens, resumed.tokens);

  save_statistics(whole, folder.path() / "statistics.safetensors");
  const ActivationStatistics read = load_statistics(folder.path() / "statistics.safetensors");
  EXPECT_TRUE(at::equal(read.hidden_square, whole.hidden_square));
  EXPECT_EQ(read.mean_square.size(), whole.mean_square.size());
}

}  // namespace
}  // namespace attar
