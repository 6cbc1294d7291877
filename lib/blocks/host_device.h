#pragma once

/// Marks arithmetic that a CPU loop and a CUDA kernel share.
#ifdef __CUDACC__
#define ATTAR_HOST_DEVICE __host__ __device__
#else
#define ATTAR_HOST_DEVICE
#endif
