#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <omp.h>

#include "base/check.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

namespace attar {
namespace {

at::Generator ops_generator(uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(seed);
  return generator;
}
at::Tensor ops_random(at::IntArrayRef shape, uint64_t seed) { return at::randn(shape, ops_generator(seed)); }

/// Largest difference of `a` from the float64 value `b`, relative to b's largest.
double relative_error(const at::Tensor& a, const at::Tensor& b) {
  return ((a.to(at::kDouble) - b).abs().max() / b.abs().max().clamp_min(1e-30)).item<double>();
}

const std::vector<int64_t> kWidths{1, 7, 16, 33, 64, 130, 256};

TEST(RmsNorm, EqualsFloat64) {
  for (int64_t width : kWidths)
    for (double offset : {0.0, 1.0}) {
      const at::Tensor x = ops_random({3, 50, width}, 1), w = ops_random({width}, 2), g = ops_random({3, 50, width}, 3);
      const at::Tensor wide = x.to(at::kDouble).requires_grad_(true), weight = w.to(at::kDouble).requires_grad_(true);
      const at::Tensor expected = wide * at::rsqrt(wide.square().mean(-1, true) + 1e-5) * (weight + offset);
      expected.backward(g.to(at::kDouble));
      const RmsNormResult result = rms_norm(x, w, 1e-5, offset);
      const auto [dx, dw] = rms_norm_backward(g, x, w, result.rstd, offset);
      EXPECT_LT(relative_error(result.y, expected.detach()), 1e-6) << width;
      EXPECT_LT(relative_error(dx, wide.grad()), 3e-6) << width;
      EXPECT_LT(relative_error(dw, weight.grad()), 3e-6) << width;
      EXPECT_LT(relative_error(rms_norm_plain(x, w, 1e-5, offset), expected.detach()), 1e-6);
    }
  EXPECT_THROW(rms_norm(at::ones({2, 3}), at::ones({4}), 1e-5, 0), Error);
}

TEST(RmsNorm, OtherTypesTakeThePlainWay) {
  const at::Tensor x = ops_random({4, 32}, 4).to(at::kBFloat16), w = ops_random({32}, 5);
  const RmsNormResult result = rms_norm(x, w, 1e-5, 0);
  EXPECT_EQ(result.y.scalar_type(), at::kBFloat16);
  EXPECT_LT(relative_error(result.y, rms_norm_plain(x.to(at::kFloat), w, 1e-5, 0).to(at::kDouble)), 1e-2);
}

TEST(Rope, EqualsFloat64AndTurnsBack) {
  for (int64_t half : {1, 3, 8, 16}) {
    const at::Tensor x = ops_random({2, 9, 3, 32}, 6), angles = ops_random({9, half}, 7);
    at::Tensor turned = x.clone();
    rotate_(turned, angles.cos(), angles.sin(), false);
    const at::Tensor wide = rotate_plain(x.to(at::kDouble), angles.cos(), angles.sin(), false);
    EXPECT_LT(relative_error(turned, wide.to(at::kDouble)), 1e-6);
    EXPECT_TRUE(at::equal(turned.narrow(3, 2 * half, 32 - 2 * half), x.narrow(3, 2 * half, 32 - 2 * half)));
    EXPECT_GT(relative_error(turned, x.to(at::kDouble)), 1e-2);
    rotate_(turned, angles.cos(), angles.sin(), true);
    EXPECT_LT(relative_error(turned, x.to(at::kDouble)), 1e-6);
    // One row of angles per sequence.
    const at::Tensor own = ops_random({2, 9, half}, 8);
    at::Tensor apart = x.clone();
    rotate_(apart, own.cos(), own.sin(), false);
    EXPECT_LT(relative_error(apart, rotate_plain(x, own.cos(), own.sin(), false).to(at::kDouble)), 1e-6);
  }
  at::Tensor x = at::ones({1, 2, 1, 8});
  EXPECT_THROW(rotate_(x, at::ones({3, 4}), at::ones({3, 4}), false), Error);
  EXPECT_THROW(rotate_(x, at::ones({2, 5}), at::ones({2, 5}), false), Error);
}

TEST(Gated, EqualsFloat64) {
  for (const char* name : {"silu", "gelu_tanh", "gelu"}) {
    const GateActivation activation = gate_activation_named(name);
    const at::Tensor gate = ops_random({5, 1003}, 9) * 4, up = ops_random({5, 1003}, 10), g = ops_random({5, 1003}, 11);
    const at::Tensor wide = gate.to(at::kDouble).requires_grad_(true), other = up.to(at::kDouble).requires_grad_(true);
    const at::Tensor expected = gated_plain(wide, other, activation);
    expected.backward(g.to(at::kDouble));
    EXPECT_LT(relative_error(gated(gate, up, activation), expected.detach()), 1e-6) << name;
    const auto [dgate, dup] = gated_backward(g, gate, up, activation);
    EXPECT_LT(relative_error(dgate, wide.grad()), 1e-6) << name;
    EXPECT_LT(relative_error(dup, other.grad()), 1e-6) << name;
  }
  EXPECT_THROW(gate_activation_named("relu"), Error);
  EXPECT_THROW(gated(at::ones({2}), at::ones({3}), GateActivation::silu), Error);
}

TEST(Gated, FarValuesStayFinite) {
  const at::Tensor gate = at::tensor({-1e30f, -200.0f, -88.0f, 0.0f, 88.0f, 200.0f, 1e30f}), up = at::ones({7});
  const at::Tensor y = gated(gate, up, GateActivation::silu);
  // Far below zero the sigmoid stays at the smallest value that its exponential gives, 5e-39, instead of vanishing.
  const at::Tensor exact = gated_plain(gate.to(at::kDouble), up.to(at::kDouble), GateActivation::silu);
  EXPECT_TRUE((y.to(at::kDouble) - exact).abs().le(exact.abs() * 1e-6 + gate.to(at::kDouble).abs() * 1e-38).all().item<bool>());
  const auto [dgate, dup] = gated_backward(at::ones({7}), gate, up, GateActivation::silu);
  EXPECT_TRUE(at::isfinite(dgate).all().item<bool>());
  EXPECT_TRUE(at::equal(dup, y));
}

TEST(DecoderOps, ThreadsDoNotChangeBits) {
  const int before = omp_get_max_threads();
  std::vector<at::Tensor> results;
  for (int threads : {1, 2, 5}) {
    omp_set_num_threads(threads);
    const at::Tensor x = ops_random({1000, 100}, 12), w = ops_random({100}, 13), g = ops_random({1000, 100}, 14);
    const RmsNormResult normed = rms_norm(x, w, 1e-5, 0);
    const auto [dx, dw] = rms_norm_backward(g, x, w, normed.rstd, 0);
    const auto [dgate, dup] = gated_backward(g, x, normed.y, GateActivation::silu);
    results.push_back(at::cat({normed.y.flatten(), dx.flatten(), dw, gated(x, g, GateActivation::silu).flatten(), dgate.flatten(), dup.flatten()}));
  }
  omp_set_num_threads(before);
  EXPECT_TRUE(at::equal(results[0], results[1]));
  EXPECT_TRUE(at::equal(results[0], results[2]));
}

}  // namespace
}  // namespace attar
