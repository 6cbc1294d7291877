# The CUDA part: lib/kernels/*_cuda.cu become lib/libattar_cuda.so, which attar-engine opens when a CUDA device is asked for.
# nvcc is called by itself, not through CMake's CUDA language, so that a toolkit and the wheels of the compiler's packages serve alike
# and no GPU, driver or LibTorch is needed. In: ATTAR_CUDA, ATTAR_NVCC (also in the environment). Out: target attar_cuda, ATTAR_HAS_CUDA.
set(ATTAR_HAS_CUDA OFF)
if(ATTAR_CUDA STREQUAL "OFF")
  return()
endif()
if(NOT ATTAR_CUDA MATCHES "^(AUTO|ON)$")
  message(FATAL_ERROR "ATTAR_CUDA is '${ATTAR_CUDA}', known: AUTO, ON, OFF")
endif()
set(ATTAR_NVCC "" CACHE FILEPATH "CUDA's compiler; empty: the environment's ATTAR_NVCC, the path, /usr/local/cuda")
# The environment's is remembered, since a build that configures itself anew may run without it.
if(NOT "$ENV{ATTAR_NVCC}" STREQUAL "")
  set_property(CACHE ATTAR_NVCC PROPERTY VALUE "$ENV{ATTAR_NVCC}")
endif()
if(NOT ATTAR_NVCC)
  find_program(ATTAR_NVCC_FOUND nvcc PATHS /usr/local/cuda/bin "$ENV{CUDA_HOME}/bin")
  if(ATTAR_NVCC_FOUND)
    set(ATTAR_NVCC ${ATTAR_NVCC_FOUND})
  endif()
endif()
if(NOT ATTAR_NVCC OR NOT EXISTS "${ATTAR_NVCC}")
  if(ATTAR_CUDA STREQUAL "ON")
    message(FATAL_ERROR "ATTAR_CUDA is ON, but there is no nvcc (${ATTAR_NVCC}): set ATTAR_NVCC to one, or install a CUDA toolkit (13.0)")
  endif()
  message(STATUS "no nvcc (${ATTAR_NVCC}): built without the CUDA part")
  return()
endif()
message(STATUS "CUDA part by ${ATTAR_NVCC}")
set(ATTAR_HAS_CUDA ON)

# A toolkit keeps its libraries in lib64, the packages in lib; nvcc's own profile knows only one of them.
get_filename_component(nvcc_real "${ATTAR_NVCC}" REALPATH)
get_filename_component(cuda_root "${nvcc_real}/../.." ABSOLUTE)
set(cuda_link "")
foreach(folder lib64 lib targets/x86_64-linux/lib)
  if(EXISTS "${cuda_root}/${folder}/libcudart_static.a")
    list(APPEND cuda_link "-L${cuda_root}/${folder}")
    break()
  endif()
endforeach()

# --fmad=false: bytes must equal the CPU's. The arithmetic's headers use constexpr functions of the standard library.
set(cuda_arch -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 -gencode arch=compute_90,code=compute_90)
set(cuda_flags -std=c++20 -O3 --fmad=false --expt-relaxed-constexpr -ccbin ${CMAKE_CXX_COMPILER} -I${CMAKE_SOURCE_DIR}/lib
  -Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off,-Wall ${cuda_arch})
set(cuda_part ${CMAKE_BINARY_DIR}/lib/libattar_cuda.so)
file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/lib/kernels/*_cuda.cu)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/cuda)
set(cuda_objects "")
foreach(source IN LISTS cuda_sources)
  get_filename_component(name ${source} NAME_WE)
  set(object ${CMAKE_BINARY_DIR}/cuda/${name}.o)
  add_custom_command(OUTPUT ${object} DEPENDS ${source} DEPFILE ${object}.d COMMENT "CUDA ${name}.cu" VERBATIM
    COMMAND ${ATTAR_CCACHE} ${ATTAR_NVCC} ${cuda_flags} -MD -MF ${object}.d -MT ${object} -c ${source} -o ${object})
  list(APPEND cuda_objects ${object})
endforeach()
# CUDA's runtime is linked in and hidden: it must not meet the one that LibTorch brings.
add_custom_command(OUTPUT ${cuda_part} DEPENDS ${cuda_objects} COMMENT "CUDA libattar_cuda.so" VERBATIM
  COMMAND ${ATTAR_NVCC} -ccbin ${CMAKE_CXX_COMPILER} ${cuda_arch} -shared -cudart static ${cuda_link}
    -Xlinker --exclude-libs=ALL,--no-undefined,-soname=libattar_cuda.so ${cuda_objects} -o ${cuda_part} -ldl -lrt -lpthread)
add_custom_target(attar_cuda ALL DEPENDS ${cuda_part})
