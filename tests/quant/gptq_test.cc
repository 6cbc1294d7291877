#include "quant/gptq.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "base/check.h"
#include "data_path.h"
#include "kernels/block_grid.h"
#include "blocks/blocks_encode.h"
#include "quant/type_plan.h"
#include "stopping_group.h"

namespace attar {
namespace {

/// Inputs whose columns go together: what error propagation lives on.
at::Tensor correlated_inputs(int64_t rows, int64_t columns, uint64_t seed) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const at::Tensor few = at::randn({rows, columns / 4}, generator, at::kFloat), mix = at::randn({columns / 4, columns}, generator, at::kFloat);
  return at::mm(few, mix) + 0.5 * at::randn({rows, columns}, generator, at::kFloat);
}

at::Tensor weights_of(int64_t rows, int64_t columns, uint64_t seed) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return 0.05 * at::randn({rows, columns}, generator, at::kFloat);
}

/// Squared error of the layer's outputs.
double output_error(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rounded) {
  return at::mm(x, (weight - rounded).t()).square().sum().item<double>();
}

TEST(Gptq, FactorIsTheInversesRoot) {
  const at::Tensor x = correlated_inputs(400, 160, 3);
  const at::Tensor hessian = at::mm(x.t(), x);
  const InverseFactor factor = inverse_factor(hessian.clone(), 400, 0.01);
  ASSERT_TRUE(factor.u.defined());
  EXPECT_TRUE(at::equal(factor.u, factor.u.triu()));
  at::Tensor damped = hessian.to(at::kDouble);
  damped.diagonal().add_(0.01 * damped.diagonal().mean());
  const at::Tensor inverse = at::linalg_inv(damped), got = at::mm(factor.u.t().to(at::kDouble), factor.u.to(at::kDouble));
  EXPECT_LT(((got - inverse).norm() / inverse.norm()).item<double>(), 1e-4);
  for (int64_t i = 0; i < 160; ++i) EXPECT_NEAR(factor.importance[size_t(i)], hessian[i][i].item<float>() / 400, 1e-3f);
}

/// The recursion as Optimal Brain Quantization states it: after each column its row and column are eliminated from H^-1. float64, no factorization,
/// scales chosen from the same weights.
at::Tensor slow_recursion(const at::Tensor& weight, const at::Tensor& damped, const std::vector<float>& importance, GgmlType type) {
  const GridShape shape = grid_shape(type);
  const int64_t rows = weight.size(0), columns = weight.size(1), bytes = ggml_type_info(type).bytes;
  at::Tensor w = weight.to(at::kDouble).clone(), inverse = at::linalg_inv(damped), out = at::empty({rows, columns}, at::kFloat);
  std::vector<GridScales> scales(static_cast<size_t>(rows));
  for (int64_t c = 0; c < columns; ++c) {
    if (c % shape.block == 0) {
      const at::Tensor block = w.narrow(1, c, shape.block).to(at::kFloat).contiguous();
      std::vector<uint8_t> written(size_t(rows * bytes));
      for (int64_t r = 0; r < rows; ++r) {
        // A spread far above the values: weights are the importance alone.
        encode_run_plain({type, block.const_data_ptr<float>() + r * shape.block, importance.data() + c, 1e12f, written.data() + r * bytes, 1});
        read_grid_scales(type, written.data() + r * bytes, scales[size_t(r)]);
      }
    }
    const auto part = size_t(c % shape.block / shape.width);
    at::Tensor error = at::empty({rows}, at::kDouble);
    for (int64_t r = 0; r < rows; ++r) {
      const float value = w[r][c].item<float>();
      uint8_t code;
      float rounded;
      round_to_grid(type, &value, &scales[size_t(r)].step[part], &scales[size_t(r)].low[part], 1, &code, &rounded);
      out[r][c] = rounded;
      error[r] = (w[r][c].item<double>() - rounded) / inverse[c][c].item<double>();
    }
    w -= at::outer(error, inverse[c]);
    const at::Tensor row = inverse[c].clone();
    inverse.addr_(row, row / row[c], 1, -1);
  }
  return out;
}

TEST(Gptq, EqualsTheRecursionOfThePaper) {
  for (const GgmlType type : {GgmlType::q4_0, GgmlType::q5_1, GgmlType::q4_k}) {
    const int64_t columns = type == GgmlType::q4_k ? 512 : type == GgmlType::q4_0 ? 320 : 96;
    const at::Tensor x = correlated_inputs(3 * columns, columns, 5), weight = weights_of(6, columns, 7), hessian = at::mm(x.t(), x);
    const InverseFactor factor = inverse_factor(hessian.clone(), 3 * columns, 0.01);
    at::Tensor damped = hessian.to(at::kDouble);
    damped.diagonal().add_(0.01 * damped.diagonal().mean());
    const at::Tensor slow = slow_recursion(weight, damped, factor.importance, type);
    const at::Tensor fast = dequantize_tensor(gptq_tensor(weight, factor, type));
    // A tie that float32 breaks the other way changes what follows in its row: most of the codes are the same, and the error is.
    EXPECT_GT((slow == fast).to(at::kDouble).mean().item<double>(), 0.9) << ggml_type_info(type).name;
    EXPECT_NEAR(output_error(x, weight, fast) / output_error(x, weight, slow), 1, 0.05) << ggml_type_info(type).name;
  }
}

