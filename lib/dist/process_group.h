#pragma once
#include <ATen/core/Tensor.h>
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
};

std::shared_ptr<ProcessGroup> single_process();
/// From RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT (torchrun), SLURM_* or OMPI_*; a group of one when none is set.
std::shared_ptr<ProcessGroup> process_group_from_environment();

}  // namespace attar
