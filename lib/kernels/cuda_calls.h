#pragma once
#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <utility>

#include "kernels/cuda_part.h"
#include "kernels/linear_loss_parts.h"

namespace attar {

/// The functions of the CUDA part that tensors of a GPU are given to. A test fills it with the same arithmetic on the host and so runs everything
/// here but the launch itself.
struct CudaCalls {
  decltype(&attar_cuda_rms_norm) rms_norm;
  decltype(&attar_cuda_rms_norm_backward) rms_norm_backward;
  decltype(&attar_cuda_rotate) rotate;
  decltype(&attar_cuda_swiglu) swiglu;
  decltype(&attar_cuda_swiglu_backward) swiglu_backward;
  decltype(&attar_cuda_loss_rows) loss_rows;
  decltype(&attar_cuda_fake_quantize) fake_quantize = nullptr;
  decltype(&attar_cuda_dequantize) dequantize = nullptr;
  decltype(&attar_cuda_quantize_weighted) quantize_weighted = nullptr;
  decltype(&attar_cuda_round_kept) round_kept = nullptr;
  decltype(&attar_cuda_round_learned) round_learned = nullptr;
  decltype(&attar_cuda_scale_slopes) scale_slopes = nullptr;
  decltype(&attar_cuda_row_steps) row_steps = nullptr;
  decltype(&attar_cuda_round_rows) round_rows = nullptr;
  decltype(&attar_cuda_row_slopes) row_slopes = nullptr;
};
/// Those of the part, which is opened if it is not yet. Throws Error without a usable GPU, or where the part is another version's.
const CudaCalls& cuda_calls();

/// The stream that LibTorch's own kernels for this tensor go to now; null on the host.
void* cuda_stream_of(const at::Tensor& tensor);
/// Error with what a call of the part says, if it says anything.
void cuda_started(const char* why_not, const char* what);

/// What the CUDA part takes as rows: contiguous float32 or bfloat16, all of one type and device.
bool cuda_takes(std::initializer_list<at::Tensor> rows);

// Each makes its result on the tensors' device and starts its work on that device's current stream. Weights, cos and sin of other types are
// converted to float32; cos and sin (positions, half) or one row a row of x. Throws Error with what CUDA says.
std::pair<at::Tensor, at::Tensor> rms_norm_by(const CudaCalls& calls, const at::Tensor& x, const at::Tensor& weight, double eps, double offset);
std::pair<at::Tensor, at::Tensor> rms_norm_backward_by(const CudaCalls& calls, const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight,
                                                       const at::Tensor& rstd, double offset);
void rotate_by(const CudaCalls& calls, at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse);
at::Tensor swiglu_by(const CudaCalls& calls, const at::Tensor& gate, const at::Tensor& up);
std::pair<at::Tensor, at::Tensor> swiglu_backward_by(const CudaCalls& calls, const at::Tensor& grad, const at::Tensor& gate, const at::Tensor& up);

/// loss_rows_cpu on a GPU: float32 logits with columns side by side become their gradient in place. Values are NaN where an id stands twice beside
/// a tail: nothing is read back here.
LossValues loss_rows_by(const CudaCalls& calls, LossRows& rows, const LossWeights& weights, bool gradients);

}  // namespace attar
