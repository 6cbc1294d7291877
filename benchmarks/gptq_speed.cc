// GPTQ of one linear layer beside the matrix algebra that it cannot do without, in one run, taking turns.
//   gptq_speed [SIZE 4096] [TYPE q4_k] [THREADS 2] [PAIRS 3]
// Algebra: the Cholesky factorization, the triangular inverse and the products that carry errors to later columns, no rounding at all.
// The paper's algebra: Cholesky factorization, inverse, and the inverse's Cholesky factorization, with the same products.
// Prints wall and processor seconds of each turn, and the medians' ratios (processor seconds).
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <functional>
#include <iostream>

#include "base/check.h"
#include "device/device.h"
#include "quant/gptq.h"

namespace {

constexpr int64_t kSpan = 256;  // columns that are rounded before the rest hears of it, as in quant/gptq.cc

double timed(const char* what, const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  const std::clock_t ticks = std::clock();
  work();
  const double busy = static_cast<double>(std::clock() - ticks) / CLOCKS_PER_SEC;
  std::cout << what << " " << std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() << " s, " << busy
            << " s of processors" << std::endl;
  return busy;
}

/// The products of gptq_tensor, with errors that are always the same.
void carry_errors(const at::Tensor& weight, const at::Tensor& u) {
  const at::Tensor w = weight.clone(), errors = at::full({w.size(0), kSpan}, 1e-6f);
  for (int64_t first = 0; first + kSpan < w.size(1); first += kSpan) {
    const int64_t after = w.size(1) - first - kSpan;
    w.narrow(1, first + kSpan, after).addmm_(errors, u.narrow(0, first, kSpan).narrow(1, first + kSpan, after));
  }
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  using namespace attar;
  try {
    const int64_t size = argc > 1 ? std::stoll(argv[1]) : 4096;
    const GgmlType type = ggml_type_named(argc > 2 ? argv[2] : "q4_k");
    const int64_t threads = argc > 3 ? std::stoll(argv[3]) : 2, pairs = argc > 4 ? std::stoll(argv[4]) : 3;
    set_up_machine(threads);
    at::NoGradGuard no_grad;
    at::manual_seed(1);
    const at::Tensor x = at::mm(at::randn({2 * size, size / 4}), at::randn({size / 4, size})) + at::randn({2 * size, size});
    const at::Tensor hessian = at::mm(x.t(), x), weight = 0.02 * at::randn({size, size});
    std::vector<double> gptq, algebra, paper;
    for (int64_t pair = 0; pair < pairs; ++pair) {
      gptq.push_back(timed("gptq            ", [&] { gptq_tensor(weight, inverse_factor(hessian.clone(), 2 * size, 0.01), type); }));
      algebra.push_back(timed("algebra         ", [&] { carry_errors(weight, inverse_factor(hessian.clone(), 2 * size, 0.01).u); }));
      paper.push_back(timed("paper's algebra ", [&] {
        at::Tensor damped = hessian.clone();
        damped.diagonal().add_(0.01 * damped.diagonal().mean());
        carry_errors(weight, at::linalg_cholesky(at::cholesky_inverse(at::linalg_cholesky(damped)), true));
      }));
    }
    std::cout << "ratio to the algebra alone " << median(gptq) / median(algebra) << ", to the paper's algebra " << median(gptq) / median(paper)
              << std::endl;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << std::endl;
    return 1;
  }
}
