#pragma once
#include <ATen/core/Tensor.h>
#include <functional>
#include <memory>

namespace attar {

/// Ranks that work together. A group of one is a real group: every call works and changes nothing.
class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;
  virtual int64_t rank() const = 0;
  virtual int64_t size() const = 0;
  virtual void all_reduce_sum(at::Tensor& tensor) = 0;
  virtual void broadcast(at::Tensor& tensor, int64_t root) = 0;
  virtual void barrier() = 0;
  /// Adds `input` (n * size()) over the ranks and gives rank r elements [r n, (r + 1) n) in `output` (n): contiguous, of one dtype.
  /// Works while the caller goes on: what comes back waits for it, and must be called before either tensor is touched. Every rank starts
  /// its collectives in one order.
  virtual std::function<void()> start_reduce_scatter_sum(const at::Tensor& output, const at::Tensor& input) = 0;
  /// The `input` (n) of every rank, in rank order, in `output` (n * size()): contiguous, of one dtype.
  virtual void all_gather(const at::Tensor& output, const at::Tensor& input) = 0;
  void reduce_scatter_sum(const at::Tensor& output, const at::Tensor& input) { start_reduce_scatter_sum(output, input)(); }
};

std::shared_ptr<ProcessGroup> single_process();
/// The process's one group, made at the first call and kept: every stage of a run works in it. From RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT
/// (torchrun), SLURM_* or OMPI_*; a group of one when none is set.
std::shared_ptr<ProcessGroup> process_group_from_environment();

}  // namespace attar
