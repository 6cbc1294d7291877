#pragma once

namespace attar {

/// Interface version of the CUDA part that is open (ATTAR_CUDA_PART_VERSION of kernels/cuda_part.h when it was built); 0 while none is.
int cuda_part_version();

/// A function of the CUDA part by its name in kernels/cuda_part.h. The part is opened at the first question that needs it.
/// Throws Error with the reason of cuda_usable() where there is no part or no GPU, and where the part does not know the function.
void* cuda_part_function(const char* name);

/// The same with the function's type: cuda_function<decltype(attar_cuda_swiglu)>("attar_cuda_swiglu")(gate, up, y, count, stream).
template <class Function>
Function* cuda_function(const char* name) {
  return reinterpret_cast<Function*>(cuda_part_function(name));
}

}  // namespace attar
