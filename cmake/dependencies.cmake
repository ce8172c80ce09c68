# Everything limpid needs from outside, found and never fetched, and the flags it is compiled with.

find_package(Threads REQUIRED)

# Header-only libraries are found by their headers alone, so that a folder of headers named in
# CMAKE_PREFIX_PATH will do on a machine that has no packages for them.
find_path(LIMPID_CLI11_INCLUDE CLI/CLI.hpp REQUIRED)
find_path(LIMPID_JSON_INCLUDE nlohmann/json.hpp REQUIRED)
find_path(LIMPID_TOML_INCLUDE toml++/toml.h REQUIRED)
find_path(LIMPID_EIGEN_INCLUDE Eigen/Core PATH_SUFFIXES eigen3 REQUIRED)
add_library(limpid_headers INTERFACE)
target_include_directories(limpid_headers SYSTEM INTERFACE
  ${LIMPID_CLI11_INCLUDE} ${LIMPID_JSON_INCLUDE} ${LIMPID_TOML_INCLUDE} ${LIMPID_EIGEN_INCLUDE})

# TORCH_CXX_FLAGS may name the old string ABI, which everything that meets LibTorch must share.
find_package(Torch REQUIRED)
separate_arguments(limpid_torch_flags UNIX_COMMAND "${TORCH_CXX_FLAGS}")
add_library(limpid_libtorch INTERFACE)
target_link_libraries(limpid_libtorch INTERFACE ${TORCH_LIBRARIES})
target_include_directories(limpid_libtorch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})

if(NOT LIMPID_TRAINER_ONLY)
  find_package(PkgConfig REQUIRED)
  find_package(TIFF REQUIRED)
  find_package(PNG REQUIRED)
  find_package(JPEG REQUIRED)
  find_package(ZLIB REQUIRED)
  find_package(OpenSSL REQUIRED COMPONENTS Crypto)
  pkg_check_modules(cfitsio REQUIRED IMPORTED_TARGET cfitsio)
  pkg_check_modules(pugixml REQUIRED IMPORTED_TARGET pugixml)
  pkg_check_modules(lz4 REQUIRED IMPORTED_TARGET liblz4)
  pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd)
  pkg_check_modules(fftw3f REQUIRED IMPORTED_TARGET fftw3f)
  if(LIMPID_BUILD_APPS)
    pkg_check_modules(httplib REQUIRED IMPORTED_TARGET cpp-httplib)
  endif()
endif()

# Several processes at one task (mpirun limpid mfdeconv, mpirun limpid train); all else is the same without.
option(LIMPID_MPI "Share frames and training over processes, where MPI is found" ON)
if(LIMPID_MPI AND LIMPID_BUILD_APPS)
  set(MPI_CXX_SKIP_MPICXX ON)
  find_package(MPI COMPONENTS CXX QUIET)
endif()

add_library(limpid_flags INTERFACE)
# Nothing here reads errno or the floating-point flags after mathematics, and no complex product is
# infinite where its parts are not numbers; saying so lets loops vectorise, and changes no result.
# (Clang knows the last option from its version 18 on.)
target_compile_options(limpid_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -fno-math-errno -fno-trapping-math
  $<$<CXX_COMPILER_ID:GNU>:-fcx-limited-range> ${limpid_torch_flags})
# At -O3 GCC 12 believes to see overflows inside its own std::string and Eigen's vectors (GCC bugs
# 105329, 105651 and their kin); the debug build keeps these warnings.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(limpid_flags INTERFACE
    "$<$<CONFIG:Release>:-Wno-restrict;-Wno-stringop-overflow;-Wno-array-bounds>")
endif()
if(LIMPID_WERROR)
  target_compile_options(limpid_flags INTERFACE -Werror)
endif()
if(LIMPID_NATIVE)
  target_compile_options(limpid_flags INTERFACE -march=native)
elseif(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  # AVX2 and FMA: every desktop processor since 2013 to 2015. One target for all keeps the results
  # of one build the same on every machine.
  target_compile_options(limpid_flags INTERFACE -march=x86-64-v3)
endif()
if(LIMPID_SANITIZE)
  target_compile_options(limpid_flags INTERFACE -fsanitize=address,undefined
                                                -fno-omit-frame-pointer)
  target_link_options(limpid_flags INTERFACE -fsanitize=address,undefined)
  # GCC says itself that its sanitizers bring false ones: it takes a std::stop_source for unset
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(limpid_flags INTERFACE -Wno-maybe-uninitialized)
  endif()
endif()

find_program(LIMPID_CCACHE ccache)
if(LIMPID_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The sloppiness that ccache asks for before it caches files with a precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      ${LIMPID_CCACHE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(limpid_flags INTERFACE -fpch-preprocess)
  endif()
endif()
