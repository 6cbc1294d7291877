#include "device/graph.h"

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <new>

#include "base/check.h"
#include "base/log.h"

namespace attar {
namespace {

using PoolId = std::pair<unsigned long long, unsigned long long>;

/// Members of at::cuda::CUDAGraph as functions of an object; its header asks for CUDA's, which no build needs.
struct GraphMembers {
  void (*construct)(void*, bool keep_graph) = nullptr;
  void (*destroy)(void*) = nullptr;
  void (*begin)(void*, PoolId pool, int mode) = nullptr;
  void (*end)(void*) = nullptr;
  void (*replay)(void*) = nullptr;
  PoolId (*pool)(void*) = nullptr;
};

/// cudaStreamCaptureModeThreadLocal: other threads may go on taking memory of the device.
constexpr int kThreadLocalCapture = 1;
/// Room for the object, whose size (below 400 bytes in LibTorch 2.11) is not known here.
constexpr size_t kGraphBytes = 4096;

template <class Function>
void look_up(const char* name, Function& function, std::string& missing) {
  // The part opened LibTorch's CUDA side for the whole process.
  function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
  if (!function && missing.empty()) missing = name;
}

GraphMembers graph_members(std::string& missing) {
  const std::vector<const char*>& names = cuda_graph_names();
  GraphMembers out;
  look_up(names[0], out.construct, missing);
  look_up(names[1], out.destroy, missing);
  look_up(names[2], out.begin, missing);
  look_up(names[3], out.end, missing);
  look_up(names[4], out.replay, missing);
  look_up(names[5], out.pool, missing);
  return out;
}

/// What LibTorch says, without the trace below its first line.
std::string first_line(const char* words) {
  const std::string all = words;
  return all.substr(0, all.find('\n'));
}

class CudaGraph : public DeviceGraph {
 public:
  CudaGraph(const GraphMembers& members, at::Device device, std::shared_ptr<PoolId> pool)
      : members_(members), device_(device), pool_(std::move(pool)) {
    object_ = ::operator new(kGraphBytes, std::align_val_t{64});
    members_.construct(object_, false);
  }
  ~CudaGraph() override {
    // LibTorch's allocator keeps asking the object of a recording that failed: that one stays for good.
    if (failed_) return;
    members_.destroy(object_);
    ::operator delete(object_, std::align_val_t{64});
  }

  void record(const std::function<void()>& work) override {
    const c10::impl::VirtualGuardImpl gpu(at::kCUDA);
    gpu.synchronizeDevice(device_.index());
    // What work done as it stands has left is given back: the graph has memory of its own.
    c10::getDeviceAllocator(at::kCUDA)->emptyCache();
    std::string why;
    try {
      members_.begin(object_, *pool_, kThreadLocalCapture);
    } catch (const std::exception& error) {
      refuse(first_line(error.what()));
    }
    try {
      work();
    } catch (const std::exception& error) {
      why = first_line(error.what());
    }
    // Ends in any case: else the stream would go on noting down.
    try {
      members_.end(object_);
    } catch (const std::exception& error) {
      if (why.empty()) why = first_line(error.what());
    }
    if (!why.empty()) refuse(why);
    *pool_ = members_.pool(object_);
  }
  void replay() override { members_.replay(object_); }

 private:
  [[noreturn]] void refuse(const std::string& why) {
    failed_ = true;
    fail("recording a CUDA graph", "work that never waits for the device", why);
  }
  GraphMembers members_;
  at::Device device_;
  std::shared_ptr<PoolId> pool_;  ///< {0, 0} until a graph has one
  void* object_ = nullptr;
  bool failed_ = false;
};

}  // namespace

const std::vector<const char*>& cuda_graph_names() {
  static const std::vector<const char*> names = {
      "_ZN2at4cuda9CUDAGraphC1Eb", "_ZN2at4cuda9CUDAGraphD1Ev",
      "_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode", "_ZN2at4cuda9CUDAGraph11capture_endEv",
      "_ZN2at4cuda9CUDAGraph6replayEv", "_ZN2at4cuda9CUDAGraph4poolEv"};
  return names;
}

MakeGraph cuda_graphs(at::Device device, std::string* why_not) {
  std::string why;
  GraphMembers members;
  if (!device.is_cuda()) why = "the device is " + device.str() + ", no GPU";
  else members = graph_members(why);
  if (why.empty()) {
    const auto pool = std::make_shared<PoolId>(0, 0);
    return [=] { return std::make_unique<CudaGraph>(members, device, pool); };
  }
  if (why_not) *why_not = device.is_cuda() ? "this LibTorch has no function " + why : why;
  return {};
}

GraphStream::GraphStream(at::Device device) : device_(device) {
  if (!device_.is_cuda()) return;
  const c10::impl::VirtualGuardImpl gpu(at::kCUDA);
  gpu.synchronizeDevice(device_.index());
  before_ = gpu.exchangeStream(gpu.getStreamFromGlobalPool(device_));
}

GraphStream::~GraphStream() {
  if (!before_) return;
  const c10::impl::VirtualGuardImpl gpu(at::kCUDA);
  try {
    gpu.synchronizeDevice(device_.index());
  } catch (const std::exception& error) {
    log_error(str("the GPU: ", first_line(error.what())));
  }
  gpu.exchangeStream(*before_);
}

void RecordedWork::run(const std::function<void()>& work) {
  if (make_ && !graph_ && runs_ >= kPlainRuns) {
    std::unique_ptr<DeviceGraph> graph = make_();
    try {
      graph->record(work);
      graph_ = std::move(graph);
    } catch (const Error& error) {
      if (must_) throw;
      log_warn(str(name_, " is not recorded, it is done as it stands: ", error.what()));
      make_ = {};
    }
  }
  if (graph_) graph_->replay();
  else work(), ++runs_;
}

}  // namespace attar
