#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace attar {

/// NCCL's C interface (nccl.h), which has not changed since version 2.4: found while the program runs, so no build needs its headers, and a machine
/// without it gets a sentence. LibTorch's CUDA side brings the library along.
struct NcclLibrary {
  struct UniqueId {
    char bytes[128];
  };
  int (*version)(int*) = nullptr;
  const char* (*error_words)(int) = nullptr;
  int (*unique_id)(UniqueId*) = nullptr;
  int (*init)(void** comm, int ranks, UniqueId id, int rank) = nullptr;
  int (*all_reduce)(const void* in, void* out, size_t count, int type, int operation, void* comm, void* stream) = nullptr;
  int (*broadcast)(const void* in, void* out, size_t count, int type, int root, void* comm, void* stream) = nullptr;
  int (*reduce_scatter)(const void* in, void* out, size_t count_out, int type, int operation, void* comm, void* stream) = nullptr;
  int (*all_gather)(const void* in, void* out, size_t count_in, int type, void* comm, void* stream) = nullptr;
  int (*async_error)(void* comm, int* error) = nullptr;
  int (*abort)(void* comm) = nullptr;
  int (*destroy)(void* comm) = nullptr;
};

/// The library, or null with the reason in `why`. `path` empty: where the loader and LibTorch's own copy are.
const NcclLibrary* nccl_library(std::string& why, const std::string& path = "");

/// One rank's communicator. Collectives are put on a stream of their own, which waits for what the caller's stream has to do before and which the
/// caller's stream waits for when the function that comes back is called: nothing waits on the host. Errors of NCCL: Error.
class NcclComm {
 public:
  /// Every rank at once, each with its own device. `id`: of rank 0's library.unique_id, the same on all.
  NcclComm(const NcclLibrary& library, const NcclLibrary::UniqueId& id, int64_t rank, int64_t ranks, at::Device device);
  ~NcclComm();
  NcclComm(const NcclComm&) = delete;
  NcclComm& operator=(const NcclComm&) = delete;
  // Contiguous tensors of this device; float64, 32, 16, bfloat16 and integers.
  std::function<void()> all_reduce_sum(const at::Tensor& tensor);
  std::function<void()> broadcast(const at::Tensor& tensor, int64_t root);
  std::function<void()> reduce_scatter_sum(const at::Tensor& output, const at::Tensor& input);
  std::function<void()> all_gather(const at::Tensor& output, const at::Tensor& input);
  /// Ends whatever is under way, so that a stream that waits for a rank that is gone goes on. From any thread.
  void abort();

 private:
  struct Lane;
  std::function<void()> on_lane(const at::Tensor& output, const at::Tensor& input, const char* what,
                                const std::function<int(void* comm, void* stream)>& start);
  void done(int result, const char* what) const;
  const NcclLibrary& library_;
  at::Device device_;
  std::unique_ptr<Lane> lane_;
};

}  // namespace attar
