// attar doctor: what this machine has, what is missing, how fast it is.
#include <ATen/ATen.h>

#include <chrono>
#include <iostream>

#include "engine_tools.h"
#include "device/device.h"
#include "plan/estimate.h"
#include "report/terminal.h"
#include "stages/run.h"

namespace attar {

int tool_doctor(const Words& words) {
  at::NoGradGuard no_grad;
  const MachineFacts facts = machine_facts();
  std::string no_cuda;
  const bool cuda = cuda_usable(&no_cuda);
  const at::Tensor a = at::ones({1024, 1024}), b = at::ones({1024, 1024});
  double best = 0;
  for (int i = 0; i < 6; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    at::mm(a, b);
    best = std::max(best, 2.0 * 1024 * 1024 * 1024 / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  // Training reaches about a third of what one large product does: small shapes, norms, attention, optimizer.
  remember_machine_flops(best / 3);
  const Json result = {{"cpu", facts.cpu}, {"cores", facts.cores}, {"memory_bytes", facts.memory}, {"gpu", cuda ? facts.gpu : "none: " + no_cuda},
                       {"libtorch", facts.libtorch}, {"compiler", facts.compiler}, {"system", facts.system}, {"threads", thread_count()},
                       {"matrix_gflops", best / 1e9}, {"versions", code_versions()}};
  if (words.has("json")) {
    std::cout << to_line(result) << "\n";
    return 0;
  }
  std::cout << format_table({"what", "here"}, {{"processor", facts.cpu + ", " + str(facts.cores) + " cores"},
                                               {"memory", human_bytes(static_cast<double>(facts.memory))},
                                               {"GPU", result["gpu"].get<std::string>()},
                                               {"LibTorch", facts.libtorch},
                                               {"system", facts.system},
                                               {"matrix product, fp32", str(static_cast<int64_t>(best / 1e9), " GFLOP/s")}});
  return 0;
}

}  // namespace attar
