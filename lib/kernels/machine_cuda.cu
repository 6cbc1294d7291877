// What the CUDA part says of itself, and memory for callers without LibTorch.
#include <dlfcn.h>
#include <link.h>

#include <string>

#include "kernels/cuda_launch.cuh"

namespace attar {
namespace {

/// Path of the libtorch_cpu.so that this process has loaded, or "".
std::string loaded_libtorch() {
  std::string path;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        const std::string name = info->dlpi_name ? info->dlpi_name : "";
        if (name.size() < 15 || name.compare(name.size() - 15, 15, "libtorch_cpu.so") != 0) return 0;
        *static_cast<std::string*>(out) = name;
        return 1;
      },
      &path);
  return path;
}

/// LibTorch registers its CUDA backend when the library that holds it is loaded.
std::string register_backend() {
  std::string path = loaded_libtorch();
  if (path.empty()) return "";
  path.replace(path.size() - 15, 15, "libtorch_cuda.so");
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL)) return "";
  const char* why = dlerror();
  return "LibTorch's CUDA side does not load (the full torch wheel has what it needs): " + std::string(why ? why : path);
}

std::string why_not_ready() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return std::string("CUDA says: ") + cudaGetErrorString(error);
  if (count == 0) return "this machine has no NVIDIA GPU";
  int major = 0, minor = 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0) != cudaSuccess)
    return "the GPU does not say what it is";
  if (major < 8) return "the GPU is of compute capability " + std::to_string(major) + "." + std::to_string(minor) + ", needed is 8.0 or later";
  return register_backend();
}

}  // namespace
}  // namespace attar

int32_t attar_cuda_version() { return ATTAR_CUDA_PART_VERSION; }

const char* attar_cuda_ready() {
  static const std::string why = attar::why_not_ready();
  return why.empty() ? nullptr : why.c_str();
}

const char* attar_cuda_malloc(void** memory, int64_t bytes) { return attar::cuda_sentence(cudaMalloc(memory, bytes > 0 ? size_t(bytes) : 1)); }
const char* attar_cuda_free(void* memory) { return attar::cuda_sentence(cudaFree(memory)); }
const char* attar_cuda_copy_in(void* device, const void* host, int64_t bytes) {
  return attar::cuda_sentence(cudaMemcpy(device, host, size_t(bytes), cudaMemcpyHostToDevice));
}
const char* attar_cuda_copy_out(void* host, const void* device, int64_t bytes) {
  return attar::cuda_sentence(cudaMemcpy(host, device, size_t(bytes), cudaMemcpyDeviceToHost));
}
