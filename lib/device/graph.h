#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace attar {

/// Work of a device that is recorded once and then started whole: the same kernels on the same memory, whatever stands there by then.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  /// Calls `work` once; what it asks of the device is noted down and not done. Error where it cannot be noted down (it waits for the device, say):
  /// then nothing of it was done, and this graph is of no further use.
  virtual void record(const std::function<void()>& work) = 0;
  virtual void replay() = 0;
};
using MakeGraph = std::function<std::unique_ptr<DeviceGraph>()>;

/// CUDA graphs by LibTorch's own at::cuda::CUDAGraph, looked up in the CUDA side that is loaded: nothing is linked to it. All graphs of one maker
/// share their memory, so what one leaves behind must be taken before the next begins. Empty, and why, where the device is no GPU or LibTorch has no
/// such graphs.
MakeGraph cuda_graphs(at::Device device, std::string* why_not);
/// Names that cuda_graphs() looks up, as the linker has them.
const std::vector<const char*>& cuda_graph_names();

/// While it lives, what this thread gives a GPU goes to a stream of its own, which recording asks for. On the host it does nothing.
class GraphStream {
 public:
  explicit GraphStream(at::Device device);
  ~GraphStream();
  GraphStream(const GraphStream&) = delete;
  GraphStream& operator=(const GraphStream&) = delete;

 private:
  at::Device device_;
  std::optional<c10::Stream> before_;
};

/// Work that is done as it stands the first times, which is when libraries take the memory they keep, then recorded and from there on replayed.
/// Where it cannot be recorded, that is an Error (`must`) or one line of the log, and the work goes on as it stands.
class RecordedWork {
 public:
  static constexpr int kPlainRuns = 2;
  /// Without `make` the work is always done as it stands.
  RecordedWork(MakeGraph make, std::string name, bool must) : make_(std::move(make)), name_(std::move(name)), must_(must) {}
  /// `work` must be the same each time, on the same tensors.
  void run(const std::function<void()>& work);
  bool recorded() const { return graph_ != nullptr; }

 private:
  MakeGraph make_;
  std::string name_;
  bool must_;
  int runs_ = 0;
  std::unique_ptr<DeviceGraph> graph_;
};

}  // namespace attar
