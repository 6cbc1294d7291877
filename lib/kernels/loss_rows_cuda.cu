// The row pass of linear_loss on the GPU, one thread block a row; the arithmetic stands in loss_row.h.
#include "kernels/cuda_launch.cuh"
#include "kernels/loss_row.h"

namespace attar {
namespace {

__global__ void loss_rows_kernel(AttarLossRows job) {
  __shared__ double cells[32];
  BlockTeam team(cells);
  for (int64_t row = blockIdx.x; row < job.rows; row += gridDim.x) loss_row_of_team(job, row, team);
}

}  // namespace
}  // namespace attar

const char* attar_cuda_loss_rows(const AttarLossRows* rows, void* stream) {
  if (rows->rows == 0) return nullptr;
  const int threads = rows->vocab >= 8192 ? 512 : rows->vocab >= 1024 ? 256 : 64;
  attar::loss_rows_kernel<<<attar::cuda_grid(rows->rows, 1), threads, 0, attar::cuda_stream(stream)>>>(*rows);
  return attar::cuda_launched();
}
