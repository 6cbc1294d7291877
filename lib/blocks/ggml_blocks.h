#pragma once
#include <cstdint>

#include "formats/ggml_types.h"

namespace attar {

/// Encodes rows of fp32 into a ggml type, byte for byte as ggml's ggml_quantize_chunk does.
/// src (rows, columns) row-major; dst takes rows * ggml_row_bytes(type, columns) bytes; importance: null, or (columns) mean squares
/// of the inputs that meet each column (the importance matrix), used by the types that ggml uses it for.
/// OpenMP over pieces of rows; bytes do not depend on threads, nor on the instruction set, chosen at run time.
/// Throws Error for types that hold no model weights, columns that no whole number of blocks makes, a value that is not finite
/// (row and column named), a scale or half that overflows fp16 (likewise) and importances that are negative or not finite.
/// Layouts and searches: ggml's ggml-quants.c, formats section 2.
void quantize_rows(GgmlType type, const float* src, uint8_t* dst, int64_t rows, int64_t columns, const float* importance = nullptr);

/// The specification of quantize_rows: one block after the other, no vector instructions of ours.
void quantize_rows_plain(GgmlType type, const float* src, uint8_t* dst, int64_t rows, int64_t columns, const float* importance = nullptr);

/// The values a reader of the file sees: src rows * ggml_row_bytes(type, columns) bytes -> dst (rows, columns).
/// Any bytes are accepted: a scale of infinity or NaN comes out as such. Throws Error for types and widths as above.
void dequantize_rows(GgmlType type, const uint8_t* src, float* dst, int64_t rows, int64_t columns);

/// The specification of dequantize_rows.
void dequantize_rows_plain(GgmlType type, const uint8_t* src, float* dst, int64_t rows, int64_t columns);

/// Whether quantize_rows takes this type.
bool quantizable(GgmlType type);
/// Whether this type's bytes depend on an importance matrix.
bool uses_importance(GgmlType type);

}  // namespace attar
