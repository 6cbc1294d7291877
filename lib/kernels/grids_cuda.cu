// Fake quantization beside scales that are kept or learned, int8 rows, and rounding with importance, on the GPU: the same inline functions as the
// CPU's, so the same bits (--fmad=false).
#include "blocks/blocks_32_searched.h"
#include "blocks/blocks_k_encode.h"
#include "kernels/cuda_launch.cuh"
#include "kernels/grid_math.h"

namespace attar {
namespace {

constexpr int kGridThreads = 128;

/// Value of weight i beside the scale of its part, which `scale(block, part)` gives.
template <class Scale>
__device__ void round_weights(GgmlType type, const float* values, float* out, int64_t count, Scale scale) {
  const GridShape shape = grid_shape_or_none(type);
  for (int64_t i = grid_first(); i < count; i += grid_step())
    out[i] = rounded_value(type, shape, values[i], scale(i / shape.block, int(i % shape.block) / shape.width));
}

__global__ void round_kept_kernel(GgmlType type, const float* values, const uint8_t* blocks, int bytes, float* out, int64_t count) {
  round_weights(type, values, out, count, [=](int64_t block, int part) { return part_scale(type, blocks + block * bytes, part); });
}

__global__ void round_learned_kernel(GgmlType type, const float* values, const float* scales, float* out, int64_t count) {
  const int each = learned_scales(type);
  round_weights(type, values, out, count, [=](int64_t block, int) { return stored_scale(scales + block * each, each); });
}

/// One thread a block.
__global__ void scale_slopes_kernel(GgmlType type, const float* values, const float* scales, const float* slopes, double shrink, float* by_value,
                                    float* by_scale, int64_t blocks) {
  const GridShape shape = grid_shape_or_none(type);
  const int each = learned_scales(type);
  for (int64_t b = grid_first(); b < blocks; b += grid_step()) {
    const PartScale scale = stored_scale(scales + b * each, each);
    ScaleSlopes sums;
    for (int64_t i = b * shape.block; i < (b + 1) * shape.block; ++i)
      by_value[i] = weight_slope(values[i], slopes[i], scale, float(shape.lowest), float(shape.highest), sums);
    by_scale[b * each] = float(sums.step * shrink);
    if (each > 1) by_scale[b * each + 1] = float(sums.minimum * shrink);
  }
}

__global__ void round_rows_kernel(const float* values, const float* steps, float* out, int64_t columns, int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step()) {
    const float step = steps[i / columns];
    out[i] = row_int8_number(values[i], step) * step;
  }
}

/// One thread block of kRowLanes a row.
__global__ void row_steps_kernel(const float* values, float* steps, int64_t rows, int64_t columns) {
  __shared__ float most[kRowLanes];
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    float own = 0;
    for (int64_t c = threadIdx.x; c < columns; c += kRowLanes) {
      const float size = fabsf(values[row * columns + c]);
      own = size > own ? size : own;
    }
    most[threadIdx.x] = own;
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int lane = 1; lane < kRowLanes; ++lane) own = most[lane] > own ? most[lane] : own;
      steps[row] = row_int8_step(own);
    }
    __syncthreads();
  }
}

__global__ void row_slopes_kernel(const float* values, const float* steps, const float* slopes, double shrink, float* by_value, float* by_step,
                                  int64_t rows, int64_t columns) {
  __shared__ double sums[kRowLanes];
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    ScaleSlopes own;
    for (int64_t c = threadIdx.x; c < columns; c += kRowLanes) {
      const int64_t i = row * columns + c;
      by_value[i] = weight_slope(values[i], slopes[i], {steps[row], 0}, -kRowInt8Top, kRowInt8Top, own);
    }
    sums[threadIdx.x] = own.step;
    __syncthreads();
    if (threadIdx.x == 0) {
      double total = 0;
      for (int lane = 0; lane < kRowLanes; ++lane) total += sums[lane];
      by_step[row] = float(total * shrink);
    }
    __syncthreads();
  }
}

/// ggml adds a row's squares one after the other, so one thread does.
__global__ void mean_squares_kernel(const float* values, float* means, int64_t rows, int64_t columns) {
  for (int64_t row = grid_first(); row < rows; row += grid_step()) {
    float sum = 0;
    for (int64_t c = 0; c < columns; ++c) sum += values[row * columns + c] * values[row * columns + c];
    means[row] = sum / float(columns);
  }
}

/// One thread a block.
template <bool superblock>
__global__ void encode_weighted_kernel(GgmlType type, const float* values, const float* importance, const float* means, uint8_t* out, int bytes,
                                       int64_t columns, int64_t blocks) {
  constexpr int kWidth = superblock ? 256 : 32;
  const int64_t per_row = columns / kWidth;
  for (int64_t b = grid_first(); b < blocks; b += grid_step()) {
    float x[kWidth];
    for (int i = 0; i < kWidth; ++i) x[i] = values[b * kWidth + i];
    const float* weights = importance ? importance + b % per_row * kWidth : nullptr;
    if constexpr (superblock) encode_k(type, x, weights, out + b * bytes);
    else encode_searched_32(type, x, weights, means ? means[b / per_row] : 0.0f, out + b * bytes);
  }
}

