#pragma once
#include "model/checkpoint.h"

namespace attar {

/// Calls visit(first weight, number of the block, its bytes) for every block of a weight, rows side by side. Number of a weight: row * columns +
/// column.
template <class Visit> void each_block(const QuantizedTensor& tensor, const Visit& visit) {
  const GgmlTypeInfo& info = ggml_type_info(tensor.type);
  const int64_t rows = tensor.shape[0], columns = tensor.shape[1], blocks = columns / info.block;
  const uint8_t* bytes = tensor.blocks.const_data_ptr<uint8_t>();
#pragma omp parallel for
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t b = 0; b < blocks; ++b) visit(row * columns + b * info.block, row * blocks + b, bytes + (row * blocks + b) * info.bytes);
}

}  // namespace attar
