# Run at installation: copies the programs, the CUDA part and every shared library that they need but glibc, the compiler's own and LibTorch's
# (libgomp, of which a process must have one, stands apart), strips them and gives them relative run paths.
# In: ATTAR_BUILD_FOLDER, ATTAR_STRIP, CMAKE_INSTALL_PREFIX.
set(destination "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}")
if(CMAKE_INSTALL_PREFIX MATCHES "^/(usr(/local)?)?/?$")
  message(FATAL_ERROR "the libraries brought along would stand among the system's in ${CMAKE_INSTALL_PREFIX}: give a folder of attar's own, "
    "cmake --install ${ATTAR_BUILD_FOLDER} --prefix DIR")
endif()
find_program(ATTAR_PATCHELF patchelf)
if(NOT ATTAR_PATCHELF)
  message(FATAL_ERROR "cmake --install needs patchelf, which writes the relative run paths: install Debian's package patchelf")
endif()

# FILE: stripped, then told where its libraries lie.
function(attar_bundle_finish file run_path)
  file(CHMOD "${file}" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
  if(ATTAR_STRIP)
    execute_process(COMMAND "${ATTAR_STRIP}" --strip-unneeded "${file}" COMMAND_ERROR_IS_FATAL ANY)
  endif()
  if(run_path)
    execute_process(COMMAND "${ATTAR_PATCHELF}" --set-rpath "${run_path}" "${file}" COMMAND_ERROR_IS_FATAL ANY)
  else()
    execute_process(COMMAND "${ATTAR_PATCHELF}" --remove-rpath "${file}" COMMAND_ERROR_IS_FATAL ANY)
  endif()
endfunction()

# ATTAR_ALSO in the environment: further programs of the build, as tests and benchmarks for a machine that cannot build (benchmarks/on_gpu.py).
set(programs "${ATTAR_BUILD_FOLDER}/bin/attar" "${ATTAR_BUILD_FOLDER}/bin/attar-engine")
foreach(name $ENV{ATTAR_ALSO})
  list(APPEND programs "${ATTAR_BUILD_FOLDER}/bin/${name}")
endforeach()
foreach(program IN LISTS programs)
  if(NOT EXISTS "${program}")
    message(FATAL_ERROR "${program} is not there: build first (cmake --build ${ATTAR_BUILD_FOLDER})")
  endif()
endforeach()

set(left_out "^ld-linux" "^lib(c|m|dl|rt|pthread|util|resolv|anl|nsl|BrokenLocale|thread_db)\\.so" "^lib(stdc\\+\\+|gcc_s|gomp)\\.so"
  "^libtorch" "^libc10" "^libshm" "^libcu(da|dart|pti)\\.so")
file(GET_RUNTIME_DEPENDENCIES EXECUTABLES ${programs} RESOLVED_DEPENDENCIES_VAR found UNRESOLVED_DEPENDENCIES_VAR missing
  PRE_EXCLUDE_REGEXES ${left_out})
if(missing)
  message(FATAL_ERROR "these shared libraries are nowhere on this machine: ${missing}")
endif()

file(MAKE_DIRECTORY "${destination}/bin" "${destination}/lib")
foreach(program IN LISTS programs)
  get_filename_component(name "${program}" NAME)
  message(STATUS "Installing: ${destination}/bin/${name}")
  file(COPY "${program}" DESTINATION "${destination}/bin")
  attar_bundle_finish("${destination}/bin/${name}" "$ORIGIN/../lib:$ORIGIN/../lib/openmp")
endforeach()
# The front door computes without LibTorch and so brings an OpenMP of its own. Where LibTorch's folder is searched too, it comes first
# (LD_LIBRARY_PATH), and one library of that name is loaded.
file(GET_RUNTIME_DEPENDENCIES EXECUTABLES "${ATTAR_BUILD_FOLDER}/bin/attar" RESOLVED_DEPENDENCIES_VAR openmp UNRESOLVED_DEPENDENCIES_VAR no_openmp
  PRE_INCLUDE_REGEXES "^libgomp" PRE_EXCLUDE_REGEXES ".*")
file(MAKE_DIRECTORY "${destination}/lib/openmp")
foreach(library IN LISTS openmp)
  get_filename_component(name "${library}" NAME)
  get_filename_component(real "${library}" REALPATH)
  message(STATUS "Installing: ${destination}/lib/openmp/${name}")
  configure_file("${real}" "${destination}/lib/openmp/${name}" COPYONLY)
  attar_bundle_finish("${destination}/lib/openmp/${name}" "")
endforeach()
foreach(library IN LISTS found)
  get_filename_component(name "${library}" NAME)
  get_filename_component(real "${library}" REALPATH)
  message(STATUS "Installing: ${destination}/lib/${name}")
  configure_file("${real}" "${destination}/lib/${name}" COPYONLY)
  attar_bundle_finish("${destination}/lib/${name}" "$ORIGIN")
endforeach()
if(EXISTS "${ATTAR_BUILD_FOLDER}/lib/libattar_cuda.so")
  message(STATUS "Installing: ${destination}/lib/libattar_cuda.so")
  file(COPY "${ATTAR_BUILD_FOLDER}/lib/libattar_cuda.so" DESTINATION "${destination}/lib")
  attar_bundle_finish("${destination}/lib/libattar_cuda.so" "")
endif()

message(STATUS "Installing: ${destination}/share/bash-completion/completions/attar")
file(MAKE_DIRECTORY "${destination}/share/bash-completion/completions")
execute_process(COMMAND "${ATTAR_BUILD_FOLDER}/bin/attar" completion bash OUTPUT_FILE "${destination}/share/bash-completion/completions/attar"
  COMMAND_ERROR_IS_FATAL ANY)
