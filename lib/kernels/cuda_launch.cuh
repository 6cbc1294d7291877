#pragma once
#include <cuda_runtime.h>

#include "kernels/cuda_part.h"

namespace attar {

/// Null or the sentence of an error of CUDA's.
inline const char* cuda_sentence(cudaError_t error) { return error == cudaSuccess ? nullptr : cudaGetErrorString(error); }
/// What the launch just made says of itself.
inline const char* cuda_launched() { return cuda_sentence(cudaGetLastError()); }
inline cudaStream_t cuda_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

constexpr int kCudaThreads = 256;
/// Blocks of threads for `count` values, one a thread, at most as many as keep every processor busy: kernels go on in steps of the whole grid.
inline unsigned cuda_grid(int64_t count, int threads = kCudaThreads) {
  const int64_t blocks = (count + threads - 1) / threads;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks < 65536 ? blocks : 65536);
}
/// This thread's first value and the step to its next.
__device__ inline int64_t grid_first() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t grid_step() { return int64_t(gridDim.x) * blockDim.x; }

/// A thread block as a team (kernels/decoder_math.h): sums and maxima are joined in one order, so results repeat to the bit.
struct BlockTeam {
  int rank, size;
  double* cells;  ///< shared, one per warp

  __device__ explicit BlockTeam(double* shared) : rank(int(threadIdx.x)), size(int(blockDim.x)), cells(shared) {}
  __device__ void sync() { __syncthreads(); }
  __device__ double sum(double value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xffffffffu, value, step);
    share(value);
    double total = 0;
    for (int warp = 0; warp < size / 32; ++warp) total += cells[warp];
    return total;
  }
  __device__ float max(float value) {
    for (int step = 16; step > 0; step /= 2) {
      const float other = __shfl_down_sync(0xffffffffu, value, step);
      value = other > value ? other : value;
    }
    share(value);
    double best = cells[0];
    for (int warp = 1; warp < size / 32; ++warp) best = cells[warp] > best ? cells[warp] : best;
    return float(best);
  }

 private:
  __device__ void share(double value) {
    __syncthreads();  // the cells' last values have been read
    if (rank % 32 == 0) cells[rank / 32] = value;
    __syncthreads();
  }
};

}  // namespace attar
