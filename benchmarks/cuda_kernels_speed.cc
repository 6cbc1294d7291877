// The CUDA part's kernels beside LibTorch's own operations on the same tensors: a line of JSON each. Run by on_gpu.py.
//   cuda_kernels_speed [ROWS] [WIDTH]
#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "device/device.h"
#include "kernels/cuda_grids.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

namespace attar {
namespace {

/// Median over rounds of the seconds that one call takes, many in a row.
double seconds_of(const std::function<void()>& work) {
  constexpr int kCalls = 50, kRounds = 7;
  const c10::impl::VirtualGuardImpl gpu(at::kCUDA);
  std::vector<double> rounds;
  for (int round = 0; round <= kRounds; ++round) {
    gpu.synchronizeDevice(gpu.getDevice().index());
    const auto begin = std::chrono::steady_clock::now();
    for (int call = 0; call < kCalls; ++call) work();
    gpu.synchronizeDevice(gpu.getDevice().index());
    if (round > 0) rounds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / kCalls);
  }
  std::sort(rounds.begin(), rounds.end());
  return rounds[kRounds / 2];
}

void compare(const std::string& name, double bytes, const std::function<void()>& ours, const std::function<void()>& theirs) {
  const double mine = seconds_of(ours), other = theirs ? seconds_of(theirs) : 0;
  Json line = {{"kernel", name}, {"us", 1e6 * mine}, {"gb_per_s", bytes / mine / 1e9}};
  if (theirs) line["libtorch_us"] = 1e6 * other, line["times_as_fast"] = other / mine;
  std::cout << to_line(line) << std::endl;
}

void run(int64_t rows, int64_t width) {
  const at::Device gpu = parse_device("cuda");
  at::manual_seed(1);
  const at::TensorOptions half = at::TensorOptions(gpu).dtype(at::kBFloat16), full = half.dtype(at::kFloat);
  const at::Tensor x = at::randn({rows, width}, half), up = at::randn({rows, width}, half), dy = at::randn({rows, width}, half);
  const at::Tensor w = at::ones({width}, full), w_half = w.to(at::kBFloat16);
  const double one = 2.0 * static_cast<double>(rows * width);  // bytes of one such matrix
  compare("rms_norm", 2 * one, [&] { rms_norm(x, w, 1e-5, 0); }, [&] { at::rms_norm(x, {width}, w_half, 1e-5); });
  const at::Tensor rstd = rms_norm(x, w, 1e-5, 0).rstd;
  compare("rms_norm_backward", 3 * one, [&] { rms_norm_backward(dy, x, w, rstd, 0); }, {});
  compare("swiglu", 3 * one, [&] { gated(x, up, GateActivation::silu); }, [&] { at::silu(x) * up; });
  compare("swiglu_backward", 5 * one, [&] { gated_backward(dy, x, up, GateActivation::silu); },
          [&] { at::silu_backward(dy * up, x), dy * at::silu(x); });
  at::Tensor heads = x.view({1, rows, width / 64, 64}).clone();
  const at::Tensor angles = at::randn({rows, 32}, full), cos = angles.cos(), sin = angles.sin();
  const at::Tensor c = cos.to(at::kBFloat16).unsqueeze(1), s = sin.to(at::kBFloat16).unsqueeze(1);
  compare("rope", 2 * one, [&] { rotate_(heads, cos, sin, false); }, [&] {
    const at::Tensor a = heads.slice(3, 0, 32), b = heads.slice(3, 32, 64);
    at::cat({a * c - b * s, b * c + a * s}, 3);
  });
  const at::Tensor weight = at::randn({width, width}, full);
  const double weights = 8.0 * static_cast<double>(width * width);
  for (const GgmlType type : {GgmlType::q4_0, GgmlType::q8_0, GgmlType::q4_k, GgmlType::q6_k, GgmlType::i8})
    compare(str("fake_quantize ", ggml_type_info(type).name), weights, [&] { fake_quantize_by(cuda_calls(), type, weight); }, {});
  const at::Tensor scales = at::rand({width, width / 32, 1}, full) * 0.1;
  compare("round_learned q4_0", weights, [&] { round_learned_by(cuda_calls(), GgmlType::q4_0, weight, scales); }, {});
  compare("scale_slopes q4_0", 1.5 * weights, [&] { scale_gradients_by(cuda_calls(), GgmlType::q4_0, weight, scales, weight); }, {});
}

}  // namespace
}  // namespace attar

int main(int count, char** words) {
  try {
    attar::run(count > 1 ? std::stol(words[1]) : 16384, count > 2 ? std::stol(words[2]) : 4096);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
