# Warnings are errors in our own code; the linker and the compiler cache are the quick ones where they are there.
add_library(attar_flags INTERFACE)
target_compile_options(attar_flags INTERFACE -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers
  -Wno-maybe-uninitialized -Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread -Wno-restrict -Wno-free-nonheap-object
  # Results must not depend on whether the compiler finds a fused multiply-add.
  -ffp-contract=off)
target_compile_definitions(attar_flags INTERFACE ATTAR_VERSION="${PROJECT_VERSION}")
target_include_directories(attar_flags INTERFACE ${CMAKE_SOURCE_DIR}/lib)
if(ATTAR_SANITIZE)
  target_compile_options(attar_flags INTERFACE -fsanitize=${ATTAR_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(attar_flags INTERFACE -fsanitize=${ATTAR_SANITIZE})
endif()

find_program(ATTAR_CCACHE ccache)
if(ATTAR_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${ATTAR_CCACHE})
endif()
find_program(ATTAR_MOLD mold)
if(ATTAR_MOLD AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  add_link_options(-fuse-ld=mold)
endif()
