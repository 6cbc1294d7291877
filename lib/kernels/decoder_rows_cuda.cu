// RMSNorm, RoPE and SwiGLU on the GPU; the arithmetic stands in decoder_math.h.
#include "kernels/cuda_launch.cuh"
#include "kernels/decoder_math.h"

namespace attar {
namespace {

template <class Value>
__global__ void norm_kernel(const Value* x, const float* w, Value* y, float* rstd, int64_t rows, int64_t width, float eps, float offset) {
  __shared__ double cells[32];
  BlockTeam team(cells);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float r = norm_row_of_team(x + row * width, w, y + row * width, width, eps, offset, team);
    if (team.rank == 0) rstd[row] = r;
  }
}

template <class Value>
__global__ void norm_backward_kernel(const Value* dy, const Value* x, const float* w, const float* rstd, Value* dx, int64_t rows, int64_t width,
                                     float offset) {
  __shared__ double cells[32];
  BlockTeam team(cells);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x)
    norm_backward_row_of_team(dy + row * width, x + row * width, w, rstd[row], offset, dx + row * width, width, team);
}

/// One thread a column and part.
template <class Value>
__global__ void norm_weight_parts_kernel(const Value* dy, const Value* x, const float* rstd, float* partial, int64_t rows, int64_t width,
                                         int64_t parts) {
  for (int64_t at = grid_first(); at < parts * width; at += grid_step()) {
    const int64_t begin = at / width * kNormPartRows, end = begin + kNormPartRows < rows ? begin + kNormPartRows : rows;
    partial[at] = norm_weight_part(dy, x, rstd, begin, end, width, at % width);
  }
}

__global__ void norm_weight_sum_kernel(const float* partial, float* dw, int64_t width, int64_t parts) {
  for (int64_t column = grid_first(); column < width; column += grid_step()) {
    float total = parts > 0 ? partial[column] : 0.0f;
    for (int64_t part = 1; part < parts; ++part) total += partial[part * width + column];
    dw[column] = total;
  }
}

template <class Value>
__global__ void rotate_kernel(Value* x, const float* cos, const float* sin, int64_t count, int64_t positions, int64_t heads, int64_t size,
                              int64_t half, float sign) {
  for (int64_t at = grid_first(); at < count; at += grid_step()) rotate_one(x, cos, sin, positions, heads, size, half, sign, at);
}

template <class Value>
__global__ void swiglu_kernel(const Value* gate, const Value* up, Value* y, int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step()) swiglu_one(gate, up, y, i);
}

template <class Value>
__global__ void swiglu_backward_kernel(const Value* dy, const Value* gate, const Value* up, Value* dgate, Value* dup, int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step()) swiglu_slopes_one(dy, gate, up, dgate, dup, i);
}

/// Threads for one row: whole warps, up to 512.
int row_threads(int64_t width) { return width >= 2048 ? 512 : width >= 512 ? 256 : width >= 128 ? 128 : 32; }

/// Calls launch(zero pointer of the type's values) and says what became of it.
template <class Launch>
const char* of_type(int32_t type, Launch launch) {
  if (type == kAttarFloat32) launch(static_cast<float*>(nullptr));
  else if (type == kAttarBrain16) launch(static_cast<Brain16*>(nullptr));
  else return "rows of a type that the CUDA part does not know";
  return cuda_launched();
}

}  // namespace
}  // namespace attar

const char* attar_cuda_rms_norm(int32_t type, const void* x, const float* w, void* y, float* rstd, int64_t rows, int64_t width, float eps,
                                float offset, void* stream) {
  if (rows == 0) return nullptr;
  const cudaStream_t on = attar::cuda_stream(stream);
  return attar::of_type(type, [&]<class Value>(Value*) {
    attar::norm_kernel<<<attar::cuda_grid(rows, 1), attar::row_threads(width), 0, on>>>(static_cast<const Value*>(x), w, static_cast<Value*>(y), rstd,
                                                                                       rows, width, eps, offset);
  });
}

const char* attar_cuda_rms_norm_backward(int32_t type, const void* dy, const void* x, const float* w, const float* rstd, void* dx, float* partial,
                                         float* dw, int64_t rows, int64_t width, float offset, void* stream) {
  const cudaStream_t on = attar::cuda_stream(stream);
  const int64_t parts = (rows + attar::kNormPartRows - 1) / attar::kNormPartRows;
  return attar::of_type(type, [&]<class Value>(Value*) {
    const auto *g = static_cast<const Value*>(dy), *from = static_cast<const Value*>(x);
    if (rows > 0) {
      attar::norm_backward_kernel<<<attar::cuda_grid(rows, 1), attar::row_threads(width), 0, on>>>(g, from, w, rstd, static_cast<Value*>(dx), rows, width,
                                                                                                  offset);
      attar::norm_weight_parts_kernel<<<attar::cuda_grid(parts * width), attar::kCudaThreads, 0, on>>>(g, from, rstd, partial, rows, width, parts);
    }
    attar::norm_weight_sum_kernel<<<attar::cuda_grid(width), attar::kCudaThreads, 0, on>>>(partial, dw, width, parts);
  });
}

const char* attar_cuda_rotate(int32_t type, void* x, const float* cos, const float* sin, int64_t rows, int64_t positions, int64_t heads,
                              int64_t size, int64_t half, float sign, void* stream) {
  const int64_t count = rows * heads * half;
  if (count == 0) return nullptr;
  const cudaStream_t on = attar::cuda_stream(stream);
  return attar::of_type(type, [&]<class Value>(Value*) {
    attar::rotate_kernel<<<attar::cuda_grid(count), attar::kCudaThreads, 0, on>>>(static_cast<Value*>(x), cos, sin, count, positions, heads, size, half,
                                                                                 sign);
  });
}

const char* attar_cuda_swiglu(int32_t type, const void* gate, const void* up, void* y, int64_t count, void* stream) {
  const cudaStream_t on = attar::cuda_stream(stream);
  return attar::of_type(type, [&]<class Value>(Value*) {
    attar::swiglu_kernel<<<attar::cuda_grid(count), attar::kCudaThreads, 0, on>>>(static_cast<const Value*>(gate), static_cast<const Value*>(up),
                                                                                 static_cast<Value*>(y), count);
  });
}

const char* attar_cuda_swiglu_backward(int32_t type, const void* dy, const void* gate, const void* up, void* dgate, void* dup, int64_t count,
                                       void* stream) {
  const cudaStream_t on = attar::cuda_stream(stream);
  return attar::of_type(type, [&]<class Value>(Value*) {
    attar::swiglu_backward_kernel<<<attar::cuda_grid(count), attar::kCudaThreads, 0, on>>>(
        static_cast<const Value*>(dy), static_cast<const Value*>(gate), static_cast<const Value*>(up), static_cast<Value*>(dgate),
        static_cast<Value*>(dup), count);
  });
}
