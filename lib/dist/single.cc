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
};

}  // namespace

std::shared_ptr<ProcessGroup> single_process() { return std::make_shared<SingleProcess>(); }

}  // namespace attar
