#pragma once
#include <cstdint>

#include "formats/ggml_types.h"

namespace attar {

/// quantize_rows with scales that are searched for the least squared error of the values a reader sees, weighted by `importance` (null: all
/// columns alike). A block's error is never above that of ggml's own rounding, which is one of the candidates.
/// One scale a block (q4_0, q5_0, q8_0, iq4_nl, tq1_0, tq2_0): candidates around the one that reaches the peak, of both signs; each gives codes,
/// these a least squares fit, the fit rounded to fp16 new codes. Scale and minimum (q4_1, q5_1): the same with a two-dimensional fit.
/// mxfp4: the neighbouring exponents. K types: ggml's search with and without importance.
/// Errors as quantize_rows. Source: make_qx_quants of ggml; GPTQ's and AWQ's clip searches over the same family of scales.
void search_rows(GgmlType type, const float* src, uint8_t* dst, int64_t rows, int64_t columns, const float* importance = nullptr);

}  // namespace attar
