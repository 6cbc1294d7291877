#include "kernels/cuda_grids.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <cmath>

#include "base/check.h"
#include "blocks/ggml_blocks.h"
#include "kernels/grid_math.h"

namespace attar {
namespace {

constexpr const char* kFakeKernel = "the kernel of fake quantization";

int32_t number_of(GgmlType type) { return static_cast<int32_t>(type); }

void check_blocks(GgmlType type, const at::Tensor& weight) {
  const int64_t block = ggml_type_info(type).block;
  check(weight.size(-1) % block == 0, "row of a weight", str("a multiple of ", block, ", ", ggml_type_info(type).name, "'s block"),
        str(weight.size(-1)));
}

/// By way of the file's bytes: the search for codes needs the room.
at::Tensor quantized_and_back(const CudaCalls& calls, GgmlType type, const at::Tensor& weight, const at::Tensor& importance) {
  const int64_t rows = weight.numel() / weight.size(-1), columns = weight.size(-1);
  const bool means = ggml_type_info(type).block == 32 && importance.defined() && type != GgmlType::iq4_nl;
  const at::Tensor bytes = at::empty({rows, ggml_row_bytes(type, columns)}, weight.options().dtype(at::kByte));
  const at::Tensor room = means ? at::empty({rows}, weight.options()) : at::Tensor();
  at::Tensor out = at::empty_like(weight);
  void* stream = cuda_stream_of(weight);
  cuda_started(calls.quantize_weighted(number_of(type), weight.const_data_ptr<float>(),
                                       importance.defined() ? importance.const_data_ptr<float>() : nullptr, means ? room.data_ptr<float>() : nullptr,
                                       bytes.data_ptr<uint8_t>(), rows, columns, stream),
               kFakeKernel);
  cuda_started(calls.dequantize(number_of(type), bytes.const_data_ptr<uint8_t>(), out.data_ptr<float>(), weight.numel() / ggml_type_info(type).block,
                                stream),
               kFakeKernel);
  return out;
}

at::Tensor round_rows_by(const CudaCalls& calls, const at::Tensor& weight, const at::Tensor& steps) {
  at::Tensor out = at::empty_like(weight);
  cuda_started(calls.round_rows(weight.const_data_ptr<float>(), steps.const_data_ptr<float>(), out.data_ptr<float>(), weight.size(0), weight.size(1),
                                cuda_stream_of(weight)),
               kFakeKernel);
  return out;
}

}  // namespace

bool cuda_rounds_to(GgmlType type) { return ggml_type_info(type).quantized || type == GgmlType::i8; }

at::Tensor fake_quantize_by(const CudaCalls& calls, GgmlType type, const at::Tensor& weight, const at::Tensor& importance) {
  const c10::DeviceGuard guard(weight.device());
  if (type == GgmlType::i8) {
    const at::Tensor steps = at::empty({weight.size(0)}, weight.options());
    cuda_started(calls.row_steps(weight.const_data_ptr<float>(), steps.data_ptr<float>(), weight.size(0), weight.size(1), cuda_stream_of(weight)),
                 kFakeKernel);
    return round_rows_by(calls, weight, steps);
  }
  check_blocks(type, weight);
  const bool weighted = importance.defined() && uses_importance(type);
  if (weighted || type == GgmlType::iq4_nl) return quantized_and_back(calls, type, weight, weighted ? importance : at::Tensor());
  at::Tensor out = at::empty_like(weight);
  cuda_started(calls.fake_quantize(number_of(type), weight.const_data_ptr<float>(), out.data_ptr<float>(),
                                   weight.numel() / ggml_type_info(type).block, cuda_stream_of(weight)),
               kFakeKernel);
  return out;
}

at::Tensor round_kept_by(const CudaCalls& calls, GgmlType type, const at::Tensor& weight, const at::Tensor& scales) {
  const c10::DeviceGuard guard(weight.device());
  if (type == GgmlType::i8) return round_rows_by(calls, weight, scales.contiguous());
  check_blocks(type, weight);
  at::Tensor out = at::empty_like(weight);
  cuda_started(calls.round_kept(number_of(type), weight.const_data_ptr<float>(), scales.const_data_ptr<uint8_t>(), out.data_ptr<float>(),
                                weight.numel(), cuda_stream_of(weight)),
               kFakeKernel);
  return out;
}

at::Tensor round_learned_by(const CudaCalls& calls, GgmlType type, const at::Tensor& weight, const at::Tensor& scales) {
  const c10::DeviceGuard guard(weight.device());
  const at::Tensor here = scales.contiguous();
  if (type == GgmlType::i8) return round_rows_by(calls, weight, here);
  check_blocks(type, weight);
  at::Tensor out = at::empty_like(weight);
  cuda_started(calls.round_learned(number_of(type), weight.const_data_ptr<float>(), here.const_data_ptr<float>(), out.data_ptr<float>(),
                                   weight.numel(), cuda_stream_of(weight)),
               kFakeKernel);
  return out;
}

std::pair<at::Tensor, at::Tensor> scale_gradients_by(const CudaCalls& calls, GgmlType type, const at::Tensor& weight, const at::Tensor& scales,
                                                     const at::Tensor& gradient) {
  const c10::DeviceGuard guard(weight.device());
  const at::Tensor here = scales.contiguous();
  at::Tensor by_weight = at::empty_like(weight), by_scale = at::empty_like(here);
  void* stream = cuda_stream_of(weight);
  if (type == GgmlType::i8) {
    const double shrink = 1 / std::sqrt(static_cast<double>(weight.size(1)) * kRowInt8Top);
    cuda_started(calls.row_slopes(weight.const_data_ptr<float>(), here.const_data_ptr<float>(), gradient.const_data_ptr<float>(), shrink,
                                  by_weight.data_ptr<float>(), by_scale.data_ptr<float>(), weight.size(0), weight.size(1), stream),
                 kFakeKernel);
    return {by_weight, by_scale};
  }
  check_blocks(type, weight);
  const GridShape shape = grid_shape(type);
  const double shrink = 1 / std::sqrt(static_cast<double>(shape.block) * static_cast<double>(shape.highest));
  cuda_started(calls.scale_slopes(number_of(type), weight.const_data_ptr<float>(), here.const_data_ptr<float>(), gradient.const_data_ptr<float>(),
                                  shrink, by_weight.data_ptr<float>(), by_scale.data_ptr<float>(), weight.numel() / shape.block, stream),
               kFakeKernel);
  return {by_weight, by_scale};
}

}  // namespace attar
