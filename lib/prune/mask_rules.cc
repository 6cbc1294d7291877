#include "prune/mask_rules.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/check.h"

namespace attar {
namespace {

constexpr int64_t kMaskBlock = 128;
constexpr int64_t kWorthThreads = int64_t{1} << 15;  ///< elements below which threads cost more than they bring

/// Writes false for the `count` lowest of `size` scores; of equals the first.
void drop_lowest(const double* scores, bool* alive, int64_t size, int64_t count, std::vector<int64_t>& order) {
  order.resize(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  const auto lower = [&](int64_t a, int64_t b) { return scores[a] != scores[b] ? scores[a] < scores[b] : a < b; };
  if (count > 0 && count < size) std::nth_element(order.begin(), order.begin() + (count - 1), order.end(), lower);
  for (int64_t i = 0; i < count; ++i) alive[order[static_cast<size_t>(i)]] = false;
}

/// Rows in runs of `size`, each without its `count` lowest.
at::Tensor without_lowest(const at::Tensor& scores, int64_t size, int64_t count) {
  const at::Tensor values = scores.to(at::kDouble).contiguous();
  at::Tensor alive = at::ones(scores.sizes(), at::kBool);
  const double* from = values.const_data_ptr<double>();
  bool* to = alive.data_ptr<bool>();
  const int64_t runs = values.numel() / size;
#pragma omp parallel if (values.numel() > kWorthThreads)
  {
    std::vector<int64_t> order;
#pragma omp for schedule(static)
    for (int64_t run = 0; run < runs; ++run) drop_lowest(from + run * size, to + run * size, size, count, order);
  }
  return alive;
}

/// Removes what the mask takes from columns [begin, end) of one row and moves the error to the columns after it inside the block; errors, scaled by
/// the diagonal, are left in `errors`.
void settle_columns(double* row, const bool* alive, const double* u, int64_t stride, int64_t begin, int64_t end, int64_t block_end, double* errors) {
  for (int64_t c = begin; c < end; ++c) {
    const double error = alive[c] ? 0 : row[c] / u[c * stride + c];
    errors[c] = error;
    if (alive[c]) continue;
    row[c] = 0;
    for (int64_t j = c + 1; j < block_end; ++j) row[j] -= error * u[c * stride + j];
  }
}

}  // namespace

at::Tensor highest_of_groups(const at::Tensor& scores, int64_t zeros, int64_t of) { return without_lowest(scores, of, zeros); }

at::Tensor highest_of_matrix(const at::Tensor& scores, double share) {
  return without_lowest(scores, scores.numel(), static_cast<int64_t>(share * static_cast<double>(scores.numel())));
}

at::Tensor highest_of_rows(const at::Tensor& scores, double share) {
  return without_lowest(scores, scores.size(1), static_cast<int64_t>(share * static_cast<double>(scores.size(1))));
}

at::Tensor inverse_root(const at::Tensor& hessian, double damping) {
  constexpr int kTries = 3;
  at::Tensor h = hessian.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
  at::Tensor diagonal = h.diagonal();
  diagonal.masked_fill_(diagonal == 0, 1.0);
  const double mean = diagonal.mean().item<double>();
  check(std::isfinite(mean), "sparsegpt", "finite inputs", "infinity or NaN", "the model is damaged");
  double added = 0;
  for (int attempt = 0; attempt < kTries; ++attempt, damping *= 10) {
    diagonal.add_((damping - added) * mean);
    added = damping;
    // From the last column to the first: H = R R^T with R upper, so U is R's inverse.
    const auto [lower, failed] = at::linalg_cholesky_ex(h.flip({0, 1}));
    if (failed.item<int>() != 0) continue;
    const at::Tensor u = at::linalg_solve_triangular(lower.flip({0, 1}), at::eye(h.size(0), at::kDouble), /*upper=*/true);
    if (at::isfinite(u).all().item<bool>()) return u.contiguous();
  }
  fail("sparsegpt", "inputs whose Hessian can be inverted", "a singular one", "raise damping, or give more calibration_rows");
}

at::Tensor sparsegpt_mask(at::Tensor& weight, const at::Tensor& hessian, const MaskPattern& pattern, double damping) {
  const int64_t rows = weight.size(0), columns = weight.size(1);
  const at::Tensor root = inverse_root(hessian, damping);
  at::Tensor w = weight.detach().to(at::kCPU, at::kDouble, /*non_blocking=*/false, /*copy=*/true).contiguous();
  w.masked_fill_((hessian.diagonal() == 0).to(at::kCPU).unsqueeze(0), 0.0);
  at::Tensor alive = at::ones({rows, columns}, at::kBool);
  const double* u = root.const_data_ptr<double>();
  const at::Tensor scale = root.diagonal().square();
  const at::Tensor scales = scale.contiguous();
  const double* d2 = scales.const_data_ptr<double>();
  double* values = w.data_ptr<double>();
  bool* mask = alive.data_ptr<bool>();
  for (int64_t first = 0; first < columns; first += kMaskBlock) {
    const int64_t end = std::min(first + kMaskBlock, columns), span = end - first;
    at::Tensor errors = at::zeros({rows, span}, at::kDouble);
    double* out = errors.data_ptr<double>();
    if (pattern.of == 0) {
      const at::Tensor scores = w.slice(1, first, end).square() / scale.slice(0, first, end);
      alive.slice(1, first, end).copy_(highest_of_matrix(scores, pattern.share));
    }
#pragma omp parallel if (rows * span > kWorthThreads)
    {
      std::vector<int64_t> order;
      std::vector<double> scores(static_cast<size_t>(std::max<int64_t>(pattern.of, 1)));
#pragma omp for schedule(static)
      for (int64_t r = 0; r < rows; ++r) {
        double* row = values + r * columns;
        bool* own = mask + r * columns;
        double* left = out + r * span - first;
        if (pattern.of == 0) {
          settle_columns(row, own, u, columns, first, end, end, left);
          continue;
        }
        // A group is chosen when its first column is reached, from the weights as they stand there.
        for (int64_t begin = first; begin < end; begin += pattern.of) {
          for (int64_t i = 0; i < pattern.of; ++i) scores[static_cast<size_t>(i)] = row[begin + i] * row[begin + i] / d2[begin + i];
          drop_lowest(scores.data(), own + begin, pattern.of, pattern.zeros, order);
          settle_columns(row, own, u, columns, begin, begin + pattern.of, end, left);
        }
      }
    }
    if (end < columns) w.slice(1, end, columns).addmm_(errors, root.slice(0, first, end).slice(1, end, columns), 1, -1);
  }
  weight = w.to(weight.scalar_type());
  return alive;
}

}  // namespace attar
