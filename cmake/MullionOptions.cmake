# Compiler flags shared by every target, and the two helpers that declare a library and a test.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(MULLION_MARCH native CACHE STRING "Instruction set to build for, e.g. native or x86-64-v3")

# Options of the host's compiler alone; nvcc has its own (MullionCuda.cmake).
function(mullion_cxx_options)
  foreach(option ${ARGN})
    add_compile_options($<$<COMPILE_LANGUAGE:CXX>:${option}>)
  endforeach()
endfunction()

mullion_cxx_options(-march=${MULLION_MARCH} -Wall -Wextra -Wshadow -fno-math-errno)
if(MULLION_WERROR)
  mullion_cxx_options(-Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # NaNs must stay visible, so no -ffast-math; traps nobody handles may be assumed away.
  # -Wrestrict reports std::string's own code (GCC bug 105651).
  mullion_cxx_options(-fno-trapping-math -Wno-restrict)
endif()
if(MULLION_SANITIZE)
  # Under the sanitizers GCC takes the deliberately undefined registers of its own intrinsics for bugs.
  mullion_cxx_options(-Wno-uninitialized -Wno-maybe-uninitialized)
  mullion_cxx_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1 -g1)
  add_link_options(-fsanitize=address,undefined)
endif()
if(MULLION_FUZZ)
  # The instrumentation keeps clang from some of the vector loops that are asked for: no reason to stop.
  mullion_cxx_options(-Wno-pass-failed)
  mullion_cxx_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=address,undefined)
endif()

# mullion_library(NAME [LINKS...]): a static library of all .cc files of this folder and below.
function(mullion_library name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  list(FILTER sources EXCLUDE REGEX "/tensor/simt/")  # the emulator is a library of its own
  if(NOT sources)
    file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/empty.cc "")
    set(sources ${CMAKE_CURRENT_BINARY_DIR}/empty.cc)
  endif()
  add_library(${name} STATIC ${sources})
  target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                                            $<INSTALL_INTERFACE:include/mullion>)
  target_compile_features(${name} PUBLIC cxx_std_20)
  string(REPLACE mullion_ "" short ${name})
  set_target_properties(${name} PROPERTIES EXPORT_NAME ${short})
  add_library(Mullion::${short} ALIAS ${name})
  target_link_libraries(${name} PUBLIC ${ARGN})
endfunction()

# mullion_test(NAME FOLDER [LINKS...]): one GoogleTest program of all *_test.cc files of a folder.
function(mullion_test name folder)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*_test.cc)
  if(folder STREQUAL "autograd")
    file(GLOB op_cases CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/op_cases/*.cc)
    list(APPEND sources ${op_cases})
  endif()
  if(NOT sources)
    return()
  endif()
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE ${ARGN} GTest::gtest_main)
  target_sources(${name} PRIVATE ${PROJECT_BINARY_DIR}/tests/source_dir.cc)
  gtest_discover_tests(${name} TEST_PREFIX "${folder}: " DISCOVERY_TIMEOUT 60
                       PROPERTIES TIMEOUT 600 ENVIRONMENT "OMP_WAIT_POLICY=passive")
endfunction()
