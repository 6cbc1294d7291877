// The arithmetic that CUDA kernels share with the host equals the CPU's specification; teams of threads stand for thread blocks.
#include <ATen/ATen.h>

#include <barrier>
#include <thread>

#include "base/check.h"
#include "kernels/cuda_grids.h"
#include "kernels/cuda_cases.h"
#include "blocks/blocks_32.h"
#include "blocks/blocks_decode.h"
#include "blocks/blocks_k_encode.h"
#include "blocks/blocks_ternary.h"
#include "kernels/decoder_math.h"
#include "kernels/decoder_rows.h"
#include "blocks/ggml_blocks.h"
#include "kernels/loss_row.h"

namespace attar {
namespace {

/// A team of host threads with a thread block's rules.
struct TeamRoom {
  explicit TeamRoom(int count) : gate(count), cells(static_cast<size_t>(count)) {}
  std::barrier<> gate;
  std::vector<double> cells;
};
struct ThreadTeam {
  int rank, size;
  TeamRoom& room;
  void sync() { room.gate.arrive_and_wait(); }
  void share(double value) {
    sync();
    room.cells[static_cast<size_t>(rank)] = value;
    sync();
  }
  double sum(double value) {
    share(value);
    double total = 0;
    for (double cell : room.cells) total += cell;
    return total;
  }
  float max(float value) {
    share(value);
    return static_cast<float>(*std::max_element(room.cells.begin(), room.cells.end()));
  }
};

/// Calls work(team) in every member of a team.
template <class Work>
void in_team(int size, Work work) {
  TeamRoom room(size);
  std::vector<std::thread> members;
  for (int rank = 0; rank < size; ++rank)
    members.emplace_back([&, rank] {
      ThreadTeam team{rank, size, room};
      work(team);
    });
  for (std::thread& member : members) member.join();
}

TEST(CudaArithmetic, LossRowsEqualTheFormulas) {
  for (const LossRowsCase& one : loss_rows_cases()) {
    SCOPED_TRACE(one.name);
    for (int size : {1, 3}) {
      for (bool gradients : {true, false}) {
        if (!gradients && size > 1) continue;
        const auto [values, slopes] = one.gaps(
            [&](AttarLossRows& job) {
              in_team(size, [&](ThreadTeam& team) {
                for (int64_t r = 0; r < job.rows; ++r) loss_row_of_team(job, r, team);
              });
            },
            gradients);
        EXPECT_LT(values, 2e-6) << "team of " << size;
        EXPECT_LT(slopes, 2e-6) << "team of " << size;
      }
    }
  }
}

TEST(CudaArithmetic, AnIdTwiceBesideATailIsTold) {
  LossRowsCase one;
  one.teacher = LossRowsCase::Teacher::sparse;
  one.terms = {.kl = 1, .temperature = 1};
  one.k = 9, one.tail = true, one.repeated = true;
  LoneTeam team;
  one.gaps([&](AttarLossRows& job) { for (int64_t r = 0; r < job.rows; ++r) loss_row_of_team(job, r, team); }, false);
}

TEST(CudaArithmetic, DecoderRowsEqualTheCpus) {
  for (int64_t width : {1, 31, 130, 1024}) {
    SCOPED_TRACE(width);
    const std::vector<float> x = cuda_case_noise(width, 1), w = cuda_case_noise(width, 2), dy = cuda_case_noise(width, 3);
    const auto n = static_cast<size_t>(width);
    std::vector<float> y(n), expected(n), dx(n), expected_dx(n), expected_dw(n, 0.0f), other(n), expected_other(n);
    const float r = rms_norm_row(x.data(), w.data(), expected.data(), width, 1e-5f, 1.0f);
    for (size_t i = 0; i < n; ++i) EXPECT_EQ(norm_value(x[i], r, w[i], 1.0f), expected[i]);
    rms_norm_backward_row(dy.data(), x.data(), w.data(), r, 1.0f, expected_dx.data(), expected_dw.data(), width);
    for (size_t i = 0; i < n; ++i) EXPECT_EQ(norm_weight_slope(dy[i], x[i], r), expected_dw[i]);
    // Sums in another order: within a few units in the last place.
    for (int size : {1, 4}) {
      in_team(size, [&](ThreadTeam& team) {
        const float factor = norm_row_of_team(x.data(), w.data(), y.data(), width, 1e-5f, 1.0f, team);
        if (team.rank == 0) {
          EXPECT_NEAR(factor / r, 1, 1e-6);
        }
        norm_backward_row_of_team(dy.data(), x.data(), w.data(), r, 1.0f, dx.data(), width, team);
      });
      for (size_t i = 0; i < n; ++i) {
        EXPECT_NEAR(y[i], expected[i], 1e-6 * std::abs(expected[i]));
        EXPECT_NEAR(dx[i], expected_dx[i], 2e-6 * r * 4);
      }
    }
    swiglu_row(x.data(), w.data(), expected.data(), width);
    for (size_t i = 0; i < n; ++i) EXPECT_EQ(swiglu_value(x[i], w[i]), expected[i]);
    swiglu_backward_row(dy.data(), x.data(), w.data(), expected.data(), expected_other.data(), width);
    for (size_t i = 0; i < n; ++i) {
      swiglu_slopes(dy[i], x[i], w[i], y[i], other[i]);
      EXPECT_EQ(y[i], expected[i]);
      EXPECT_EQ(other[i], expected_other[i]);
    }
  }
  std::vector<float> heads = cuda_case_noise(3 * 10, 4), expected = heads;
  const std::vector<float> cos = cuda_case_noise(4, 5), sin = cuda_case_noise(4, 6);
  for (float sign : {1.0f, -1.0f}) {
    rotate_row(expected.data(), 3, 10, 4, cos.data(), sin.data(), sign);
    for (size_t h = 0; h < 3; ++h)
      for (size_t i = 0; i < 4; ++i) rotate_pair(heads[h * 10 + i], heads[h * 10 + i + 4], cos[i], sign * sin[i]);
    EXPECT_EQ(heads, expected);
  }
}

TEST(CudaArithmetic, BlocksEqualTheRows) {
  constexpr int64_t kBlocks = 64;
  std::vector<float> x = cuda_case_noise(32 * kBlocks, 7);
  for (int i = 0; i < 32; ++i) x[static_cast<size_t>(i)] = 0;  // an empty block
  const auto check_type = [&](GgmlType type, auto encode, auto decode) {
    const auto bytes = static_cast<size_t>(ggml_type_info(type).bytes);
    std::vector<uint8_t> expected(bytes * kBlocks), block(bytes);
    quantize_rows(type, x.data(), expected.data(), 1, 32 * kBlocks);
    std::vector<float> values(32 * kBlocks), out(32);
    dequantize_rows(type, expected.data(), values.data(), 1, 32 * kBlocks);
    for (size_t b = 0; b < kBlocks; ++b) {
      encode(x.data() + 32 * b, block.data());
      EXPECT_TRUE(std::equal(block.begin(), block.end(), expected.begin() + static_cast<int64_t>(bytes * b))) << "block " << b;
      decode(block.data(), out.data());
      EXPECT_TRUE(std::equal(out.begin(), out.end(), values.begin() + static_cast<int64_t>(32 * b))) << "block " << b;
    }
  };
  check_type(GgmlType::q8_0, encode_q8_0, decode_q8_0);
  check_type(GgmlType::q4_0, [](const float* in, uint8_t* out) { encode_symmetric(in, 8, out); },
             [](const uint8_t* in, float* out) { decode_symmetric(in, 8, out); });
  check_type(GgmlType::q5_0, [](const float* in, uint8_t* out) { encode_symmetric(in, 16, out); },
             [](const uint8_t* in, float* out) { decode_symmetric(in, 16, out); });
  check_type(GgmlType::q4_1, [](const float* in, uint8_t* out) { encode_affine(in, 15, out); },
             [](const uint8_t* in, float* out) { decode_affine(in, 15, out); });
  check_type(GgmlType::q5_1, [](const float* in, uint8_t* out) { encode_affine(in, 31, out); },
             [](const uint8_t* in, float* out) { decode_affine(in, 31, out); });
  check_type(GgmlType::mxfp4, encode_mxfp4, decode_mxfp4);
}

/// What a kernel's thread does with a block, of every type that the CUDA part rounds to: rows as quantize_rows' vector code makes them.
TEST(CudaArithmetic, FakeQuantizationGivesTheFilesValues) {
  CudaCalls calls = {};
  calls.fake_quantize = [](int32_t number, const float* values, float* out, int64_t blocks, void*) -> const char* {
    const auto type = static_cast<GgmlType>(number);
    const int64_t width = ggml_type_info(type).block;
    for (int64_t b = 0; b < blocks; ++b) {
      uint8_t block[256];
      const float* x = values + b * width;
      switch (type) {
        case GgmlType::q4_0: encode_symmetric(x, 8, block); break;
        case GgmlType::q5_0: encode_symmetric(x, 16, block); break;
        case GgmlType::q4_1: encode_affine(x, 15, block); break;
        case GgmlType::q5_1: encode_affine(x, 31, block); break;
        case GgmlType::q8_0: encode_q8_0(x, block); break;
        case GgmlType::mxfp4: encode_mxfp4(x, block); break;
        case GgmlType::tq1_0: encode_tq1_0(x, block); break;
        case GgmlType::tq2_0: encode_tq2_0(x, block); break;
        default: encode_k(type, x, nullptr, block);
      }
      dequantize_rows_plain(type, block, out + b * width, 1, width);
    }
    return nullptr;
  };
  std::vector<float> x = cuda_case_noise(24 * 512, 9);
  for (size_t i = 0; i < 256; ++i) x[i] = 0;
  const at::Tensor weight = at::tensor(x).view({24, 512});
  int64_t types = 0;
  for (const GgmlTypeInfo& info : ggml_types()) {
    if (!info.quantized || info.type == GgmlType::iq4_nl) continue;  // iq4_nl: tests/quant/cuda_grids_test.cc
    ++types;
    at::Tensor blocks = at::empty({24, ggml_row_bytes(info.type, 512)}, at::kByte), expected = at::empty_like(weight);
    quantize_rows(info.type, weight.const_data_ptr<float>(), blocks.data_ptr<uint8_t>(), 24, 512);
    dequantize_rows(info.type, blocks.const_data_ptr<uint8_t>(), expected.data_ptr<float>(), 24, 512);
    EXPECT_TRUE(at::equal(fake_quantize_by(calls, info.type, weight), expected)) << info.name;
    EXPECT_THROW(fake_quantize_by(calls, info.type, at::ones({4, 48})), Error) << info.name;
  }
  EXPECT_EQ(types, 13);
  EXPECT_TRUE(cuda_rounds_to(GgmlType::iq4_nl));
  EXPECT_TRUE(cuda_rounds_to(GgmlType::i8));
  EXPECT_FALSE(cuda_rounds_to(GgmlType::f16));
}

}  // namespace
}  // namespace attar
