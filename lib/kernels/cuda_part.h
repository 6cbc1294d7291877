#pragma once
#include <stdint.h>

// The C interface of the CUDA part, libattar_cuda.so: a shared library of its own that is opened when a CUDA device is asked for.
// Pointers are the device's where not said otherwise; `stream` is a cudaStream_t or null. A call starts its work and returns: null, or a sentence
// that stays valid. The caller has checked shapes and ids; nothing here looks at values.
#ifdef __CUDACC__
#define ATTAR_CUDA_PART extern "C" __attribute__((visibility("default")))
#else
#define ATTAR_CUDA_PART extern "C"
#endif

/// What attar_cuda_version answers; changes with every change of this file.
#define ATTAR_CUDA_PART_VERSION 3

/// Weights of the loss's terms, as LossWeights has them (kernels/linear_loss.h).
struct AttarLossTerms {
  double kl, ce, rkl, jsd, skl, srkl, tvd, temperature, beta, lambda;
};

/// One chunk of rows of the linear loss. The teacher is live logits, dense log-probabilities, ids with probabilities, or absent (both null).
struct AttarLossRows {
  int64_t rows, vocab, k;
  float* logits;             ///< (rows, vocab) rows logits_stride apart; with `gradients` they become d loss / d logits
  int64_t logits_stride;
  float* teacher;            ///< (rows, vocab) logits if teacher_live, else log-probabilities; overwritten. Or null
  int64_t teacher_stride;
  int32_t teacher_live, gradients;
  const int64_t* labels;     ///< (rows), each in [0, vocab)
  const float* row_weights;  ///< (rows) or null
  const int32_t* ids;        ///< (rows, k), -1 where fewer; or null
  const float* probs;        ///< (rows, k)
  const float* tail;         ///< (rows) mass outside ids, or null: cross-entropy form
  float* kept;               ///< (rows, k) room to work in
  double softcap, teacher_softcap;
  AttarLossTerms terms;
  double *loss, *teacher_terms, *cross_entropy;  ///< (rows) each: weighted sum; the two unweighted parts
  int32_t* twice;            ///< (1), 0 before the call: becomes 1 where an id stands twice beside a tail
};

ATTAR_CUDA_PART int32_t attar_cuda_version();
/// Null when a device is ready and LibTorch's CUDA backend, where LibTorch is in the process, is registered; else why not.
ATTAR_CUDA_PART const char* attar_cuda_ready();

// Memory, for callers without LibTorch; copies wait until they are done.
ATTAR_CUDA_PART const char* attar_cuda_malloc(void** memory, int64_t bytes);
ATTAR_CUDA_PART const char* attar_cuda_free(void* memory);
ATTAR_CUDA_PART const char* attar_cuda_copy_in(void* device, const void* host, int64_t bytes);
ATTAR_CUDA_PART const char* attar_cuda_copy_out(void* host, const void* device, int64_t bytes);

// Blocks of ggml, byte for byte as quantize_rows_plain without importance: `type` is ggml's number, `blocks` are counted over all rows.
// All block types of ggml that attar writes; of iq4_nl only dequantize: attar_cuda_quantize_weighted encodes it.
ATTAR_CUDA_PART const char* attar_cuda_quantize(int32_t type, const float* values, uint8_t* bytes, int64_t blocks, void* stream);
ATTAR_CUDA_PART const char* attar_cuda_dequantize(int32_t type, const uint8_t* bytes, float* values, int64_t blocks, void* stream);
/// What the file would hold, in one pass; `out` may be `values`.
ATTAR_CUDA_PART const char* attar_cuda_fake_quantize(int32_t type, const float* values, float* out, int64_t blocks, void* stream);

// Other ways to choose codes, bit for bit the CPU's (kernels/grid_math.h); `type` is ggml's number, `count` values in whole blocks, columns side by
// side in a row.
/// With importance (columns): q4_0, q4_1, q5_0, q5_1 (means (rows): room for the rows' mean squares) and q2_k to q6_k (means null); iq4_nl with or
/// without, means null.
ATTAR_CUDA_PART const char* attar_cuda_quantize_weighted(int32_t type, const float* values, const float* importance, float* means, uint8_t* out,
                                                         int64_t rows, int64_t columns, void* stream);
/// What the file would hold beside the scales that its blocks have.
ATTAR_CUDA_PART const char* attar_cuda_round_kept(int32_t type, const float* values, const uint8_t* blocks, float* out, int64_t count, void* stream);
/// The same beside scales (blocks, 1 or 2) that are learned; q4_0, q4_1, q5_0, q5_1, q8_0, tq1_0, tq2_0.
ATTAR_CUDA_PART const char* attar_cuda_round_learned(int32_t type, const float* values, const float* scales, float* out, int64_t count, void* stream);
/// LSQ's slopes from those of the rounded values; those of the scales are multiplied by shrink.
ATTAR_CUDA_PART const char* attar_cuda_scale_slopes(int32_t type, const float* values, const float* scales, const float* slopes, double shrink,
                                                    float* by_value, float* by_scale, int64_t blocks, void* stream);
// int8 rows of ONNX: steps (rows) by the largest magnitude, values beside steps, LSQ's slopes.
ATTAR_CUDA_PART const char* attar_cuda_row_steps(const float* values, float* steps, int64_t rows, int64_t columns, void* stream);
ATTAR_CUDA_PART const char* attar_cuda_round_rows(const float* values, const float* steps, float* out, int64_t rows, int64_t columns, void* stream);
ATTAR_CUDA_PART const char* attar_cuda_row_slopes(const float* values, const float* steps, const float* slopes, double shrink, float* by_value,
                                                  float* by_step, int64_t rows, int64_t columns, void* stream);

/// What rows of the decoder are made of.
enum AttarValueType { kAttarFloat32 = 0, kAttarBrain16 = 1 };
// Rows of the decoder: the arithmetic of kernels/decoder_math.h on all rows at once, in float32. x, y, dy, dx (rows, width) of `type`;
// w, dw (width), rstd (rows) float32.
ATTAR_CUDA_PART const char* attar_cuda_rms_norm(int32_t type, const void* x, const float* w, void* y, float* rstd, int64_t rows, int64_t width,
                                                float eps, float offset, void* stream);
/// partial (ceil(rows / 128), width): room for the weight's partial sums. dw's bits do not depend on the device.
ATTAR_CUDA_PART const char* attar_cuda_rms_norm_backward(int32_t type, const void* dy, const void* x, const float* w, const float* rstd, void* dx,
                                                         float* partial, float* dw, int64_t rows, int64_t width, float offset, void* stream);
/// x (rows, heads, size) in place; cos, sin (positions, half) float32: row r takes position r mod positions. sign -1 turns back.
ATTAR_CUDA_PART const char* attar_cuda_rotate(int32_t type, void* x, const float* cos, const float* sin, int64_t rows, int64_t positions,
                                              int64_t heads, int64_t size, int64_t half, float sign, void* stream);
ATTAR_CUDA_PART const char* attar_cuda_swiglu(int32_t type, const void* gate, const void* up, void* y, int64_t count, void* stream);
ATTAR_CUDA_PART const char* attar_cuda_swiglu_backward(int32_t type, const void* dy, const void* gate, const void* up, void* dgate, void* dup,
                                                       int64_t count, void* stream);

/// The row pass of linear_loss; `rows` itself lies on the host.
ATTAR_CUDA_PART const char* attar_cuda_loss_rows(const AttarLossRows* rows, void* stream);
