#include "device/same_bytes.h"

#include <ATen/Context.h>

#include <cstdlib>

namespace attar {

void promise_same_bytes(bool wanted, at::Device device) {
  if (!device.is_cuda()) return;
  if (wanted) ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::globalContext().setDeterministicAlgorithms(wanted, /*warn_only=*/true);
  // As long as that only warns, this attention's backward pass adds up in any order. Flash attention keeps to one, and so do whole matrices.
  at::globalContext().setSDPUseMemEfficient(!wanted);
}

}  // namespace attar
