#include "device/cuda_part.h"

#include <dlfcn.h>

#include <cstdint>

#include "base/check.h"
#include "device/device.h"

namespace attar {

int cuda_part_version() {
  const auto version = reinterpret_cast<int32_t (*)()>(dlsym(RTLD_DEFAULT, "attar_cuda_version"));
  return version ? version() : 0;
}

void* cuda_part_function(const char* name) {
  std::string why;
  check(cuda_usable(&why), "the CUDA part", "a usable NVIDIA GPU", why, "use --device cpu or auto");
  // The part was opened for the whole process: its names are found without its handle.
  void* function = dlsym(RTLD_DEFAULT, name);
  check(function != nullptr, str("function ", name, " of the CUDA part"), "to be in libattar_cuda.so",
        str("a part of interface version ", cuda_part_version(), " without it"), "build or install attar whole");
  return function;
}

}  // namespace attar
