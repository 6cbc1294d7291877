#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <cstdlib>
#include <optional>

#include "base/check.h"
#include "base/hash.h"
#include "dist/process_group.h"

namespace attar {
namespace {

constexpr std::chrono::minutes kPatience{30};       ///< of one collective: a rank may be evaluating meanwhile
constexpr std::chrono::minutes kMeetingPatience{5}; ///< for all ranks to arrive

/// Several processes over LibTorch's Gloo backend.
class GlooGroup final : public ProcessGroup {
 public:
  GlooGroup(const std::string& host, int64_t port, int64_t rank, int64_t size) : rank_(rank), size_(size) {
    try {
      c10d::TCPStoreOptions options;
      options.port = static_cast<uint16_t>(port);
      options.isServer = rank == 0;
      options.numWorkers = static_cast<size_t>(size);
      options.timeout = kMeetingPatience;
      store_ = c10::make_intrusive<c10d::TCPStore>(host, options);
      auto gloo = c10d::ProcessGroupGloo::Options::create(kPatience);
      gloo->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice());
      group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store_, static_cast<int>(rank), static_cast<int>(size), gloo);
    } catch (const std::exception& error) {
      fail(str("process group at ", host, ":", port), str("all ", size, " ranks to meet"), first_line(error.what()),
           "check MASTER_ADDR and MASTER_PORT, and that every rank was started");
    }
  }
  int64_t rank() const override { return rank_; }
  int64_t size() const override { return size_; }
  void all_reduce_sum(at::Tensor& tensor) override {
    on_contiguous(tensor, "all_reduce", [&](std::vector<at::Tensor>& tensors) { return group_->allreduce(tensors); });
  }
  void broadcast(at::Tensor& tensor, int64_t root) override {
    c10d::BroadcastOptions options;
    options.rootRank = root;
    on_contiguous(tensor, "broadcast", [&](std::vector<at::Tensor>& tensors) { return group_->broadcast(tensors, options); });
  }
  void barrier() override {
    at::Tensor token = at::zeros({1});
    all_reduce_sum(token);
  }

 private:
  static std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

  /// Gloo works on dense CPU memory: others go through a copy.
  template <class Work>
  void on_contiguous(at::Tensor& tensor, const char* what, Work&& work) {
    try {
      const at::NoGradGuard no_grad;
      const bool direct = tensor.is_contiguous() && tensor.is_cpu();
      std::vector<at::Tensor> tensors{direct ? tensor.detach() : tensor.detach().to(at::kCPU).contiguous()};
      work(tensors)->wait();
      if (!direct) tensor.detach().copy_(tensors[0]);
    } catch (const c10::Error& error) {
      fail(str(what, " on rank ", rank_), "every rank to take part", first_line(error.what_without_backtrace()));
    } catch (const std::exception& error) {
      fail(str(what, " on rank ", rank_), "every rank to take part", first_line(error.what()));
    }
  }
  int64_t rank_, size_;
  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
};

std::optional<std::string> environment(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? std::optional<std::string>(value) : std::nullopt;
}

int64_t environment_number(const char* name, int64_t low, int64_t high) {
  const std::string text = environment(name).value_or("");
  char* end = nullptr;
  const int64_t value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end || value < low || value > high) fail(str("environment variable ", name), str("a number from ", low, " to ", high), text);
  return value;
}

/// A port that all ranks of one job derive alike from its name.
int64_t port_of_job(const std::string& job) { return 20000 + std::strtoll(sha256(job).substr(0, 7).c_str(), nullptr, 16) % 20000; }

/// First host of a Slurm node list: "node[03-05,9],other" -> "node03".
std::string first_host(const std::string& list) {
  const size_t bracket = list.find('['), comma = list.find(',');
  if (bracket == std::string::npos || comma < bracket) return list.substr(0, comma);
  const size_t end = list.find_first_of(",-]", bracket);
  return list.substr(0, bracket) + list.substr(bracket + 1, end - bracket - 1);
}

}  // namespace

std::shared_ptr<ProcessGroup> process_group_from_environment() {
  constexpr int64_t kMostRanks = 1 << 20;
  int64_t rank = 0, size = 1;
  std::string job, host = "127.0.0.1";
  if (environment("RANK") && environment("WORLD_SIZE")) {
    size = environment_number("WORLD_SIZE", 1, kMostRanks);
    rank = environment_number("RANK", 0, size - 1);
    if (size > 1 && !(environment("MASTER_ADDR") && environment("MASTER_PORT")))
      fail("environment", "MASTER_ADDR and MASTER_PORT beside RANK and WORLD_SIZE", "one of them is missing", "start with torchrun");
  } else if (environment("SLURM_STEP_NUM_TASKS") && environment("SLURM_PROCID")) {
    // SLURM_NTASKS stands in a batch script's own environment too, where no other rank runs: only srun sets the step's number.
    size = environment_number("SLURM_STEP_NUM_TASKS", 1, kMostRanks);
    rank = environment_number("SLURM_PROCID", 0, size - 1);
    job = "slurm " + environment("SLURM_JOB_ID").value_or("0") + "." + environment("SLURM_STEP_ID").value_or("0");
    if (environment("SLURM_STEP_NUM_NODES").value_or("1") != "1") host = first_host(environment("SLURM_STEP_NODELIST").value_or(host));
  } else if (environment("OMPI_COMM_WORLD_SIZE") && environment("OMPI_COMM_WORLD_RANK")) {
    size = environment_number("OMPI_COMM_WORLD_SIZE", 1, kMostRanks);
    rank = environment_number("OMPI_COMM_WORLD_RANK", 0, size - 1);
    job = "mpi " + environment("PMIX_NAMESPACE").value_or(environment("OMPI_MCA_ess_base_jobid").value_or("0"));
    if (environment("OMPI_COMM_WORLD_LOCAL_SIZE").value_or(str(size)) != str(size) && !environment("MASTER_ADDR"))
      fail("environment", "MASTER_ADDR: mpirun started ranks on several hosts", "nothing", "mpirun -x MASTER_ADDR=<host of rank 0>");
  }
  if (size == 1) return single_process();
  host = environment("MASTER_ADDR").value_or(host);
  const int64_t port = environment("MASTER_PORT") ? environment_number("MASTER_PORT", 1, 65535) : port_of_job(job);
  return std::make_shared<GlooGroup>(host, port, rank, size);
}

}  // namespace attar
