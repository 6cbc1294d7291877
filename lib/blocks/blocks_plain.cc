#include <cstring>

#include "formats/ggml_types.h"
#include "blocks/blocks_32.h"
#include "blocks/blocks_32_searched.h"
#include "blocks/blocks_decode.h"
#include "blocks/blocks_encode.h"
#include "blocks/blocks_k_encode.h"
#include "blocks/blocks_ternary.h"

namespace attar {

void encode_run_plain(const BlockRun& run) {
  const GgmlTypeInfo& info = ggml_type_info(run.type);
  for (int64_t b = 0; b < run.blocks; ++b) {
    const float* x = run.x + b * info.block;
    const float* importance = run.importance ? run.importance + b * info.block : nullptr;
    uint8_t* out = run.out + b * info.bytes;
    switch (run.type) {
      case GgmlType::f32: std::memcpy(out, x, sizeof *x); break;
      case GgmlType::f16: store_half(out, *x); break;
      case GgmlType::bf16: store_u16(out, fp32_to_bf16(*x)); break;
      case GgmlType::q8_0: encode_q8_0(x, out); break;
      case GgmlType::mxfp4: encode_mxfp4(x, out); break;
      case GgmlType::tq1_0: encode_tq1_0(x, out); break;
      case GgmlType::tq2_0: encode_tq2_0(x, out); break;
      case GgmlType::q4_0:
        importance ? encode_searched_32(run.type, x, importance, run.row_mean_square, out) : encode_symmetric(x, 8, out);
        break;
      case GgmlType::q5_0:
        importance ? encode_searched_32(run.type, x, importance, run.row_mean_square, out) : encode_symmetric(x, 16, out);
        break;
      case GgmlType::q4_1:
        importance ? encode_searched_32(run.type, x, importance, run.row_mean_square, out) : encode_affine(x, 15, out);
        break;
      case GgmlType::q5_1:
        importance ? encode_searched_32(run.type, x, importance, run.row_mean_square, out) : encode_affine(x, 31, out);
        break;
      case GgmlType::iq4_nl: encode_searched_32(run.type, x, importance, run.row_mean_square, out); break;
      default: encode_k(run.type, x, importance, out); break;
    }
  }
}

void decode_run_plain(GgmlType type, const uint8_t* in, float* out, int64_t blocks) {
  const GgmlTypeInfo& info = ggml_type_info(type);
  for (int64_t b = 0; b < blocks; ++b, in += info.bytes, out += info.block) {
    switch (type) {
      case GgmlType::f32: std::memcpy(out, in, sizeof *out); break;
      case GgmlType::f16: *out = load_half(in); break;
      case GgmlType::bf16: *out = bf16_to_fp32(load_u16(in)); break;
      case GgmlType::q8_0: decode_q8_0(in, out); break;
      case GgmlType::q4_0: decode_symmetric(in, 8, out); break;
      case GgmlType::q5_0: decode_symmetric(in, 16, out); break;
      case GgmlType::q4_1: decode_affine(in, 15, out); break;
      case GgmlType::q5_1: decode_affine(in, 31, out); break;
      case GgmlType::iq4_nl: decode_iq4_nl(in, out); break;
      case GgmlType::mxfp4: decode_mxfp4(in, out); break;
      case GgmlType::tq1_0: decode_tq1_0(in, out); break;
      case GgmlType::tq2_0: decode_tq2_0(in, out); break;
      case GgmlType::q2_k: decode_q2_k(in, out); break;
      case GgmlType::q3_k: decode_q3_k(in, out); break;
      case GgmlType::q4_k: decode_q45_k(in, nullptr, in + 16, out); break;
      case GgmlType::q5_k: decode_q45_k(in, in + 16, in + 48, out); break;
      case GgmlType::q6_k: decode_q6_k(in, out); break;
      default: break;
    }
  }
}

}  // namespace attar
