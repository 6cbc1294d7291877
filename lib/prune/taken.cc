#include "prune/taken.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "model/tensors.h"

namespace attar {
namespace {

constexpr int64_t kWorthTeam = int64_t{1} << 16;  ///< values below which threads cost more than they bring

/// to[j] = from[columns[j]] * factor; columns null: the first `count`.
__attribute__((target_clones("avx512f", "avx2", "default"))) void take_row(const float* from, const int64_t* columns, int64_t count, double factor,
                                                                           float* to) {
  if (columns)
    for (int64_t j = 0; j < count; ++j) to[j] = static_cast<float>(static_cast<double>(from[columns[j]]) * factor);
  else
    for (int64_t j = 0; j < count; ++j) to[j] = static_cast<float>(static_cast<double>(from[j]) * factor);
}

/// The same with factor 1.
void copy_row(const float* from, const int64_t* columns, int64_t count, float* to) {
  if (!columns) {
    std::copy_n(from, count, to);
    return;
  }
  for (int64_t j = 0; j < count; ++j) to[j] = from[columns[j]];
}

/// Indices side by side, or none where all `size` stay.
at::Tensor chosen(const at::Tensor& kept, int64_t size) { return kept.defined() && kept.numel() != size ? kept.contiguous() : at::Tensor(); }

}  // namespace

at::Tensor taken(const at::Tensor& tensor, const at::Tensor& rows, const at::Tensor& columns, double factor) {
  assert(tensor.dim() == 2 || (tensor.dim() == 1 && !columns.defined()));
  const bool scaled = std::abs(factor - 1) >= 1e-15;
  const at::Tensor of_rows = chosen(rows, tensor.size(0)), of_columns = tensor.dim() == 2 ? chosen(columns, tensor.size(1)) : at::Tensor();
  if (!of_rows.defined() && !of_columns.defined() && !scaled) return tensor;
  if (!tensor.is_cpu() || tensor.scalar_type() != at::kFloat || !tensor.is_contiguous()) {
    at::Tensor out = of_rows.defined() ? tensor.index_select(0, of_rows.to(tensor.device())) : tensor;
    if (of_columns.defined()) out = out.index_select(1, of_columns.to(tensor.device()));
    return scaled ? (out.to(at::kDouble) * factor).to(tensor.scalar_type()) : out.contiguous();
  }
  std::vector<int64_t> shape = tensor.sizes().vec();
  // A vector is a row of its own.
  const bool vector = tensor.dim() == 1;
  if (of_rows.defined()) shape[0] = of_rows.numel();
  if (of_columns.defined()) shape[1] = of_columns.numel();
  const int64_t count = vector ? 1 : shape[0], width = shape.back(), stride = tensor.size(-1);
  const at::Tensor& along = vector ? of_rows : of_columns;
  const int64_t* row_of = !vector && of_rows.defined() ? of_rows.const_data_ptr<int64_t>() : nullptr;
  const int64_t* column_of = along.defined() ? along.const_data_ptr<int64_t>() : nullptr;
  const at::Tensor out = room_for(shape, at::kFloat);
  const float* from = tensor.const_data_ptr<float>();
  float* to = out.data_ptr<float>();
#pragma omp parallel for schedule(static) if (count * width > kWorthTeam)
  for (int64_t r = 0; r < count; ++r) {
    const float* row = from + (row_of ? row_of[r] : r) * stride;
    if (scaled) take_row(row, column_of, width, factor, to + r * width);
    else copy_row(row, column_of, width, to + r * width);
  }
  return out;
}

}  // namespace attar
