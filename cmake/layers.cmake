# How the CMakeLists.txt of a layer names its files. Each file is listed by hand.

function(limpid_paths out)
  list(TRANSFORM ARGN PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
  set(${out} ${ARGN} PARENT_SCOPE)
endfunction()

# Sources that know nothing of LibTorch.
function(limpid_sources)
  limpid_paths(files ${ARGN})
  target_sources(limpid PRIVATE ${files})
endfunction()

# Sources that include LibTorch.
function(limpid_torch_sources)
  limpid_paths(files ${ARGN})
  target_sources(limpid_torch PRIVATE ${files})
endfunction()

# Tests, in the one executable unit_tests.
function(limpid_tests)
  limpid_paths(files ${ARGN})
  set_property(GLOBAL APPEND PROPERTY LIMPID_TESTS ${files})
endfunction()

# Tests that include LibTorch.
function(limpid_torch_tests)
  limpid_paths(files ${ARGN})
  set_property(GLOBAL APPEND PROPERTY LIMPID_TORCH_TESTS ${files})
endfunction()

function(limpid_public_headers)
  list(TRANSFORM ARGN PREPEND ${PROJECT_SOURCE_DIR}/include/limpid/)
  target_sources(limpid PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include
                        FILES ${ARGN})
endfunction()
