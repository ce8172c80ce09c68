# How the CMakeLists.txt of a layer names its files. Each file is listed by hand.

function(limpid_existing out)  # TODO remove with the guards once all files are there
  set(found)
  foreach(file IN LISTS ARGN)
    if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      list(APPEND found ${CMAKE_CURRENT_SOURCE_DIR}/${file})
    endif()
  endforeach()
  set(${out} ${found} PARENT_SCOPE)
endfunction()

# Sources that know nothing of LibTorch.
function(limpid_sources)
  limpid_existing(files ${ARGN})
  target_sources(limpid PRIVATE ${files})
endfunction()

# Sources that include LibTorch.
function(limpid_torch_sources)
  limpid_existing(files ${ARGN})
  target_sources(limpid_torch PRIVATE ${files})
endfunction()

# Tests, in the one executable unit_tests.
function(limpid_tests)
  limpid_existing(files ${ARGN})
  set_property(GLOBAL APPEND PROPERTY LIMPID_TESTS ${files})
endfunction()

# Tests that include LibTorch.
function(limpid_torch_tests)
  limpid_existing(files ${ARGN})
  set_property(GLOBAL APPEND PROPERTY LIMPID_TORCH_TESTS ${files})
endfunction()

function(limpid_public_headers)
  set(headers ${ARGN})
  list(TRANSFORM headers PREPEND include/limpid/)
  limpid_existing(files ${headers})
  target_sources(limpid PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include
                        FILES ${files})
endfunction()
