#include "kernels/matmul.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <omp.h>

#include "kernels/matmul_tiles.h"

namespace attar {
namespace {

bool product_reads(const at::Tensor& t) {
  return t.is_cpu() && t.scalar_type() == at::kFloat && t.layout() == at::kStrided && (t.stride(1) == 1 || t.stride(0) == 1);
}

MatrixView product_view(const at::Tensor& t) { return {t.const_data_ptr<float>(), t.stride(0), t.stride(1)}; }

}  // namespace

void matmul_into(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, bool add) {
  constexpr int64_t kLeastRows = 8, kLeastMatrix = 4096, kParallel = int64_t{1} << 20;
  TORCH_INTERNAL_ASSERT(a.dim() == 2 && b.dim() == 2 && out.dim() == 2 && a.size(1) == b.size(0) && out.size(0) == a.size(0) &&
                        out.size(1) == b.size(1));
  const int64_t M = a.size(0), N = b.size(1), K = a.size(1);
  const bool ours = M >= kLeastRows && N * K >= kLeastMatrix && matrix_product_is_quickest() && product_reads(a) && product_reads(b) &&
                    out.is_cpu() && out.scalar_type() == at::kFloat && out.stride(1) == 1;
  if (ours) {
    const int threads = M * N * K < kParallel || omp_in_parallel() ? 1 : at::get_num_threads();
    matrix_product(M, N, K, product_view(a), product_view(b), out.data_ptr<float>(), out.stride(0), add, threads);
  } else if (add) {
    out.addmm_(a, b);
  } else {
    at::mm_out(out, a, b);
  }
}

}  // namespace attar