class GptqTypes : public testing::TestWithParam<GgmlType> {};

TEST_P(GptqTypes, LosesLessThanRoundingAndItsCodesAreReadable) {
  const GgmlType type = GetParam();
  const at::Tensor x = correlated_inputs(2048, 512, 5), weight = weights_of(70, 512, 7);
  const InverseFactor factor = inverse_factor(at::mm(x.t(), x), 2048, 0.01);
  const QuantizedTensor codes = gptq_tensor(weight, factor, type);
  EXPECT_EQ(codes.type, type);
  EXPECT_EQ(codes.blocks.size(1), ggml_row_bytes(type, 512));
  const double propagated = output_error(x, weight, dequantize_tensor(codes));
  const double rounded = output_error(x, weight, dequantize_tensor(quantize_tensor(weight, type, &factor.importance, Rounding::search)));
  EXPECT_LT(propagated, (type == GgmlType::tq1_0 || type == GgmlType::tq2_0 ? 1.0 : 0.7) * rounded);
}

INSTANTIATE_TEST_SUITE_P(Types, GptqTypes,
                         testing::Values(GgmlType::q4_0, GgmlType::q4_1, GgmlType::q5_0, GgmlType::q5_1, GgmlType::q8_0, GgmlType::iq4_nl,
                                         GgmlType::mxfp4, GgmlType::q2_k, GgmlType::q3_k, GgmlType::q4_k, GgmlType::q5_k, GgmlType::q6_k,
                                         GgmlType::tq1_0, GgmlType::tq2_0),
                         [](const auto& info) { return std::string(ggml_type_info(info.param).name); });

TEST(Gptq, IndependentColumnsAreRoundedAlone) {
  const at::Tensor weight = weights_of(5, 320, 9);
  const InverseFactor factor = inverse_factor(at::eye(320) * 7, 7, 0.01);
  const std::vector<float> flat(320, 1.0f);
  for (const GgmlType type : {GgmlType::q4_0, GgmlType::q5_1}) {
    const at::Tensor got = dequantize_tensor(gptq_tensor(weight, factor, type));
    const double alone = (weight - dequantize_tensor(quantize_tensor(weight, type, &flat))).square().sum().item<double>();
    EXPECT_NEAR((weight - got).square().sum().item<double>() / alone, 1, 0.05);
  }
}

TEST(Gptq, RaisesDampingAndGivesUpWhereNothingHelps) {
  // Two equal columns that never differ: singular without damping.
  at::Tensor x = correlated_inputs(64, 128, 4);
  x.select(1, 5).copy_(x.select(1, 6));
  EXPECT_TRUE(inverse_factor(at::mm(x.t(), x), 64, 0.01).u.defined());
  // A matrix that is a bit less than singular: the damping asked is not enough, ten or a hundred times that is.
  at::Tensor negative = at::mm(x.t(), x);
  negative.diagonal().sub_(0.03 * negative.diagonal().mean());
  const InverseFactor raised = inverse_factor(negative, 64, 0.001);
  ASSERT_TRUE(raised.u.defined());
  EXPECT_NEAR(raised.damping, 0.1, 1e-9);
  EXPECT_FALSE(inverse_factor(-at::eye(64), 64, 0.01).u.defined());
  EXPECT_FALSE(inverse_factor(at::full({64, 64}, std::numeric_limits<float>::quiet_NaN()), 64, 0.01).u.defined());
  // Columns that never saw an input keep their values.
  at::Tensor some = correlated_inputs(256, 64, 4);
  some.slice(1, 32).zero_();
  const at::Tensor weight = weights_of(4, 64, 2);
  const at::Tensor kept = dequantize_tensor(gptq_tensor(weight, inverse_factor(at::mm(some.t(), some), 256, 0.01), GgmlType::q8_0));
  EXPECT_LT((kept - weight).slice(1, 32).abs().max().item<double>(), 0.01 * weight.abs().max().item<double>());
}

TEST(Gptq, NotANumberIsAnError) {
  at::Tensor weight = weights_of(4, 64, 2);
  weight[1][3] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(gptq_tensor(weight, inverse_factor(at::eye(64), 1, 0.01), GgmlType::q4_0), Error);
}

