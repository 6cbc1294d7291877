#pragma once
#include <ATen/core/Tensor.h>

namespace attar {

/// Whether a GPU gives the same bytes on every run: LibTorch's deterministic kernels, and a workspace that lets cuBLAS keep to one order (so before
/// its first product). A CPU does in any case.
void promise_same_bytes(bool wanted, at::Device device);

}  // namespace attar
