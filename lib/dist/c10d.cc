#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "device/peak_rate.h"
#include "dist/nccl.h"
#include "dist/process_group.h"

namespace attar {
namespace {

constexpr std::chrono::minutes kPatience{30};       ///< of one collective: a rank may be evaluating meanwhile
constexpr std::chrono::minutes kMeetingPatience{5}; ///< for all ranks to arrive

constexpr std::chrono::milliseconds kBeat{500};     ///< between two signs of life of a rank
constexpr std::chrono::milliseconds kSilence{3000}; ///< without one: gone

/// Every rank counts in the common store while it lives, so that the others can tell who is gone when a collective breaks.
class Heartbeat {
 public:
  Heartbeat(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t size) : store_(std::move(store)), rank_(rank), size_(size) {
    for (int64_t r = 0; r < size_; ++r) store_->add(key(r), 0);
    thread_ = std::thread([this] {
      while (!ended_) {
        try {
          store_->add(key(rank_), 1);
        } catch (const std::exception&) {
          return;  // rank 0, who keeps the store, is gone: the collectives say so
        }
        std::this_thread::sleep_for(kBeat);
      }
    });
  }
  ~Heartbeat() {
    ended_ = true;
    thread_.join();
  }
  /// "rank 3": who does not count any more. Empty if all do. Takes the time of a silence, less where `ended` becomes true.
  std::string gone(const std::atomic<bool>* ended = nullptr) const {
    try {
      const std::vector<int64_t> before = counts();
      for (auto waited = kBeat; waited <= kSilence; waited += kBeat) {
        if (ended && *ended) return "";
        std::this_thread::sleep_for(kBeat);
      }
      const std::vector<int64_t> after = counts();
      std::string out;
      for (int64_t r = 0; r < size_; ++r)
        if (r != rank_ && before[static_cast<size_t>(r)] == after[static_cast<size_t>(r)]) out += str(out.empty() ? "rank " : ", rank ", r);
      return out;
    } catch (const std::exception&) {
      return "rank 0";
    }
  }

 private:
  static std::string key(int64_t rank) { return str("attar.beat.", rank); }
  std::vector<int64_t> counts() const {
    std::vector<int64_t> out;
    for (int64_t r = 0; r < size_; ++r) out.push_back(store_->add(key(r), 0));
    return out;
  }
  c10::intrusive_ptr<c10d::Store> store_;
  int64_t rank_, size_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

/// Ends NCCL's work when a rank has been silent for long: on a GPU the others would wait for it without end, and the host with them.
class NcclWatch {
 public:
  NcclWatch(const Heartbeat& heartbeat, NcclComm& comm) : thread_([this, &heartbeat, &comm] {
    for (int silences = 0; !ended_ && silences < kSilences;) silences = heartbeat.gone(&ended_).empty() ? 0 : silences + 1;
    if (!ended_) comm.abort();
  }) {}
  ~NcclWatch() {
    ended_ = true;
    thread_.join();
  }

 private:
  static constexpr int kSilences = 5;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

/// Several processes over c10d: Gloo for the host's memory, NCCL for a GPU's where all ranks have it, else that goes through the host.
class RankGroup final : public ProcessGroup {
 public:
  RankGroup(const std::string& host, int64_t port, int64_t rank, int64_t size) : rank_(rank), size_(size) {
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
      options.isServer = false;
      heartbeat_ = std::make_unique<Heartbeat>(c10::make_intrusive<c10d::TCPStore>(host, options), rank, size);
    } catch (const std::exception& error) {
      fail(str("process group at ", host, ":", port), str("all ", size, " ranks to meet"), first_line(error.what()),
           "check MASTER_ADDR and MASTER_PORT, and that every rank was started");
    }
  }
  ~RankGroup() override {
    nccl_watch_.reset();
    (void)nccl_.release();  // the group lives as long as the process; when it goes, CUDA may have gone already
  }
  int64_t rank() const override { return rank_; }
  int64_t size() const override { return size_; }
  void all_reduce_sum(at::Tensor& tensor) override {
    if (NcclComm* comm = nccl(tensor))
      return on_device(tensor, "all_reduce", [&](const at::Tensor& whole) { return comm->all_reduce_sum(whole); });
    on_contiguous(tensor, "all_reduce", [&](std::vector<at::Tensor>& tensors) { return group_->allreduce(tensors); });
  }
  void broadcast(at::Tensor& tensor, int64_t root) override {
    if (NcclComm* comm = nccl(tensor))
      return on_device(tensor, "broadcast", [&](const at::Tensor& whole) { return comm->broadcast(whole, root); });
    c10d::BroadcastOptions options;
    options.rootRank = root;
    on_contiguous(tensor, "broadcast", [&](std::vector<at::Tensor>& tensors) { return group_->broadcast(tensors, options); });
  }
  void barrier() override {
    at::Tensor token = at::zeros({1});
    all_reduce_sum(token);
  }
  std::function<void()> start_reduce_scatter_sum(const at::Tensor& output, const at::Tensor& input) override {
    if (NcclComm* comm = nccl(output)) {
      std::function<void()> wait;
      guarded("reduce_scatter", [&] { wait = comm->reduce_scatter_sum(output.detach(), input.detach()); });
      return wait;
    }
    at::Tensor part = output.is_cpu() ? output.detach() : at::empty_like(output, at::TensorOptions().device(at::kCPU));
    at::Tensor whole = input.detach().to(at::kCPU);
    c10::intrusive_ptr<c10d::Work> work;
    guarded("reduce_scatter", [&] { work = group_->_reduce_scatter_base(part, whole); });
    return [this, work, part, output] {
      guarded("reduce_scatter", [&] { work->wait(); });
      if (!output.is_cpu()) output.detach().copy_(part);
    };
  }
  void all_gather(const at::Tensor& output, const at::Tensor& input) override {
    if (NcclComm* comm = nccl(output)) return guarded("all_gather", [&] { comm->all_gather(output.detach(), input.detach())(); });
    at::Tensor whole = output.is_cpu() ? output.detach() : at::empty_like(output, at::TensorOptions().device(at::kCPU));
    at::Tensor part = input.detach().to(at::kCPU);
    guarded("all_gather", [&] { group_->_allgather_base(whole, part)->wait(); });
    if (!output.is_cpu()) output.detach().copy_(whole);
  }