/// A model of three layers and rows for it.
struct SolvedModel {
  Checkpoint model;
  TokenRows rows;
  std::map<std::string, GgmlType> types;
};
SolvedModel model_to_solve() {
  SolvedModel out;
  ModelSpec& spec = out.model.spec;
  spec.vocab = 96, spec.hidden = 64, spec.head_size = 16, spec.context = 64;
  spec.layers.assign(3, LayerSpec{.ffn = 160, .heads = 4, .kv_heads = 2});
  out.model.weights = Decoder::random(spec, 3).weights();
  for (auto& [name, tensor] : out.model.weights) tensor = tensor * 4;
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(8);
  out.rows.ids = at::randint(1, 96, {48, 32}, generator, at::kInt);
  out.rows.segments = at::zeros({48, 32}, at::kInt);
  out.rows.learn = at::ones({48, 32}, at::kByte);
  out.rows.lengths = at::full({48}, 32, at::kInt);
  out.types = plan_types(spec, "q4_0", false, true, false).types;
  // Grids without blocks, as a budget may choose them.
  out.types.at("model.layers.0.self_attn.v_proj.weight") = GgmlType::i8;
  out.types.at("model.layers.1.self_attn.k_proj.weight") = GgmlType::f16;
  return out;
}

/// Killed in the second layer, it goes on after the first, to the same codes; with another damping it begins anew.
TEST(Gptq, GoesOnAfterAKillToTheSameBytes) {
  const SolvedModel given = model_to_solve();
  const LayerWalkOptions options{.rows = 48, .batch = 8};
  const TestFolder folder;
  const auto solved = [&](StoppingGroup& group, double damping, const fs::path& kept) {
    Checkpoint copy = given.model;  // tensors are replaced, not written to
    const GptqReport report = gptq_checkpoint(copy, given.types, given.rows, options, damping, group, kept);
    return std::pair(std::move(copy), report);
  };
  StoppingGroup whole, killed(1 + 4 + 3), again, other, plain;
  const auto [expected, expected_report] = solved(whole, 0.01, {});
  EXPECT_EQ(whole.sums(), 1 + 3 * 4 + 1);  // tokens, four groups a layer, the output matrix
  EXPECT_THROW(solved(killed, 0.01, folder / "layers"), StoppingGroup::Killed);
  EXPECT_TRUE(fs::exists(folder / "layers" / "layer-0.safetensors"));
  EXPECT_FALSE(fs::exists(folder / "layers" / "layer-1.safetensors"));
  const auto [resumed, report] = solved(again, 0.01, folder / "layers");
  EXPECT_EQ(again.sums(), 1 + 2 * 4 + 1);
  EXPECT_EQ(report.highest_damping, expected_report.highest_damping);
  EXPECT_EQ(resumed.codes.size(), given.types.size());
  for (const auto& [name, codes] : expected.codes) {
    EXPECT_TRUE(at::equal(resumed.codes.at(name).blocks, codes.blocks)) << name;
    EXPECT_TRUE(at::equal(resumed.weights.at(name), expected.weights.at(name))) << name;
  }
  const auto [changed, changed_report] = solved(other, 0.02, folder / "layers");
  EXPECT_EQ(other.sums(), whole.sums());
  EXPECT_EQ(changed_report.highest_damping, 0.02);
}

/// Layer after layer: the model's hidden states stay nearer to the original's than by rounding; every weight is its codes' value.
TEST(Gptq, WholeModelKeepsItsHiddenStates) {
  const SolvedModel given = model_to_solve();
  const auto copied = [&] {
    Checkpoint copy = given.model;
    for (auto& [name, tensor] : copy.weights) tensor = tensor.clone();
    return copy;
  };
  Checkpoint rounded = copied(), propagated = copied();
  quantize_checkpoint(rounded, given.types, {}, Rounding::search);
  const auto group = single_process();
  const GptqReport report = gptq_checkpoint(propagated, given.types, given.rows, {.rows = 48, .batch = 8}, 0.01, *group);
  EXPECT_TRUE(report.rounded.empty());
  EXPECT_EQ(propagated.codes.size(), given.types.size());
  for (const auto& [name, codes] : propagated.codes) EXPECT_TRUE(at::equal(propagated.weights.at(name), dequantize_tensor(codes))) << name;
  const auto states = [&](const Checkpoint& m) {
    at::NoGradGuard no_grad;
    return Decoder(m.spec, m.weights).hidden({given.rows.ids.to(at::kLong), given.rows.segments, {}, {}});
  };
  const at::Tensor whole = states(given.model);
  const double by_rounding = (states(rounded) - whole).square().sum().item<double>();
  EXPECT_LT((states(propagated) - whole).square().sum().item<double>(), 0.9 * by_rounding);
}

}  // namespace
}  // namespace attar
