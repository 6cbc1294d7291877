#include <ATen/ATen.h>

#include "dist/process_group.h"

namespace attar {
namespace {

/// One rank: a sum over one is itself.
class SingleProcess final : public ProcessGroup {
 public:
  int64_t rank() const override { return 0; }
  int64_t size() const override { return 1; }
  void all_reduce_sum(at::Tensor&) override {}
  void broadcast(at::Tensor&, int64_t) override {}
  void barrier() override {}
  std::function<void()> start_reduce_scatter_sum(const at::Tensor& output, const at::Tensor& input) override {
    output.copy_(input);
    return [] {};
  }
  void all_gather(const at::Tensor& output, const at::Tensor& input) override { output.copy_(input); }
};

}  // namespace

std::shared_ptr<ProcessGroup> single_process() { return std::make_shared<SingleProcess>(); }

}  // namespace attar
