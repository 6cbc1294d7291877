#include <ATen/ATen.h>

#include "base/check.h"
#include "distill/distill_loss.h"

namespace attar {

at::Tensor hidden_state_loss(const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& projection, const at::Tensor& labels,
                             const std::string& kind) {
  check(kind == "mse" || kind == "cosine", "hidden-state loss", "mse or cosine", kind);
  check(student.dim() == 2 && teacher.dim() == 2 && student.size(0) == teacher.size(0) && labels.dim() == 1 && labels.size(0) == student.size(0),
        "hidden-state loss: positions", "the same number of student's states, teacher's states and labels",
        str(student.size(0), ", ", teacher.size(0), ", ", labels.numel()));
  const int64_t width = projection.defined() ? projection.size(0) : student.size(1);
  check(width == teacher.size(1) && (!projection.defined() || projection.size(1) == student.size(1)), "hidden-state loss: projection",
        str("(", teacher.size(1), ", ", student.size(1), ")"),
        projection.defined() ? str("(", projection.size(0), ", ", projection.size(1), ")") : str("none, with states of width ", student.size(1)),
        "widths that differ need a learned projection");
  const at::Tensor rows = labels.ne(-100).nonzero().squeeze(1).to(student.device(), /*non_blocking=*/true);
  const at::ScalarType type = student.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor x = student.index_select(0, rows).to(type);
  if (projection.defined()) x = x.matmul(projection.to(type).t());
  const at::Tensor y = teacher.detach().index_select(0, rows).to(type);
  if (kind == "mse") return (x - y).square().mean(-1).sum();
  const at::Tensor lengths = (x.square().sum(-1) * y.square().sum(-1)).clamp_min(1e-24).sqrt();
  return (1 - (x * y).sum(-1) / lengths).sum();
}

}  // namespace attar
