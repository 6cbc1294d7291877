#include "dist/nccl.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <map>
#include <mutex>
#include <optional>

#include "base/check.h"

namespace attar {
namespace {

constexpr int kNcclSum = 0, kNcclInProgress = 7;

/// ncclDataType_t of a tensor's elements.
int nccl_type(at::ScalarType type) {
  switch (type) {
    case at::kChar: return 0;
    case at::kByte: return 1;
    case at::kInt: return 2;
    case at::kLong: return 4;
    case at::kHalf: return 6;
    case at::kFloat: return 7;
    case at::kDouble: return 8;
    case at::kBFloat16: return 9;
    default: fail("NCCL", "float64, 32, 16, bfloat16 or integers", c10::toString(type));
  }
}

template <class Function>
bool take(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace

const NcclLibrary* nccl_library(std::string& why, const std::string& path) {
  static std::mutex guard;
  static std::map<std::string, std::pair<std::optional<NcclLibrary>, std::string>> kept;
  const std::lock_guard<std::mutex> lock(guard);
  const auto [place, is_new] = kept.try_emplace(path);
  auto& [library, reason] = place->second;
  if (is_new) {
    void* handle = dlopen(path.empty() ? "libnccl.so.2" : path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
      const char* said = dlerror();
      reason = str("NCCL cannot be loaded: ", said ? said : "libnccl.so.2");
    } else {
      NcclLibrary found;
      const bool whole = take(handle, "ncclGetVersion", found.version) && take(handle, "ncclGetErrorString", found.error_words) &&
                         take(handle, "ncclGetUniqueId", found.unique_id) && take(handle, "ncclCommInitRank", found.init) &&
                         take(handle, "ncclAllReduce", found.all_reduce) && take(handle, "ncclBroadcast", found.broadcast) &&
                         take(handle, "ncclReduceScatter", found.reduce_scatter) && take(handle, "ncclAllGather", found.all_gather) &&
                         take(handle, "ncclCommGetAsyncError", found.async_error) && take(handle, "ncclCommAbort", found.abort) &&
                         take(handle, "ncclCommDestroy", found.destroy);
      if (whole) library = found;
      else reason = "this libnccl.so.2 has not all functions of NCCL 2.4";
    }
  }
  why = reason;
  return library ? &*library : nullptr;
}

/// The communicator and, on a GPU, the stream its collectives run on.
struct NcclComm::Lane {
  std::mutex guard;       ///< between collectives and abort()
  void* comm = nullptr;
  bool aborted = false;
  std::optional<c10::Stream> stream;
};

NcclComm::NcclComm(const NcclLibrary& library, const NcclLibrary::UniqueId& id, int64_t rank, int64_t ranks, at::Device device)
    : library_(library), device_(device), lane_(std::make_unique<Lane>()) {
  const c10::OptionalDeviceGuard on_device(device);
  done(library.init(&lane_->comm, static_cast<int>(ranks), id, static_cast<int>(rank)), "meeting");
  // Memory of the host, which only tests use, has no streams.
  if (!device.is_cpu()) lane_->stream = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, true);
}

NcclComm::~NcclComm() {
  const std::lock_guard<std::mutex> lock(lane_->guard);
  if (lane_->comm && !lane_->aborted) library_.destroy(lane_->comm);
}

void NcclComm::abort() {
  const std::lock_guard<std::mutex> lock(lane_->guard);
  if (lane_->comm && !lane_->aborted) library_.abort(lane_->comm);
  lane_->aborted = true;
}

void NcclComm::done(int result, const char* what) const {
  if (result != 0 && result != kNcclInProgress) fail(str("NCCL's ", what), "to succeed", library_.error_words(result));
}

std::function<void()> NcclComm::on_lane(const at::Tensor& output, const at::Tensor& input, const char* what,
                                        const std::function<int(void*, void*)>& start) {
  const bool fit = output.is_contiguous() && input.is_contiguous() && output.device().type() == device_.type() &&
                   input.scalar_type() == output.scalar_type();
  check(fit, str("NCCL's ", what), "contiguous tensors of one type on the rank's device", str(output.device().str(), " and ", input.device().str()));
  const std::lock_guard<std::mutex> lock(lane_->guard);
  check(!lane_->aborted, str("NCCL's ", what), "every rank to take part", "the group was ended");
  int error = 0;
  done(library_.async_error(lane_->comm, &error), what);
  done(error, what);
  if (!lane_->stream) {
    done(start(lane_->comm, nullptr), what);
    return [] {};
  }
  const c10::DeviceGuard on_device(device_);
  const c10::impl::VirtualGuardImpl streams(device_.type());
  c10::Event before(device_.type());
  before.record(streams.getStream(device_));
  before.block(*lane_->stream);
  done(start(lane_->comm, lane_->stream->native_handle()), what);
  // The allocator must not give this memory away while the lane uses it.
  input.record_stream(*lane_->stream);
  output.record_stream(*lane_->stream);
  const auto after = std::make_shared<c10::Event>(device_.type());
  after->record(*lane_->stream);
  return [after, device = device_] { after->block(c10::impl::VirtualGuardImpl(device.type()).getStream(device)); };
}

std::function<void()> NcclComm::all_reduce_sum(const at::Tensor& tensor) {
  const auto count = static_cast<size_t>(tensor.numel());
  return on_lane(tensor, tensor, "all_reduce", [&](void* comm, void* stream) {
    return library_.all_reduce(tensor.const_data_ptr(), tensor.mutable_data_ptr(), count, nccl_type(tensor.scalar_type()), kNcclSum, comm, stream);
  });
}

std::function<void()> NcclComm::broadcast(const at::Tensor& tensor, int64_t root) {
  const auto count = static_cast<size_t>(tensor.numel());
  const int from = static_cast<int>(root);
  return on_lane(tensor, tensor, "broadcast", [&](void* comm, void* stream) {
    return library_.broadcast(tensor.const_data_ptr(), tensor.mutable_data_ptr(), count, nccl_type(tensor.scalar_type()), from, comm, stream);
  });
}

std::function<void()> NcclComm::reduce_scatter_sum(const at::Tensor& output, const at::Tensor& input) {
  const auto count = static_cast<size_t>(output.numel());
  return on_lane(output, input, "reduce_scatter", [&](void* comm, void* stream) {
    return library_.reduce_scatter(input.const_data_ptr(), output.mutable_data_ptr(), count, nccl_type(output.scalar_type()), kNcclSum, comm, stream);
  });
}

std::function<void()> NcclComm::all_gather(const at::Tensor& output, const at::Tensor& input) {
  const auto count = static_cast<size_t>(input.numel());
  return on_lane(output, input, "all_gather", [&](void* comm, void* stream) {
    return library_.all_gather(input.const_data_ptr(), output.mutable_data_ptr(), count, nccl_type(input.scalar_type()), comm, stream);
  });
}

}  // namespace attar
