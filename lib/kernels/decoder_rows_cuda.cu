// RMSNorm, RoPE and SwiGLU on the GPU; the arithmetic stands in decoder_math.h.
#include "kernels/cuda_launch.cuh"
#include "kernels/decoder_math.h"

namespace attar {
namespace {

constexpr int64_t kPartRows = 128;  ///< rows of one partial sum of the weight's gradient, as on the CPU

__global__ void norm_kernel(const float* x, const float* w, float* y, float* rstd, int64_t rows, int64_t width, float eps, float offset) {
  __shared__ double cells[32];
  BlockTeam team(cells);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float r = norm_row_of_team(x + row * width, w, y + row * width, width, eps, offset, team);
    if (team.rank == 0) rstd[row] = r;
  }
}

__global__ void norm_backward_kernel(const float* dy, const float* x, const float* w, const float* rstd, float* dx, int64_t rows, int64_t width,
                                     float offset) {
  __shared__ double cells[32];
  BlockTeam team(cells);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x)
    norm_backward_row_of_team(dy + row * width, x + row * width, w, rstd[row], offset, dx + row * width, width, team);
}

/// One thread a column and part; a part's rows are added in their order.
__global__ void norm_weight_parts_kernel(const float* dy, const float* x, const float* rstd, float* partial, int64_t rows, int64_t width,
                                         int64_t parts) {
  for (int64_t at = grid_first(); at < parts * width; at += grid_step()) {
    const int64_t part = at / width, column = at % width, end = (part + 1) * kPartRows < rows ? (part + 1) * kPartRows : rows;
    float total = 0;
    for (int64_t row = part * kPartRows; row < end; ++row) total += norm_weight_slope(dy[row * width + column], x[row * width + column], rstd[row]);
    partial[at] = total;
  }
}

__global__ void norm_weight_sum_kernel(const float* partial, float* dw, int64_t width, int64_t parts) {
  for (int64_t column = grid_first(); column < width; column += grid_step()) {
    float total = parts > 0 ? partial[column] : 0.0f;
    for (int64_t part = 1; part < parts; ++part) total += partial[part * width + column];
    dw[column] = total;
  }
}

__global__ void rotate_kernel(float* x, const float* cos, const float* sin, int64_t rows, int64_t positions, int64_t heads, int64_t size,
                              int64_t half, float sign) {
  for (int64_t at = grid_first(); at < rows * heads * half; at += grid_step()) {
    const int64_t i = at % half, head = at / half % heads, row = at / half / heads, angle = row % positions * half + i;
    float* a = x + (row * heads + head) * size + i;
    rotate_pair(a[0], a[half], cos[angle], sign * sin[angle]);
  }
}

__global__ void swiglu_kernel(const float* gate, const float* up, float* y, int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step()) y[i] = swiglu_value(gate[i], up[i]);
}

__global__ void swiglu_backward_kernel(const float* dy, const float* gate, const float* up, float* dgate, float* dup, int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step()) swiglu_slopes(dy[i], gate[i], up[i], dgate[i], dup[i]);
}

/// Threads for one row: whole warps, up to 512.
int row_threads(int64_t width) { return width >= 2048 ? 512 : width >= 512 ? 256 : width >= 128 ? 128 : 32; }

}  // namespace
}  // namespace attar

const char* attar_cuda_rms_norm(const float* x, const float* w, float* y, float* rstd, int64_t rows, int64_t width, float eps, float offset,
                                void* stream) {
  if (rows == 0) return nullptr;
  const cudaStream_t on = attar::cuda_stream(stream);
  attar::norm_kernel<<<attar::cuda_grid(rows, 1), attar::row_threads(width), 0, on>>>(x, w, y, rstd, rows, width, eps, offset);
  return attar::cuda_launched();
}

const char* attar_cuda_rms_norm_backward(const float* dy, const float* x, const float* w, const float* rstd, float* dx, float* partial, float* dw,
                                         int64_t rows, int64_t width, float offset, void* stream) {
  const cudaStream_t on = attar::cuda_stream(stream);
  const int64_t parts = (rows + attar::kPartRows - 1) / attar::kPartRows;
  if (rows > 0) {
    attar::norm_backward_kernel<<<attar::cuda_grid(rows, 1), attar::row_threads(width), 0, on>>>(dy, x, w, rstd, dx, rows, width, offset);
    attar::norm_weight_parts_kernel<<<attar::cuda_grid(parts * width), attar::kCudaThreads, 0, on>>>(dy, x, rstd, partial, rows, width, parts);
  }
  attar::norm_weight_sum_kernel<<<attar::cuda_grid(width), attar::kCudaThreads, 0, on>>>(partial, dw, width, parts);
  return attar::cuda_launched();
}

const char* attar_cuda_rotate(float* x, const float* cos, const float* sin, int64_t rows, int64_t positions, int64_t heads, int64_t size,
                              int64_t half, float sign, void* stream) {
  const int64_t count = rows * heads * half;
  if (count == 0) return nullptr;
  const cudaStream_t on = attar::cuda_stream(stream);
  attar::rotate_kernel<<<attar::cuda_grid(count), attar::kCudaThreads, 0, on>>>(x, cos, sin, rows, positions, heads, size, half, sign);
  return attar::cuda_launched();
}

const char* attar_cuda_swiglu(const float* gate, const float* up, float* y, int64_t count, void* stream) {
  attar::swiglu_kernel<<<attar::cuda_grid(count), attar::kCudaThreads, 0, attar::cuda_stream(stream)>>>(gate, up, y, count);
  return attar::cuda_launched();
}

const char* attar_cuda_swiglu_backward(const float* dy, const float* gate, const float* up, float* dgate, float* dup, int64_t count, void* stream) {
  attar::swiglu_backward_kernel<<<attar::cuda_grid(count), attar::kCudaThreads, 0, attar::cuda_stream(stream)>>>(dy, gate, up, dgate, dup, count);
  return attar::cuda_launched();
}
