#pragma once
#include <ATen/core/Tensor.h>

#include <functional>

namespace attar {

/// body(x), of which the backward pass keeps x alone: it runs the body again and goes back through that. Same values and, where the body gives the
/// same bits twice, same gradients. Gradients of tensors inside the body are added to their .grad, so these must be leaves.
/// (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".)
at::Tensor recomputed(const at::Tensor& x, std::function<at::Tensor(const at::Tensor&)> body);

}  // namespace attar
