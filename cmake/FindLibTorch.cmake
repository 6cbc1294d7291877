# LibTorch inside an installed torch wheel, CPU side, without the wheel's TorchConfig, which insists on a CUDA toolkit.
# In: LIBTORCH or the environment's ATTAR_LIBTORCH, the wheel's torch folder. Out: target LibTorch::cpu.
set(LIBTORCH "$ENV{ATTAR_LIBTORCH}" CACHE PATH "folder 'torch' of an installed torch wheel")
find_library(LIBTORCH_CPU torch_cpu PATHS "${LIBTORCH}/lib" NO_DEFAULT_PATH)
find_library(LIBTORCH_C10 c10 PATHS "${LIBTORCH}/lib" NO_DEFAULT_PATH)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LIBTORCH LIBTORCH_CPU LIBTORCH_C10
  REASON_FAILURE_MESSAGE "set ATTAR_LIBTORCH to the torch folder of an installed wheel, or run scripts/quickstart, which installs one")
if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  add_library(LibTorch::cpu INTERFACE IMPORTED)
  # -idirafter, not SYSTEM: the wheel carries its own fmt and protobuf headers, which must not win over the system's.
  target_compile_options(LibTorch::cpu INTERFACE
    "SHELL:-idirafter ${LIBTORCH}/include" "SHELL:-idirafter ${LIBTORCH}/include/torch/csrc/api/include")
  target_compile_definitions(LibTorch::cpu INTERFACE USE_DISTRIBUTED USE_C10D_GLOO)
  target_link_libraries(LibTorch::cpu INTERFACE "${LIBTORCH_CPU}" "${LIBTORCH_C10}")
  # The build tree's programs find LibTorch by themselves; an installed folder is told by ATTAR_LIBTORCH.
  target_link_options(LibTorch::cpu INTERFACE "LINKER:-rpath,${LIBTORCH}/lib")
endif()
