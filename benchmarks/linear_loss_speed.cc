// The fused linear KL on request, for linear_loss_vs_pytorch.py: a line in, a call timed, a line of JSON out.
//   linear_loss_speed ROWS D V THREADS [cuda]
// With cuda all matrices are bfloat16 on the GPU, and peak_device_bytes counts everything that lies there, the matrices included.
#include <ATen/ATen.h>
#include <malloc.h>

#include <chrono>
#include <ctime>
#include <iostream>
#include <string>

#include "base/json.h"
#include "device/device.h"
#include "device/peak_rate.h"
#include "kernels/linear_loss.h"

namespace {

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

int measure(int count, char** words) {
  using namespace attar;
  if (count != 5 && !(count == 6 && std::string(words[5]) == "cuda")) {
    std::cerr << "linear_loss_speed ROWS D V THREADS [cuda]\n";
    return 2;
  }
  const int64_t rows = std::stol(words[1]), D = std::stol(words[2]), V = std::stol(words[3]);
  set_up_machine(std::stol(words[4]));
  at::manual_seed(1);
  const bool gpu = count == 6;
  const at::Device device = parse_device(gpu ? "cuda" : "cpu");
  const at::TensorOptions options = at::TensorOptions(device).dtype(gpu ? at::kBFloat16 : at::kFloat);
  const auto matrix = [&](int64_t from, double deviation) { return at::randn({from, D}, options).mul_(deviation); };
  const at::Tensor hidden = matrix(rows, 1), weight = matrix(V, 0.05), labels = at::zeros({rows}, at::kLong);
  LogitTargets targets;
  targets.kind = LogitTargets::Kind::live;
  targets.hidden = matrix(rows, 1);
  targets.weight = matrix(V, 0.05);
  LossWeights weights;
  weights.kl = 1;
  for (std::string line; std::getline(std::cin, line);) {
    malloc_trim(0);  // what is left of the call before would hide what this one takes
    reset_peak_rss();
    if (gpu) reset_peak_bytes(device);
    const int64_t before = current_rss_bytes();
    const auto begin = std::chrono::steady_clock::now();
    const double begin_processor = processor_seconds();
    const LinearLossResult result = linear_loss(hidden, weight, targets, labels, {}, weights, 0, V, true);
    const double loss = result.loss.item<double>();  // waits for a GPU
    const double processor = processor_seconds() - begin_processor;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const double extra = static_cast<double>(peak_rss_bytes() - before) / (1 << 20);
    Json said = {{"seconds", seconds}, {"processor_s", processor}, {"extra_mib", extra}, {"loss", loss}};
    if (gpu) said["peak_device_bytes"] = peak_bytes(device);
    std::cout << to_line(said) << std::endl;
  }
  return 0;
}

}  // namespace

int main(int count, char** words) {
  try {
    return measure(count, words);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
