// Blocks of ggml on the GPU, one thread a block: the same inline functions as the CPU's specification, so the same bytes (--fmad=false).
#include "formats/ggml_types.h"
#include "blocks/blocks_32.h"
#include "blocks/blocks_decode.h"
#include "blocks/blocks_k_encode.h"
#include "blocks/blocks_ternary.h"
#include "kernels/cuda_launch.cuh"

namespace attar {
namespace {

constexpr int kBlockThreads = 128;

/// Weights and bytes of a block; 0 for types that have no kernel here.
struct BlockShape {
  int weights, bytes;
};
__host__ __device__ constexpr BlockShape block_shape(GgmlType type) {
  switch (type) {
    case GgmlType::q4_0: return {32, 18};
    case GgmlType::q4_1: return {32, 20};
    case GgmlType::q5_0: return {32, 22};
    case GgmlType::q5_1: return {32, 24};
    case GgmlType::q8_0: return {32, 34};
    case GgmlType::iq4_nl: return {32, 18};
    case GgmlType::q2_k: return {256, 84};
    case GgmlType::q3_k: return {256, 110};
    case GgmlType::q4_k: return {256, 144};
    case GgmlType::q5_k: return {256, 176};
    case GgmlType::q6_k: return {256, 210};
    case GgmlType::mxfp4: return {32, 17};
    case GgmlType::tq1_0: return {256, 54};
    case GgmlType::tq2_0: return {256, 66};
    default: return {0, 0};
  }
}

template <GgmlType type>
__device__ void encode_block(const float* x, uint8_t* out) {
  if constexpr (type == GgmlType::q8_0) encode_q8_0(x, out);
  if constexpr (type == GgmlType::q4_0) encode_symmetric(x, 8, out);
  if constexpr (type == GgmlType::q5_0) encode_symmetric(x, 16, out);
  if constexpr (type == GgmlType::q4_1) encode_affine(x, 15, out);
  if constexpr (type == GgmlType::q5_1) encode_affine(x, 31, out);
  if constexpr (type == GgmlType::mxfp4) encode_mxfp4(x, out);
  if constexpr (type == GgmlType::tq1_0) encode_tq1_0(x, out);
  if constexpr (type == GgmlType::tq2_0) encode_tq2_0(x, out);
  if constexpr (type == GgmlType::q2_k || type == GgmlType::q3_k || type == GgmlType::q4_k || type == GgmlType::q5_k || type == GgmlType::q6_k)
    encode_k(type, x, nullptr, out);
}

template <GgmlType type>
__device__ void decode_block(const uint8_t* in, float* out) {
  if constexpr (type == GgmlType::q8_0) decode_q8_0(in, out);
  if constexpr (type == GgmlType::q4_0) decode_symmetric(in, 8, out);
  if constexpr (type == GgmlType::q5_0) decode_symmetric(in, 16, out);
  if constexpr (type == GgmlType::q4_1) decode_affine(in, 15, out);
  if constexpr (type == GgmlType::q5_1) decode_affine(in, 31, out);
  if constexpr (type == GgmlType::iq4_nl) decode_iq4_nl(in, out);
  if constexpr (type == GgmlType::q2_k) decode_q2_k(in, out);
  if constexpr (type == GgmlType::q3_k) decode_q3_k(in, out);
  if constexpr (type == GgmlType::q4_k) decode_q45_k(in, nullptr, in + 16, out);
  if constexpr (type == GgmlType::q5_k) decode_q45_k(in, in + 16, in + 48, out);
  if constexpr (type == GgmlType::q6_k) decode_q6_k(in, out);
  if constexpr (type == GgmlType::mxfp4) decode_mxfp4(in, out);
  if constexpr (type == GgmlType::tq1_0) decode_tq1_0(in, out);
  if constexpr (type == GgmlType::tq2_0) decode_tq2_0(in, out);
}

template <GgmlType type>
__global__ void encode_kernel(const float* values, uint8_t* bytes, int64_t blocks) {
  constexpr BlockShape shape = block_shape(type);
  for (int64_t b = grid_first(); b < blocks; b += grid_step()) {
    float x[shape.weights];
    for (int i = 0; i < shape.weights; ++i) x[i] = values[b * shape.weights + i];
    encode_block<type>(x, bytes + b * shape.bytes);
  }
}

template <GgmlType type>
__global__ void decode_kernel(const uint8_t* bytes, float* values, int64_t blocks) {
  constexpr BlockShape shape = block_shape(type);
  for (int64_t b = grid_first(); b < blocks; b += grid_step()) decode_block<type>(bytes + b * shape.bytes, values + b * shape.weights);
}

template <GgmlType type>
__global__ void fake_kernel(const float* values, float* out, int64_t blocks) {
  constexpr BlockShape shape = block_shape(type);
  for (int64_t b = grid_first(); b < blocks; b += grid_step()) {
    float x[shape.weights];
    uint8_t block[shape.bytes];
    for (int i = 0; i < shape.weights; ++i) x[i] = values[b * shape.weights + i];
    encode_block<type>(x, block);
    decode_block<type>(block, x);
    for (int i = 0; i < shape.weights; ++i) out[b * shape.weights + i] = x[i];
  }
}

/// One thread a block, in this part's usual shape.
template <class Kernel, class... Words>
const char* launch_blocks(Kernel kernel, void* stream, int64_t blocks, Words... words) {
  kernel<<<cuda_grid(blocks, kBlockThreads), kBlockThreads, 0, cuda_stream(stream)>>>(words..., blocks);
  return cuda_launched();
}

constexpr const char* kNoKernel = "the CUDA part has no kernel for this ggml type";

/// Calls run with the type as a template argument.
template <bool decode_only, class Run>
const char* with_type(int32_t number, Run run) {
  switch (static_cast<GgmlType>(number)) {
    case GgmlType::q4_0: return run.template operator()<GgmlType::q4_0>();
    case GgmlType::q4_1: return run.template operator()<GgmlType::q4_1>();
    case GgmlType::q5_0: return run.template operator()<GgmlType::q5_0>();
    case GgmlType::q5_1: return run.template operator()<GgmlType::q5_1>();
    case GgmlType::q8_0: return run.template operator()<GgmlType::q8_0>();
    case GgmlType::q2_k: return run.template operator()<GgmlType::q2_k>();
    case GgmlType::q3_k: return run.template operator()<GgmlType::q3_k>();
    case GgmlType::q4_k: return run.template operator()<GgmlType::q4_k>();
    case GgmlType::q5_k: return run.template operator()<GgmlType::q5_k>();
    case GgmlType::q6_k: return run.template operator()<GgmlType::q6_k>();
    case GgmlType::mxfp4: return run.template operator()<GgmlType::mxfp4>();
    case GgmlType::tq1_0: return run.template operator()<GgmlType::tq1_0>();
    case GgmlType::tq2_0: return run.template operator()<GgmlType::tq2_0>();
    default: break;
  }
  if constexpr (decode_only)
    if (static_cast<GgmlType>(number) == GgmlType::iq4_nl) return run.template operator()<GgmlType::iq4_nl>();
  return kNoKernel;
}

}  // namespace
}  // namespace attar

const char* attar_cuda_quantize(int32_t type, const float* values, uint8_t* bytes, int64_t blocks, void* stream) {
  return attar::with_type<false>(type, [=]<attar::GgmlType known>() {
    return attar::launch_blocks(attar::encode_kernel<known>, stream, blocks, values, bytes);
  });
}

const char* attar_cuda_dequantize(int32_t type, const uint8_t* bytes, float* values, int64_t blocks, void* stream) {
  return attar::with_type<true>(type, [=]<attar::GgmlType known>() {
    return attar::launch_blocks(attar::decode_kernel<known>, stream, blocks, bytes, values);
  });
}

const char* attar_cuda_fake_quantize(int32_t type, const float* values, float* out, int64_t blocks, void* stream) {
  return attar::with_type<false>(type, [=]<attar::GgmlType known>() {
    return attar::launch_blocks(attar::fake_kernel<known>, stream, blocks, values, out);
  });
}
