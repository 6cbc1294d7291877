// What tensors of a GPU go through but the launch: marshalling and dispatch, run on the host with the CUDA part's own arithmetic in its place.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "kernels/cuda_calls.h"
#include "kernels/decoder_math.h"
#include "kernels/loss_row.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

namespace attar {
namespace {

template <class Work>
const char* host_rows(int32_t type, Work work) {
  if (type == kAttarFloat32) work(static_cast<float*>(nullptr));
  else work(static_cast<Brain16*>(nullptr));
  return nullptr;
}

const char* host_norm(int32_t type, const void* x, const float* w, void* y, float* rstd, int64_t rows, int64_t width, float eps, float offset,
                      void*) {
  return host_rows(type, [&]<class V>(V*) {
    LoneTeam team;
    for (int64_t r = 0; r < rows; ++r)
      rstd[r] = norm_row_of_team(static_cast<const V*>(x) + r * width, w, static_cast<V*>(y) + r * width, width, eps, offset, team);
  });
}
const char* host_norm_backward(int32_t type, const void* dy, const void* x, const float* w, const float* rstd, void* dx, float* partial, float* dw,
                               int64_t rows, int64_t width, float offset, void*) {
  return host_rows(type, [&]<class V>(V*) {
    LoneTeam team;
    const auto *g = static_cast<const V*>(dy), *from = static_cast<const V*>(x);
    for (int64_t r = 0; r < rows; ++r)
      norm_backward_row_of_team(g + r * width, from + r * width, w, rstd[r], offset, static_cast<V*>(dx) + r * width, width, team);
    std::fill_n(dw, width, 0.0f);
    for (int64_t part = 0; part * kNormPartRows < rows; ++part)
      for (int64_t column = 0; column < width; ++column) {
        partial[part * width + column] =
            norm_weight_part(g, from, rstd, part * kNormPartRows, std::min(rows, (part + 1) * kNormPartRows), width, column);
        dw[column] += partial[part * width + column];
      }
  });
}
const char* host_rotate(int32_t type, void* x, const float* cos, const float* sin, int64_t rows, int64_t positions, int64_t heads, int64_t size,
                        int64_t half, float sign, void*) {
  return host_rows(type, [&]<class V>(V*) {
    for (int64_t at = 0; at < rows * heads * half; ++at) rotate_one(static_cast<V*>(x), cos, sin, positions, heads, size, half, sign, at);
  });
}
const char* host_swiglu(int32_t type, const void* gate, const void* up, void* y, int64_t count, void*) {
  return host_rows(type, [&]<class V>(V*) {
    for (int64_t i = 0; i < count; ++i) swiglu_one(static_cast<const V*>(gate), static_cast<const V*>(up), static_cast<V*>(y), i);
  });
}
const char* host_swiglu_backward(int32_t type, const void* dy, const void* gate, const void* up, void* dgate, void* dup, int64_t count, void*) {
  return host_rows(type, [&]<class V>(V*) {
    for (int64_t i = 0; i < count; ++i)
      swiglu_slopes_one(static_cast<const V*>(dy), static_cast<const V*>(gate), static_cast<const V*>(up), static_cast<V*>(dgate),
                        static_cast<V*>(dup), i);
  });
}
const char* host_loss_rows(const AttarLossRows* job, void*) {
  LoneTeam team;
  for (int64_t r = 0; r < job->rows; ++r) loss_row_of_team(*job, r, team);
  return nullptr;
}
const char* refused_loss_rows(const AttarLossRows*, void*) { return "an illegal memory access was encountered"; }

const CudaCalls kHostCalls = {host_norm, host_norm_backward, host_rotate, host_swiglu, host_swiglu_backward, host_loss_rows};

double gap_of(const at::Tensor& got, const at::Tensor& expected) {
  const at::Tensor e = expected.to(at::kDouble);
  return ((got.to(at::kDouble) - e).abs().max() / e.abs().max().clamp_min(1e-30)).item<double>();
}

/// Loosest agreement with float32: bfloat16 keeps 8 bits.
double room_of(at::ScalarType type) { return type == at::kBFloat16 ? 1e-2 : 1e-5; }

TEST(CudaCalls, DecoderOperationsEqualThePlainOnes) {
  at::manual_seed(3);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    SCOPED_TRACE(c10::toString(type));
    const at::Tensor x = at::randn({3, 100, 48}).to(type), dy = at::randn({3, 100, 48}).to(type), w = at::randn({48});
    ASSERT_TRUE(cuda_takes({x, dy}));
    const auto [y, rstd] = rms_norm_by(kHostCalls, x, w, 1e-5, 1.0);
    const at::Tensor wide = x.to(at::kFloat), wide_dy = dy.to(at::kFloat);
    EXPECT_EQ(y.scalar_type(), type);
    EXPECT_LT(gap_of(y, rms_norm_plain(wide, w, 1e-5, 1.0)), room_of(type));
    const auto [dx, dw] = rms_norm_backward_by(kHostCalls, dy, x, w, rstd, 1.0);
    const RmsNormResult cpu = rms_norm(wide, w, 1e-5, 1.0);
    const auto [cpu_dx, cpu_dw] = rms_norm_backward(wide_dy, wide, w, cpu.rstd, 1.0);
    EXPECT_LT(gap_of(rstd, cpu.rstd), 1e-6);
    EXPECT_LT(gap_of(dx, cpu_dx), room_of(type));
    EXPECT_LT(gap_of(dw, cpu_dw), 1e-5) << "the weight's sums are float32 whatever the rows are";

    const at::Tensor up = at::randn({3, 100, 48}).to(type);
    EXPECT_LT(gap_of(swiglu_by(kHostCalls, x, up), gated_plain(wide, up.to(at::kFloat), GateActivation::silu)), room_of(type));
    const auto [dgate, dup] = swiglu_backward_by(kHostCalls, dy, x, up);
    const auto [cpu_dgate, cpu_dup] = gated_backward(wide_dy, wide, up.to(at::kFloat), GateActivation::silu);
    EXPECT_LT(gap_of(dgate, cpu_dgate), room_of(type));
    EXPECT_LT(gap_of(dup, cpu_dup), room_of(type));

    // Angles of each position, and of each row's own positions.
    for (const std::vector<int64_t>& angles : {std::vector<int64_t>{100, 4}, std::vector<int64_t>{3, 100, 4}}) {
      const at::Tensor turn = at::randn(angles), cos = turn.cos(), sin = turn.sin(), heads = x.view({3, 100, 4, 12});
      at::Tensor turned = heads.clone();
      rotate_by(kHostCalls, turned, cos, sin, false);
      EXPECT_TRUE(at::equal(turned, rotate_plain(heads, cos, sin, false))) << "one rounding at the end, as in the plain version";
      rotate_by(kHostCalls, turned, cos, sin, true);
      EXPECT_LT(gap_of(turned, heads), 2 * room_of(type));
    }
  }
  EXPECT_FALSE(cuda_takes({at::ones({2}, at::kDouble)}));
  EXPECT_FALSE(cuda_takes({at::ones({2, 3}).t()}));
  EXPECT_FALSE(cuda_takes({at::ones({2}), at::ones({2}, at::kBFloat16)}));
}

/// A GPU's engine with the launch replaced.
LossEngine host_engine(at::ScalarType hidden) {
  LossEngine engine = loss_engine(at::Device(at::kCUDA, 0), hidden);
  engine.rows = [](LossRows& rows, const LossWeights& weights, bool gradients) { return loss_rows_by(kHostCalls, rows, weights, gradients); };
  engine.least_room = engine.most_room = 64 << 10;  // several chunks
  return engine;
}

struct EngineProblem {
  at::Tensor hidden, weight, labels, row_weights;
  LogitTargets targets;
  LossWeights weights;
};

EngineProblem engine_problem(LogitTargets::Kind kind, bool tail) {
  at::manual_seed(5);
  constexpr int64_t kRows = 90, kVocab = 203;
  EngineProblem p{at::randn({kRows, 24}), at::randn({kVocab + 5, 24}) * 0.3, at::randint(kVocab, {kRows}, at::kLong), at::rand({kRows}), {}, {}};
  p.labels.slice(0, 0, kRows, 7).fill_(-100);
  p.weights = LossWeights{.kl = 0.6, .ce = 0.4, .temperature = 2};
  p.targets.kind = kind;
  if (kind == LogitTargets::Kind::none) p.weights = LossWeights{.ce = 1};
  if (kind == LogitTargets::Kind::live) {
    p.targets.hidden = at::randn({kRows, 16}), p.targets.weight = at::randn({kVocab, 16}) * 0.3, p.targets.softcap = 20;
    p.weights.jsd = 0.3;
  }
  if (kind == LogitTargets::Kind::dense) p.targets.log_probs = at::log_softmax(at::randn({kRows, kVocab}), 1);
  if (kind == LogitTargets::Kind::sparse) {
    p.targets.ids = std::get<1>(at::rand({kRows, kVocab}).topk(9, 1)).to(at::kInt);
    p.targets.probs = at::rand({kRows, 9}) / 9;
    if (tail) p.targets.tail = 1 - p.targets.probs.sum(1);
  }
  return p;
}

TEST(CudaCalls, TheFusedLossOfAGpuEqualsThePlainOne) {
  using Kind = LogitTargets::Kind;
  for (const auto& [kind, tail] :
       {std::pair{Kind::none, false}, {Kind::live, false}, {Kind::dense, false}, {Kind::sparse, false}, {Kind::sparse, true}})
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
      for (const auto& [gradients, rows_given] : {std::pair{true, false}, {false, false}, {true, true}}) {
        SCOPED_TRACE(str(static_cast<int>(kind), tail, c10::toString(type), gradients, rows_given));
        EngineProblem p = engine_problem(kind, tail);
        p.hidden = p.hidden.to(type);
        // The weights stay float32, as in training: bfloat16 is how they are multiplied.
        const LossEngine engine = host_engine(type);
        EXPECT_EQ(engine.brain_products, type == at::kBFloat16);
        // Rows that are given: all of them, also those without a label.
        const at::Tensor rows = rows_given ? at::arange(p.labels.size(0)) : at::Tensor();
        const LinearLossJob job = check_linear_loss(p.hidden, p.weight, p.targets, p.labels, p.row_weights, p.weights, 30, 203, gradients, rows);
        const LinearLossResult got = linear_loss_by(engine, job);
        const LinearLossResult plain =
            linear_loss_plain(p.hidden.to(at::kFloat), p.weight, p.targets, p.labels, p.row_weights, p.weights, 30, 203, gradients);
        const double room = type == at::kBFloat16 ? 2e-2 : 1e-5;
        EXPECT_LT(gap_of(got.loss, plain.loss), room);
        EXPECT_LT(gap_of(got.terms, plain.terms), room);
        if (!gradients) continue;
        EXPECT_EQ(got.grad_hidden.scalar_type(), type);
        EXPECT_EQ(got.grad_weight.scalar_type(), at::kFloat) << "the weight's gradient is summed in float32";
        EXPECT_LT(gap_of(got.grad_hidden, plain.grad_hidden), room);
        EXPECT_LT(gap_of(got.grad_weight, plain.grad_weight), room);
      }
}

TEST(CudaCalls, ProductsOfBrain16SumInFloat32) {
  // 4,096 ones and a value that bfloat16's sum would lose.
  at::Tensor out = at::full({1, 8}, 0.5f);
  const at::Tensor a = at::ones({1, 4097}).to(at::kBFloat16), b = at::ones({4097, 8}).to(at::kBFloat16);
  brain_product_into(out, a, b, true);
  EXPECT_EQ(out[0][3].item<float>(), 4097.5f);
  brain_product_into(out, a, b);
  EXPECT_EQ(out[0][3].item<float>(), 4097.0f);
}

TEST(CudaCalls, AChunkOfAGpuKeepsToItsRoom) {
  const LossEngine engine = loss_engine(at::Device(at::kCUDA, 0), at::kBFloat16);
  EXPECT_LE(engine.most_room, double(512 << 20));
  EXPECT_EQ(engine.rows_step, 128);
  EXPECT_TRUE(engine.brain_products);
  EXPECT_FALSE(loss_engine(at::Device(at::kCUDA, 0), at::kFloat).brain_products);
  EXPECT_FALSE(loss_engine(at::kCPU, at::kBFloat16).brain_products);
}

TEST(CudaCalls, WhatCudaSaysIsASentence) {
  CudaCalls calls = kHostCalls;
  calls.loss_rows = refused_loss_rows;
  LossRows rows;
  rows.logits = at::zeros({2, 5}), rows.labels = at::zeros({2}, at::kLong);
  try {
    loss_rows_by(calls, rows, LossWeights{.ce = 1}, false);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("illegal memory access"), std::string::npos) << error.what();
  }
}

TEST(CudaCalls, AnIdTwiceBesideATailMakesTheLossNoNumber) {
  LossRows rows;
  rows.logits = at::zeros({1, 5}), rows.labels = at::zeros({1}, at::kLong);
  rows.ids = at::tensor({1, 1}, at::kInt).view({1, 2}), rows.probs = at::full({1, 2}, 0.4f), rows.tail = at::full({1}, 0.2f);
  EXPECT_TRUE(loss_rows_by(kHostCalls, rows, LossWeights{.kl = 1}, false).loss.isnan().item<bool>());
}

}  // namespace
}  // namespace attar
