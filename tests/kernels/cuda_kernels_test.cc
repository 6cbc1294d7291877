// The CUDA part itself: it loads and answers everywhere; on a machine with a GPU its kernels are compared with the CPU's.
#include <dlfcn.h>

#include <cstring>
#include <filesystem>

#include "kernels/cuda_cases.h"
#include "device/cuda_part.h"
#include "device/device.h"
#include "formats/ggml_types.h"
#include "kernels/decoder_rows.h"
#include "blocks/ggml_blocks.h"
#include "kernels/linear_loss.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

namespace attar {
namespace {

/// Skips the running test, loudly, where no CUDA device can be used.
#define ATTAR_NEED_GPU                                   \
  if (std::string why; !cuda_usable(&why)) GTEST_SKIP() << "SKIPPED LOUDLY: no CUDA kernel was run: " << why

#define ATTAR_CUDA_CALL(name, ...)                                                     \
  do {                                                                                 \
    const char* why_not = cuda_function<decltype(name)>(#name)(__VA_ARGS__);           \
    ASSERT_EQ(why_not, nullptr) << #name << ": " << why_not;                           \
  } while (false)

/// Device memory holding a copy of host values; copied back on request.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(std::vector<T>& host) : host_(host) { fill(); }
  ~OnDevice() { cuda_function<decltype(attar_cuda_free)>("attar_cuda_free")(memory_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  T* get() const { return static_cast<T*>(memory_); }
  void back() { ATTAR_CUDA_CALL(attar_cuda_copy_out, host_.data(), memory_, bytes()); }

 private:
  int64_t bytes() const { return static_cast<int64_t>(host_.size() * sizeof(T)); }
  void fill() {
    ATTAR_CUDA_CALL(attar_cuda_malloc, &memory_, bytes());
    ATTAR_CUDA_CALL(attar_cuda_copy_in, memory_, host_.data(), bytes());
  }
  std::vector<T>& host_;
  void* memory_ = nullptr;
};

/// Distance in units of the CPU's largest value.
double cuda_gap(const std::vector<float>& got, const std::vector<float>& expected) {
  double gap = 0, size = 1e-30;
  for (size_t i = 0; i < expected.size(); ++i) {
    gap = std::max(gap, std::abs(static_cast<double>(got[i]) - expected[i]));
    size = std::max(size, std::abs(static_cast<double>(expected[i])));
  }
  return gap / size;
}

TEST(CudaPart, LoadsWithoutAGpuAndAnswers) {
  const auto file = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "../lib/libattar_cuda.so";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "SKIPPED LOUDLY: this build has no CUDA part";
  void* part = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(part, nullptr) << dlerror();
  const auto version = reinterpret_cast<decltype(&attar_cuda_version)>(dlsym(part, "attar_cuda_version"));
  ASSERT_NE(version, nullptr);
  EXPECT_EQ(version(), ATTAR_CUDA_PART_VERSION);
  const auto ready = reinterpret_cast<decltype(&attar_cuda_ready)>(dlsym(part, "attar_cuda_ready"));
  ASSERT_NE(ready, nullptr);
  if (const char* why = ready()) {
    EXPECT_GT(std::strlen(why), 10u) << "a refusal is a sentence";
  }
  for (const char* name : {"attar_cuda_quantize", "attar_cuda_dequantize", "attar_cuda_fake_quantize", "attar_cuda_rms_norm",
                           "attar_cuda_rms_norm_backward", "attar_cuda_rotate", "attar_cuda_swiglu", "attar_cuda_swiglu_backward",
                           "attar_cuda_loss_rows", "attar_cuda_quantize_weighted", "attar_cuda_round_kept", "attar_cuda_round_learned",
                           "attar_cuda_scale_slopes", "attar_cuda_row_steps", "attar_cuda_round_rows", "attar_cuda_row_slopes",
                           "attar_cuda_malloc", "attar_cuda_free", "attar_cuda_copy_in", "attar_cuda_copy_out"})
    EXPECT_NE(dlsym(part, name), nullptr) << name;
  // CUDA's own runtime inside the part must not meet LibTorch's.
  EXPECT_EQ(dlsym(part, "cudaMalloc"), nullptr);
  dlclose(part);
}

TEST(CudaPart, WithoutAGpuAFunctionIsRefusedInASentence) {
  if (cuda_usable()) GTEST_SKIP() << "this machine has a GPU";
  try {
    cuda_part_function("attar_cuda_swiglu");
    FAIL() << "no error";
  } catch (const std::exception& error) {
    EXPECT_NE(std::string(error.what()).find("CUDA part"), std::string::npos) << error.what();
  }
}

TEST(CudaKernels, BlocksEqualTheCpusToTheByte) {
  ATTAR_NEED_GPU;
  constexpr int64_t kValues = 256 * 300;
  std::vector<float> x = cuda_case_noise(kValues, 1);
  for (size_t i = 0; i < 32; ++i) x[i] = 0;
  for (const GgmlType type : {GgmlType::q4_0, GgmlType::q4_1, GgmlType::q5_0, GgmlType::q5_1, GgmlType::q8_0, GgmlType::iq4_nl, GgmlType::q2_k,
                              GgmlType::q3_k, GgmlType::q4_k, GgmlType::q5_k, GgmlType::q6_k, GgmlType::mxfp4, GgmlType::tq1_0, GgmlType::tq2_0}) {
    const GgmlTypeInfo& info = ggml_type_info(type);
    SCOPED_TRACE(info.name);
    const int64_t blocks = kValues / info.block;
    const auto number = static_cast<int32_t>(type);
    std::vector<uint8_t> expected(static_cast<size_t>(blocks * info.bytes)), bytes(expected.size());
    std::vector<float> expected_values(kValues), values(kValues);
    quantize_rows_plain(type, x.data(), expected.data(), 1, kValues);
    dequantize_rows_plain(type, expected.data(), expected_values.data(), 1, kValues);
    {
      OnDevice<uint8_t> from(expected);
      OnDevice<float> to(values);
      ATTAR_CUDA_CALL(attar_cuda_dequantize, number, from.get(), to.get(), blocks, nullptr);
      to.back();
      EXPECT_EQ(values, expected_values);
    }
    if (type == GgmlType::iq4_nl) continue;
    OnDevice<float> from(x), faked(values);
    OnDevice<uint8_t> to(bytes);
    ATTAR_CUDA_CALL(attar_cuda_quantize, number, from.get(), to.get(), blocks, nullptr);
    to.back();
    EXPECT_EQ(bytes, expected);
    ATTAR_CUDA_CALL(attar_cuda_fake_quantize, number, from.get(), faked.get(), blocks, nullptr);
    faked.back();
    EXPECT_EQ(values, expected_values);
  }
}

TEST(CudaKernels, DecoderRowsEqualTheCpus) {
  ATTAR_NEED_GPU;
  for (int64_t width : {1, 31, 130, 1024, 4096}) {
    SCOPED_TRACE(width);
    const int64_t rows = 300, parts = 3;
    const auto total = static_cast<size_t>(rows * width);
    std::vector<float> x = cuda_case_noise(rows * width, 1), w = cuda_case_noise(width, 2), dy = cuda_case_noise(rows * width, 3);
    std::vector<float> y(total), y_cpu(total), dx(total), dx_cpu(total), rstd(rows), rstd_cpu(rows);
    std::vector<float> dw(static_cast<size_t>(width)), dw_cpu(dw.size(), 0.0f);
    std::vector<float> partial(static_cast<size_t>(parts * width));
    for (int64_t r = 0; r < rows; ++r) {
      const size_t at = static_cast<size_t>(r * width);
      rstd_cpu[static_cast<size_t>(r)] = rms_norm_row(&x[at], w.data(), &y_cpu[at], width, 1e-5f, 1.0f);
      rms_norm_backward_row(&dy[at], &x[at], w.data(), rstd_cpu[static_cast<size_t>(r)], 1.0f, &dx_cpu[at], dw_cpu.data(), width);
    }
    OnDevice<float> on_x(x), on_w(w), on_dy(dy), on_y(y), on_dx(dx), on_r(rstd), on_partial(partial), on_dw(dw);
    ATTAR_CUDA_CALL(attar_cuda_rms_norm, kAttarFloat32, on_x.get(), on_w.get(), on_y.get(), on_r.get(), rows, width, 1e-5f, 1.0f, nullptr);
    ATTAR_CUDA_CALL(attar_cuda_rms_norm_backward, kAttarFloat32, on_dy.get(), on_x.get(), on_w.get(), on_r.get(), on_dx.get(), on_partial.get(),
                    on_dw.get(), rows, width, 1.0f, nullptr);
    on_y.back(), on_dx.back(), on_r.back(), on_dw.back();
    EXPECT_LT(cuda_gap(rstd, rstd_cpu), 1e-6);
    EXPECT_LT(cuda_gap(y, y_cpu), 1e-6);
    EXPECT_LT(cuda_gap(dx, dx_cpu), 3e-6);
    EXPECT_LT(cuda_gap(dw, dw_cpu), 3e-6);
    // Without a sum the bits are the CPU's.
    const auto count = static_cast<int64_t>(total);
    ATTAR_CUDA_CALL(attar_cuda_swiglu, kAttarFloat32, on_x.get(), on_dy.get(), on_y.get(), count, nullptr);
    on_y.back();
    swiglu_row(x.data(), dy.data(), y_cpu.data(), count);
    EXPECT_EQ(y, y_cpu);
    ATTAR_CUDA_CALL(attar_cuda_swiglu_backward, kAttarFloat32, on_dy.get(), on_x.get(), on_dy.get(), on_y.get(), on_dx.get(), count, nullptr);
    on_y.back(), on_dx.back();
    swiglu_backward_row(dy.data(), x.data(), dy.data(), y_cpu.data(), dx_cpu.data(), count);
    EXPECT_EQ(y, y_cpu);
    EXPECT_EQ(dx, dx_cpu);
  }
  const int64_t rows = 14, positions = 7, heads = 3, size = 10, half = 4;
  std::vector<float> x = cuda_case_noise(rows * heads * size, 4), expected = x;
  std::vector<float> cos = cuda_case_noise(positions * half, 5), sin = cuda_case_noise(positions * half, 6);
  for (int64_t r = 0; r < rows; ++r)
    rotate_row(&expected[static_cast<size_t>(r * heads * size)], heads, size, half, &cos[static_cast<size_t>(r % positions * half)],
               &sin[static_cast<size_t>(r % positions * half)], -1.0f);
  OnDevice<float> on_x(x), on_cos(cos), on_sin(sin);
  ATTAR_CUDA_CALL(attar_cuda_rotate, kAttarFloat32, on_x.get(), on_cos.get(), on_sin.get(), rows, positions, heads, size, half, -1.0f, nullptr);
  on_x.back();
  EXPECT_EQ(x, expected);
}

/// Copies what a job names to the device, runs it there and copies results back.
void run_loss_on_device(AttarLossRows& job) {
  const auto copy = [](auto* from, int64_t count) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(from)>>;
    return from ? std::vector<T>(from, from + count) : std::vector<T>();
  };
  auto z = copy(job.logits, job.rows * job.vocab), y = copy(job.teacher, job.rows * job.vocab);
  auto labels = copy(job.labels, job.rows);
  auto weights = copy(job.row_weights, job.rows), probs = copy(job.probs, job.rows * job.k), tail = copy(job.tail, job.rows);
  auto ids = copy(job.ids, job.rows * job.k);
  auto loss = copy(job.loss, job.rows), terms = copy(job.teacher_terms, job.rows), ce = copy(job.cross_entropy, job.rows);
  auto kept = copy(job.kept, job.rows * job.k);
  std::vector<int32_t> twice{0};
  OnDevice<float> on_z(z), on_y(y), on_weights(weights), on_probs(probs), on_tail(tail), on_kept(kept);
  OnDevice<int64_t> on_labels(labels);
  OnDevice<int32_t> on_ids(ids), on_twice(twice);
  OnDevice<double> on_loss(loss), on_terms(terms), on_ce(ce);
  AttarLossRows there = job;
  there.logits = on_z.get(), there.labels = on_labels.get(), there.kept = on_kept.get(), there.twice = on_twice.get();
  there.teacher = job.teacher ? on_y.get() : nullptr, there.row_weights = job.row_weights ? on_weights.get() : nullptr;
  there.ids = job.ids ? on_ids.get() : nullptr, there.probs = job.probs ? on_probs.get() : nullptr, there.tail = job.tail ? on_tail.get() : nullptr;
  there.loss = on_loss.get(), there.teacher_terms = on_terms.get(), there.cross_entropy = on_ce.get();
  ATTAR_CUDA_CALL(attar_cuda_loss_rows, &there, nullptr);
  on_z.back(), on_loss.back(), on_terms.back(), on_ce.back(), on_twice.back();
  std::copy(z.begin(), z.end(), job.logits);
  std::copy(loss.begin(), loss.end(), job.loss);
  std::copy(terms.begin(), terms.end(), job.teacher_terms);
  std::copy(ce.begin(), ce.end(), job.cross_entropy);
  *job.twice = twice[0];
}

TEST(CudaKernels, LossRowsEqualTheFormulas) {
  ATTAR_NEED_GPU;
  for (const LossRowsCase& one : loss_rows_cases()) {
    SCOPED_TRACE(one.name);
    const auto [values, slopes] = one.gaps(run_loss_on_device, true);
    EXPECT_LT(values, 2e-6);
    EXPECT_LT(slopes, 2e-6);
  }
}

/// The operations as training calls them: tensors in, dispatch, kernel, LibTorch's stream.
TEST(CudaKernels, OperationsOnTensorsEqualTheCpus) {
  ATTAR_NEED_GPU;
  const at::Device gpu(at::kCUDA, 0);
  at::manual_seed(9);
  const auto gap = [](const at::Tensor& got, const at::Tensor& expected) {
    const at::Tensor e = expected.to(at::kDouble);
    return ((got.cpu().to(at::kDouble) - e).abs().max() / e.abs().max().clamp_min(1e-30)).item<double>();
  };
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    SCOPED_TRACE(c10::toString(type));
    const double room = type == at::kBFloat16 ? 1e-2 : 1e-5;
    const at::Tensor x = at::randn({2, 300, 256}).to(type), dy = at::randn({2, 300, 256}).to(type), up = at::randn({2, 300, 256}).to(type),
                     w = at::randn({256});
    const at::Tensor wide = x.to(at::kFloat), wide_dy = dy.to(at::kFloat), wide_up = up.to(at::kFloat);
    const RmsNormResult cpu = rms_norm(wide, w, 1e-5, 0), there = rms_norm(x.to(gpu), w.to(gpu), 1e-5, 0);
    EXPECT_LT(gap(there.y, cpu.y), room);
    const auto cpu_norm = rms_norm_backward(wide_dy, wide, w, cpu.rstd, 0);
    const auto gpu_norm = rms_norm_backward(dy.to(gpu), x.to(gpu), w.to(gpu), there.rstd, 0);
    EXPECT_LT(gap(gpu_norm.first, cpu_norm.first), room);
    EXPECT_LT(gap(gpu_norm.second, cpu_norm.second), 1e-5);
    EXPECT_LT(gap(gated(x.to(gpu), up.to(gpu), GateActivation::silu), gated(wide, wide_up, GateActivation::silu)), room);
    const auto cpu_gate = gated_backward(wide_dy, wide, wide_up, GateActivation::silu);
    const auto gpu_gate = gated_backward(dy.to(gpu), x.to(gpu), up.to(gpu), GateActivation::silu);
    EXPECT_LT(gap(gpu_gate.first, cpu_gate.first), room);
    EXPECT_LT(gap(gpu_gate.second, cpu_gate.second), room);
    at::Tensor turned = x.view({2, 300, 4, 64}).to(gpu);
    const at::Tensor angles = at::randn({300, 32}), cos = angles.cos(), sin = angles.sin();
    rotate_(turned, cos.to(gpu), sin.to(gpu), false);
    EXPECT_LT(gap(turned, rotate_plain(wide.view({2, 300, 4, 64}), cos, sin, false)), room);
  }
}

/// The fused loss with hidden states on the GPU and labels and targets left on the host, as training has them.
TEST(CudaKernels, TheFusedLossEqualsThePlainOne) {
  ATTAR_NEED_GPU;
  const at::Device gpu(at::kCUDA, 0);
  at::manual_seed(10);
  const int64_t rows = 700, vocab = 3001;
  const at::Tensor hidden = at::randn({rows, 96}), weight = at::randn({vocab, 96}) * 0.2, labels = at::randint(vocab, {rows}, at::kLong);
  labels.slice(0, 0, rows, 5).fill_(-100);
  for (const LogitTargets::Kind kind : {LogitTargets::Kind::live, LogitTargets::Kind::sparse})
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      SCOPED_TRACE(c10::toString(type));
      LogitTargets targets, there;
      targets.kind = kind;
      if (kind == LogitTargets::Kind::live) targets.hidden = at::randn({rows, 64}), targets.weight = at::randn({vocab, 64}) * 0.2;
      if (kind == LogitTargets::Kind::sparse) {
        targets.ids = std::get<1>(at::rand({rows, vocab}).topk(12, 1)).to(at::kInt);
        targets.probs = at::rand({rows, 12}) / 12;
        targets.tail = 1 - targets.probs.sum(1);
      }
      there = targets;
      if (kind == LogitTargets::Kind::live) there.hidden = targets.hidden.to(gpu), there.weight = targets.weight.to(gpu);
      const LossWeights weights{.kl = 0.7, .ce = 0.3};
      const LinearLossResult plain = linear_loss_plain(hidden.to(type).to(at::kFloat), weight, targets, labels, {}, weights, 0, vocab, true);
      const LinearLossResult got = linear_loss(hidden.to(type).to(gpu), weight.to(gpu), there, labels, {}, weights, 0, vocab, true);
      const auto gap = [](const at::Tensor& a, const at::Tensor& b) {
        return ((a.cpu().to(at::kDouble) - b.to(at::kDouble)).abs().max() / b.abs().max().to(at::kDouble)).item<double>();
      };
      const double room = type == at::kBFloat16 ? 2e-2 : 1e-4;
      EXPECT_LT(gap(got.loss, plain.loss), room);
      EXPECT_LT(gap(got.grad_hidden, plain.grad_hidden), room);
      EXPECT_LT(gap(got.grad_weight, plain.grad_weight), room);
    }
}

#undef ATTAR_NEED_GPU
#undef ATTAR_CUDA_CALL

}  // namespace
}  // namespace attar
