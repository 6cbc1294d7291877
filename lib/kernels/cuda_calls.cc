#include "kernels/cuda_calls.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "device/cuda_part.h"

namespace attar {
namespace {

int32_t value_type(const at::Tensor& tensor) { return tensor.scalar_type() == at::kBFloat16 ? kAttarBrain16 : kAttarFloat32; }

at::Tensor as_float(const at::Tensor& tensor) { return tensor.defined() ? tensor.to(at::kFloat).contiguous() : tensor; }

}  // namespace

void* cuda_stream_of(const at::Tensor& tensor) {
  if (!tensor.is_cuda()) return nullptr;
  return c10::impl::VirtualGuardImpl(at::kCUDA).getStream(tensor.device()).native_handle();
}

void cuda_started(const char* why_not, const char* what) {
  check(why_not == nullptr, what, "CUDA to start it", why_not ? why_not : "");
}

const CudaCalls& cuda_calls() {
  static const CudaCalls calls = [] {
    CudaCalls found;
#define ATTAR_FIND(name) found.name = cuda_function<decltype(attar_cuda_##name)>("attar_cuda_" #name)
    ATTAR_FIND(rms_norm), ATTAR_FIND(rms_norm_backward), ATTAR_FIND(rotate), ATTAR_FIND(swiglu), ATTAR_FIND(swiglu_backward);
    ATTAR_FIND(loss_rows), ATTAR_FIND(fake_quantize), ATTAR_FIND(dequantize), ATTAR_FIND(quantize_weighted), ATTAR_FIND(round_kept);
    ATTAR_FIND(round_learned), ATTAR_FIND(scale_slopes), ATTAR_FIND(row_steps), ATTAR_FIND(round_rows), ATTAR_FIND(row_slopes);
#undef ATTAR_FIND
    check(cuda_part_version() == ATTAR_CUDA_PART_VERSION, "the CUDA part", str("interface version ", ATTAR_CUDA_PART_VERSION),
          str(cuda_part_version()), "build or install attar whole");
    return found;
  }();
  return calls;
}

bool cuda_takes(std::initializer_list<at::Tensor> rows) {
  const at::Tensor& first = *rows.begin();
  if (first.scalar_type() != at::kFloat && first.scalar_type() != at::kBFloat16) return false;
  return std::all_of(rows.begin(), rows.end(), [&](const at::Tensor& t) {
    return t.scalar_type() == first.scalar_type() && t.device() == first.device() && t.is_contiguous();
  });
}

std::pair<at::Tensor, at::Tensor> rms_norm_by(const CudaCalls& calls, const at::Tensor& x, const at::Tensor& weight, double eps, double offset) {
  const c10::DeviceGuard guard(x.device());
  const int64_t width = x.size(-1), rows = width ? x.numel() / width : 0;
  const at::Tensor w = as_float(weight), y = at::empty_like(x), rstd = at::empty({rows}, x.options().dtype(at::kFloat));
  cuda_started(calls.rms_norm(value_type(x), x.const_data_ptr(), w.const_data_ptr<float>(), y.data_ptr(), rstd.data_ptr<float>(), rows, width,
                              static_cast<float>(eps), static_cast<float>(offset), cuda_stream_of(x)),
               "RMSNorm's kernel");
  return {y, rstd};
}

std::pair<at::Tensor, at::Tensor> rms_norm_backward_by(const CudaCalls& calls, const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight,
                                                       const at::Tensor& rstd, double offset) {
  constexpr int64_t kPartRows = 128;  // as cuda_part.h says
  const c10::DeviceGuard guard(x.device());
  const int64_t width = x.size(-1), rows = width ? x.numel() / width : 0, parts = (rows + kPartRows - 1) / kPartRows;
  const auto floats = x.options().dtype(at::kFloat);
  const at::Tensor w = as_float(weight), dx = at::empty_like(x), partial = at::empty({parts, width}, floats), dw = at::empty({width}, floats);
  cuda_started(calls.rms_norm_backward(value_type(x), grad.const_data_ptr(), x.const_data_ptr(), w.const_data_ptr<float>(),
                                       rstd.const_data_ptr<float>(), dx.data_ptr(), partial.data_ptr<float>(), dw.data_ptr<float>(), rows, width,
                                       static_cast<float>(offset), cuda_stream_of(x)),
               "RMSNorm's backward kernel");
  return {dx, dw.to(weight.scalar_type())};
}

void rotate_by(const CudaCalls& calls, at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  const c10::DeviceGuard guard(x.device());
  const int64_t rows = x.size(0) * x.size(1), half = cos.size(-1);
  const at::Tensor c = as_float(cos), s = as_float(sin);
  cuda_started(calls.rotate(value_type(x), x.data_ptr(), c.const_data_ptr<float>(), s.const_data_ptr<float>(), rows, half ? c.numel() / half : 1,
                            x.size(2), x.size(3), half, inverse ? -1.0f : 1.0f, cuda_stream_of(x)),
               "RoPE's kernel");
}

at::Tensor swiglu_by(const CudaCalls& calls, const at::Tensor& gate, const at::Tensor& up) {
  const c10::DeviceGuard guard(gate.device());
  at::Tensor y = at::empty_like(gate);
  cuda_started(calls.swiglu(value_type(gate), gate.const_data_ptr(), up.const_data_ptr(), y.data_ptr(), gate.numel(), cuda_stream_of(gate)),
               "SwiGLU's kernel");
  return y;
}

std::pair<at::Tensor, at::Tensor> swiglu_backward_by(const CudaCalls& calls, const at::Tensor& grad, const at::Tensor& gate, const at::Tensor& up) {
  const c10::DeviceGuard guard(gate.device());
  at::Tensor dgate = at::empty_like(gate), dup = at::empty_like(up);
  cuda_started(calls.swiglu_backward(value_type(gate), grad.const_data_ptr(), gate.const_data_ptr(), up.const_data_ptr(), dgate.data_ptr(),
                                     dup.data_ptr(), gate.numel(), cuda_stream_of(gate)),
               "SwiGLU's backward kernel");
  return {dgate, dup};
}

LossValues loss_rows_by(const CudaCalls& calls, LossRows& rows, const LossWeights& weights, bool gradients) {
  const at::Tensor& z = rows.logits;
  TORCH_INTERNAL_ASSERT(z.scalar_type() == at::kFloat && z.stride(1) == 1);
  TORCH_INTERNAL_ASSERT(!rows.teacher.defined() || (rows.teacher.scalar_type() == at::kFloat && rows.teacher.stride(1) == 1));
  const c10::DeviceGuard guard(z.device());
  const int64_t count = z.size(0), k = rows.ids.defined() ? rows.ids.size(1) : 0;
  const auto doubles = z.options().dtype(at::kDouble);
  const at::Tensor labels = rows.labels.contiguous(), row_weights = as_float(rows.row_weights);
  const at::Tensor probs = as_float(rows.probs), tail = as_float(rows.tail);
  const at::Tensor ids = k ? rows.ids.to(at::kInt).contiguous() : at::Tensor();
  const at::Tensor kept = k ? at::empty({count, k}, z.options()) : at::Tensor(), twice = at::zeros({1}, z.options().dtype(at::kInt));
  LossValues values{at::empty({count}, doubles), at::empty({count}, doubles), at::empty({count}, doubles)};
  AttarLossRows job{};
  job.rows = count, job.vocab = z.size(1), job.k = k;
  job.logits = z.data_ptr<float>(), job.logits_stride = z.stride(0);
  if (rows.teacher.defined()) job.teacher = rows.teacher.data_ptr<float>(), job.teacher_stride = rows.teacher.stride(0);
  job.teacher_live = rows.live, job.gradients = gradients;
  job.labels = labels.const_data_ptr<int64_t>();
  job.row_weights = row_weights.defined() ? row_weights.const_data_ptr<float>() : nullptr;
  if (k) {
    job.ids = ids.const_data_ptr<int32_t>(), job.probs = probs.const_data_ptr<float>(), job.kept = kept.data_ptr<float>();
    job.tail = tail.defined() ? tail.const_data_ptr<float>() : nullptr;
  }
  job.softcap = rows.softcap, job.teacher_softcap = rows.teacher_softcap;
  job.terms = {weights.kl,  weights.ce,  weights.rkl,         weights.jsd,  weights.skl,
               weights.srkl, weights.tvd, weights.temperature, weights.beta, weights.lambda};
  job.loss = values.loss.data_ptr<double>(), job.teacher_terms = values.teacher.data_ptr<double>();
  job.cross_entropy = values.cross_entropy.data_ptr<double>(), job.twice = twice.data_ptr<int32_t>();
  cuda_started(calls.loss_rows(&job, cuda_stream_of(z)), "the loss's row kernel");
  if (k && tail.defined()) values.loss.masked_fill_(twice.gt(0), std::numeric_limits<double>::quiet_NaN());
  return values;
}

}  // namespace attar
