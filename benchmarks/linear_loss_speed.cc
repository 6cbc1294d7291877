// The fused linear KL on request, for linear_loss_vs_pytorch.py: a line in, a call timed, a line of JSON out.
//   linear_loss_speed ROWS D V THREADS
#include <ATen/ATen.h>
#include <malloc.h>

#include <chrono>
#include <ctime>
#include <iostream>
#include <string>

#include "base/json.h"
#include "device/device.h"
#include "kernels/linear_loss.h"

namespace {

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

int main(int count, char** words) {
  using namespace attar;
  if (count != 5) {
    std::cerr << "linear_loss_speed ROWS D V THREADS\n";
    return 2;
  }
  const int64_t rows = std::stol(words[1]), D = std::stol(words[2]), V = std::stol(words[3]);
  set_up_machine(std::stol(words[4]));
  at::manual_seed(1);
  const at::Tensor hidden = at::randn({rows, D}), weight = at::randn({V, D}) * 0.05, labels = at::zeros({rows}, at::kLong);
  LogitTargets targets;
  targets.kind = LogitTargets::Kind::live;
  targets.hidden = at::randn({rows, D});
  targets.weight = at::randn({V, D}) * 0.05;
  LossWeights weights;
  weights.kl = 1;
  for (std::string line; std::getline(std::cin, line);) {
    malloc_trim(0);  // what is left of the call before would hide what this one takes
    reset_peak_rss();
    const int64_t before = current_rss_bytes();
    const auto begin = std::chrono::steady_clock::now();
    const double begin_processor = processor_seconds();
    const LinearLossResult result = linear_loss(hidden, weight, targets, labels, {}, weights, 0, V, true);
    const double processor = processor_seconds() - begin_processor;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const double extra = static_cast<double>(peak_rss_bytes() - before) / (1 << 20);
    std::cout << to_line({{"seconds", seconds}, {"processor_s", processor}, {"extra_mib", extra}, {"loss", result.loss.item<double>()}}) << std::endl;
  }
  return 0;
}