/// Bytes of a block of the types that this file encodes or whose kept scales it reads.
int block_bytes(GgmlType type) {
  switch (type) {
    case GgmlType::q4_0: case GgmlType::iq4_nl: return 18;
    case GgmlType::q4_1: return 20;
    case GgmlType::q5_0: return 22;
    case GgmlType::q5_1: return 24;
    case GgmlType::q8_0: return 34;
    case GgmlType::mxfp4: return 17;
    case GgmlType::q2_k: return 84;
    case GgmlType::q3_k: return 110;
    case GgmlType::q4_k: return 144;
    case GgmlType::q5_k: return 176;
    case GgmlType::q6_k: return 210;
    case GgmlType::tq1_0: return 54;
    case GgmlType::tq2_0: return 66;
    default: return 0;
  }
}

constexpr const char* kNoGrid = "the CUDA part has no such grid for this ggml type";

unsigned row_grid(int64_t rows) { return static_cast<unsigned>(rows < 1 ? 1 : rows < 65536 ? rows : 65536); }

}  // namespace
}  // namespace attar

const char* attar_cuda_round_kept(int32_t number, const float* values, const uint8_t* blocks, float* out, int64_t count, void* stream) {
  const auto type = static_cast<attar::GgmlType>(number);
  const int bytes = attar::block_bytes(type);
  if (bytes == 0) return attar::kNoGrid;
  attar::round_kept_kernel<<<attar::cuda_grid(count), attar::kCudaThreads, 0, attar::cuda_stream(stream)>>>(type, values, blocks, bytes, out, count);
  return attar::cuda_launched();
}

const char* attar_cuda_round_learned(int32_t number, const float* values, const float* scales, float* out, int64_t count, void* stream) {
  const auto type = static_cast<attar::GgmlType>(number);
  if (attar::learned_scales(type) == 0) return attar::kNoGrid;
  attar::round_learned_kernel<<<attar::cuda_grid(count), attar::kCudaThreads, 0, attar::cuda_stream(stream)>>>(type, values, scales, out, count);
  return attar::cuda_launched();
}

const char* attar_cuda_scale_slopes(int32_t number, const float* values, const float* scales, const float* slopes, double shrink, float* by_value,
                                    float* by_scale, int64_t blocks, void* stream) {
  const auto type = static_cast<attar::GgmlType>(number);
  if (attar::learned_scales(type) == 0) return attar::kNoGrid;
  attar::scale_slopes_kernel<<<attar::cuda_grid(blocks, attar::kGridThreads), attar::kGridThreads, 0, attar::cuda_stream(stream)>>>(
      type, values, scales, slopes, shrink, by_value, by_scale, blocks);
  return attar::cuda_launched();
}

const char* attar_cuda_row_steps(const float* values, float* steps, int64_t rows, int64_t columns, void* stream) {
  attar::row_steps_kernel<<<attar::row_grid(rows), attar::kRowLanes, 0, attar::cuda_stream(stream)>>>(values, steps, rows, columns);
  return attar::cuda_launched();
}

const char* attar_cuda_round_rows(const float* values, const float* steps, float* out, int64_t rows, int64_t columns, void* stream) {
  const int64_t count = rows * columns;
  attar::round_rows_kernel<<<attar::cuda_grid(count), attar::kCudaThreads, 0, attar::cuda_stream(stream)>>>(values, steps, out, columns, count);
  return attar::cuda_launched();
}

const char* attar_cuda_row_slopes(const float* values, const float* steps, const float* slopes, double shrink, float* by_value, float* by_step,
                                  int64_t rows, int64_t columns, void* stream) {
  attar::row_slopes_kernel<<<attar::row_grid(rows), attar::kRowLanes, 0, attar::cuda_stream(stream)>>>(values, steps, slopes, shrink, by_value,
                                                                                                      by_step, rows, columns);
  return attar::cuda_launched();
}

const char* attar_cuda_quantize_weighted(int32_t number, const float* values, const float* importance, float* means, uint8_t* out, int64_t rows,
                                         int64_t columns, void* stream) {
  const auto type = static_cast<attar::GgmlType>(number);
  const int bytes = attar::block_bytes(type);
  const bool superblock = type == attar::GgmlType::q2_k || type == attar::GgmlType::q3_k || type == attar::GgmlType::q4_k ||
                          type == attar::GgmlType::q5_k || type == attar::GgmlType::q6_k;
  const bool small = type == attar::GgmlType::q4_0 || type == attar::GgmlType::q4_1 || type == attar::GgmlType::q5_0 ||
                     type == attar::GgmlType::q5_1 || type == attar::GgmlType::iq4_nl;
  if (!superblock && !small) return attar::kNoGrid;
  if (!importance && type != attar::GgmlType::iq4_nl) return "rounding with importance has been given none";
  cudaStream_t on = attar::cuda_stream(stream);
  if (means) {
    attar::mean_squares_kernel<<<attar::cuda_grid(rows, attar::kGridThreads), attar::kGridThreads, 0, on>>>(values, means, rows, columns);
    if (const char* why_not = attar::cuda_launched()) return why_not;
  }
  const int64_t blocks = rows * columns / (superblock ? 256 : 32);
  const unsigned grid = attar::cuda_grid(blocks, attar::kGridThreads);
  if (superblock)
    attar::encode_weighted_kernel<true><<<grid, attar::kGridThreads, 0, on>>>(type, values, importance, means, out, bytes, columns, blocks);
  else
    attar::encode_weighted_kernel<false><<<grid, attar::kGridThreads, 0, on>>>(type, values, importance, means, out, bytes, columns, blocks);
  return attar::cuda_launched();
}
