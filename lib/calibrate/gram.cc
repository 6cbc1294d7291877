#include "calibrate/gram.h"

#include <ATen/ATen.h>

#include "kernels/matmul.h"

namespace attar {
namespace {

constexpr int64_t kGramRows = 128;  ///< rows of the sum at once: what is computed needlessly below the diagonal is at most half of such squares

}  // namespace

GramSum::GramSum(int64_t in) : sum_(at::zeros({in, in}, at::kFloat)) {}

void GramSum::add(const at::Tensor& x) {
  const int64_t in = sum_.size(0);
  for (int64_t first = 0; first < in; first += kGramRows) {
    const int64_t rows = std::min(kGramRows, in - first);
    at::Tensor part = sum_.narrow(0, first, rows).narrow(1, first, in - first);
    matmul_into(part, x.narrow(1, first, rows).t(), x.narrow(1, first, in - first), /*add=*/true);
  }
}

at::Tensor GramSum::take(ProcessGroup& group) {
  const int64_t in = sum_.size(0);
  group.all_reduce_sum(sum_);
  for (int64_t first = 0; first < in; first += kGramRows) {
    const int64_t rows = std::min(kGramRows, in - first), after = in - first - rows;
    at::Tensor square = sum_.narrow(0, first, rows).narrow(1, first, rows);
    square.copy_(square.triu() + square.triu(1).t());
    if (after > 0) sum_.narrow(0, first + rows, after).narrow(1, first, rows).copy_(sum_.narrow(0, first, rows).narrow(1, first + rows, after).t());
  }
  return std::move(sum_);
}

}  // namespace attar