 private:
  static std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

  /// The communicator for this tensor's memory, or null: Gloo's. The first tensor on a GPU makes it, on every rank at once.
  NcclComm* nccl(const at::Tensor& tensor) {
    if (!tensor.is_cuda()) return nullptr;
    if (!nccl_asked_) {
      nccl_asked_ = true;
      guarded("NCCL's meeting", [&] { meet_nccl(tensor.device()); });
    }
    return nccl_.get();
  }
  /// All ranks or none: every rank says why it cannot, and which GPU it has.
  void meet_nccl(at::Device device) {
    std::string why;
    const NcclLibrary* library = nccl_library(why);
    say("nccl.why", why);
    say("nccl.gpu", gpu_place(std::max<int64_t>(device.index(), 0)));
    std::map<std::string, int64_t> owners;
    for (int64_t r = 0; r < size_ && why.empty(); ++r) {
      const std::string reason = heard("nccl.why", r), gpu = heard("nccl.gpu", r);
      const auto [place, is_new] = owners.try_emplace(gpu, r);
      if (!reason.empty()) why = str("rank ", r, ": ", reason);
      else if (!is_new) why = str("ranks ", place->second, " and ", r, " share the GPU ", gpu);
    }
    if (!why.empty()) {
      log_warn(str("gradients go through the host: ", why));
      return;
    }
    NcclLibrary::UniqueId id{};
    if (rank_ == 0) {
      const int failed = library->unique_id(&id);
      check(failed == 0, "NCCL's meeting", "rank 0 to open it", library->error_words(failed));
      say("nccl.id", std::string(id.bytes, sizeof id.bytes));
    }
    const std::string bytes = heard("nccl.id", 0);
    std::copy_n(bytes.begin(), std::min(bytes.size(), sizeof id.bytes), id.bytes);
    nccl_ = std::make_unique<NcclComm>(*library, id, rank_, size_, device);
    nccl_watch_ = std::make_unique<NcclWatch>(*heartbeat_, *nccl_);
    int version = 0;
    if (rank_ != 0 || library->version(&version) != 0) return;
    log_info(str("ranks meet over NCCL ", version / 10000, ".", version / 100 % 100, ".", version % 100));
  }
  void say(const std::string& key, const std::string& text) {
    store_->set(str("attar.", key, ".", rank_), std::vector<uint8_t>(text.begin(), text.end()));
  }
  std::string heard(const std::string& key, int64_t rank) {
    const std::vector<uint8_t> bytes = store_->get(str("attar.", key, ".", rank));
    return {bytes.begin(), bytes.end()};
  }

  /// A collective in a GPU's own memory.
  template <class Work>
  void on_device(at::Tensor& tensor, const char* what, Work&& work) {
    const at::NoGradGuard no_grad;
    const at::Tensor whole = tensor.detach().contiguous();
    guarded(what, [&] { work(whole)(); });
    if (!tensor.is_contiguous()) tensor.detach().copy_(whole);
  }

  /// Gloo works on dense CPU memory: others go through a copy.
  template <class Work>
  void on_contiguous(at::Tensor& tensor, const char* what, Work&& work) {
    const at::NoGradGuard no_grad;
    const bool direct = tensor.is_contiguous() && tensor.is_cpu();
    std::vector<at::Tensor> tensors{direct ? tensor.detach() : tensor.detach().to(at::kCPU).contiguous()};
    guarded(what, [&] { work(tensors)->wait(); });
    if (!direct) tensor.detach().copy_(tensors[0]);
  }
  /// A collective that breaks becomes one sentence that names who is gone.
  template <class Call>
  void guarded(const char* what, const Call& call) {
    std::string reason;
    try {
      const at::NoGradGuard no_grad;
      return call();
    } catch (const c10::Error& error) {
      reason = first_line(error.what_without_backtrace());
    } catch (const std::exception& error) {
      reason = first_line(error.what());
    }
    if (nccl_) nccl_->abort();
    const std::string gone = heartbeat_->gone();
    fail(str(what, " on rank ", rank_), "every rank to take part", gone.empty() ? reason : gone + " is gone",
         "its own message says why; the same command goes on from the last snapshot");
  }
  int64_t rank_, size_;
  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
  std::unique_ptr<Heartbeat> heartbeat_;
  bool nccl_asked_ = false;
  std::unique_ptr<NcclComm> nccl_;
  std::unique_ptr<NcclWatch> nccl_watch_;
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
  static std::mutex guard;
  static std::shared_ptr<ProcessGroup> kept;
  const std::lock_guard<std::mutex> lock(guard);
  if (!kept) kept = std::make_shared<RankGroup>(host, port, rank, size);
  return kept;
}

}  // namespace attar
