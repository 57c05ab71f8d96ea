# The CUDA backend: MULLION_CUDA=AUTO builds it where nvcc and a GPU are found, ON needs nvcc alone
# (the programs then also run on machines without a driver, on the CPU), OFF leaves it out.
set(MULLION_CUDA AUTO CACHE STRING "Build the CUDA backend: AUTO (where there is a GPU), ON, OFF")
set(MULLION_CUDA_ARCHS "80;90a" CACHE STRING "Compute capabilities to build for, e.g. 80;90a")
option(MULLION_CUDA_LOG "Keep what nvcc says of each kernel beside its object, for tools/kernel_report" OFF)

option(MULLION_CUDA_PTX "Add PTX of the oldest capability, for devices that came later" ON)

list(SORT MULLION_CUDA_ARCHS COMPARE NATURAL)  # the oldest first
foreach(arch ${MULLION_CUDA_ARCHS})
  # cp.async and bf16 on tensor cores are of 8.0.
  if(NOT arch MATCHES "^([0-9]+)[af]?$" OR CMAKE_MATCH_1 LESS 80)
    message(FATAL_ERROR "MULLION_CUDA_ARCHS: ${arch} is no compute capability from 80 on, like 80 or 90a")
  endif()
endforeach()

string(JOIN "," MULLION_CUDA_TARGETS ${MULLION_CUDA_ARCHS})  # as tensor/cuda/runtime/capabilities.h reads it
if(MULLION_CUDA_PTX)
  string(APPEND MULLION_CUDA_TARGETS "+ptx")
endif()

set(MULLION_NCCL AUTO CACHE STRING "Collectives between GPUs by NCCL: AUTO (where nccl.h is), ON, OFF")

set(MULLION_HAVE_CUDA OFF)
if(NOT MULLION_CUDA STREQUAL "OFF")
  find_program(MULLION_NVCC nvcc HINTS $ENV{CUDACXX} $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin
               PATHS /usr/local/cuda/bin /opt/cuda/bin)
  if(MULLION_NVCC AND (MULLION_CUDA STREQUAL "ON" OR EXISTS /dev/nvidia0))
    set(MULLION_HAVE_CUDA ON)
  elseif(MULLION_CUDA STREQUAL "ON")
    message(FATAL_ERROR "MULLION_CUDA=ON: nvcc was not found; set CUDACXX or CUDA_HOME")
  endif()
endif()

if(MULLION_HAVE_CUDA)
  set(CMAKE_CUDA_COMPILER ${MULLION_NVCC})
  set(CMAKE_CUDA_ARCHITECTURES OFF)  # the flags below name them: CMake does not know 90a with PTX
  if(CMAKE_CXX_COMPILER_LAUNCHER AND NOT DEFINED CMAKE_CUDA_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
  endif()
  if(MULLION_CUDA_LOG)
    list(PREPEND CMAKE_CUDA_COMPILER_LAUNCHER ${PROJECT_SOURCE_DIR}/tools/keep_log)
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)

  # CMake 3.25 drops CUDA_STANDARD 20 silently, so the flag is given by hand. PTX of the oldest
  # capability goes along for devices that are newer than the toolkit.
  set(MULLION_CUDA_FLAGS -std=c++20 -Xcompiler=-Wall,-Wextra --display-error-number)
  if(MULLION_WERROR)
    list(APPEND MULLION_CUDA_FLAGS -Werror=all-warnings -Xcompiler=-Werror)
  endif()
  if(MULLION_CUDA_LOG)
    list(APPEND MULLION_CUDA_FLAGS -Xptxas=-v)
  endif()
  foreach(arch ${MULLION_CUDA_ARCHS})
    list(APPEND MULLION_CUDA_FLAGS "SHELL:-gencode arch=compute_${arch},code=sm_${arch}")
  endforeach()
  if(MULLION_CUDA_PTX)
    list(GET MULLION_CUDA_ARCHS 0 oldest)
    string(REGEX REPLACE "[a-z]" "" oldest ${oldest})
    list(APPEND MULLION_CUDA_FLAGS "SHELL:-gencode arch=compute_${oldest},code=compute_${oldest}")
  endif()
endif()
message(STATUS "CUDA: ${MULLION_HAVE_CUDA} (MULLION_CUDA=${MULLION_CUDA})")

# NCCL of the toolkit or of the system; the library itself is opened when ranks first want it.
set(MULLION_HAVE_NCCL OFF)
if(MULLION_NCCL STREQUAL "ON" AND NOT MULLION_HAVE_CUDA)
  message(FATAL_ERROR "MULLION_NCCL=ON: needs the CUDA backend (MULLION_CUDA=${MULLION_CUDA}, which builds none here)")
endif()
if(MULLION_HAVE_CUDA AND NOT MULLION_NCCL STREQUAL "OFF")
  find_path(MULLION_NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} PATHS ENV CPATH)
  find_library(MULLION_NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(NOT MULLION_NCCL_INCLUDE_DIR)
    set(why_not "nccl.h was not found (Debian: libnccl-dev)")
  else()
    foreach(part MAJOR MINOR)
      file(STRINGS ${MULLION_NCCL_INCLUDE_DIR}/nccl.h ${part} REGEX "^#define NCCL_${part} " LIMIT_COUNT 1)
      string(REGEX REPLACE "[^0-9]" "" ${part} "${${part}}")
    endforeach()
    if("${MAJOR}.${MINOR}" VERSION_LESS 2.14)  # communicators whose calls do not block
      set(why_not "${MULLION_NCCL_INCLUDE_DIR}/nccl.h is of ${MAJOR}.${MINOR}, older than 2.14")
    else()
      set(MULLION_HAVE_NCCL ON)
      set(why_not "MULLION_NCCL=${MULLION_NCCL}")
    endif()
  endif()
  if(MULLION_NCCL STREQUAL "ON" AND NOT MULLION_HAVE_NCCL)
    message(FATAL_ERROR "MULLION_NCCL=ON: ${why_not}")
  endif()
  message(STATUS "collectives by NCCL: ${MULLION_HAVE_NCCL} (${why_not})")
endif()

# mullion_cuda_library(NAME SOURCES...): device code with the flags above.
function(mullion_cuda_library name)
  add_library(${name} STATIC ${ARGN})
  target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
  foreach(property CXX_STANDARD CXX_STANDARD_REQUIRED CXX_EXTENSIONS)  # CUDA would inherit them
    set_property(TARGET ${name} PROPERTY ${property})
  endforeach()
  target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:${MULLION_CUDA_FLAGS}>)
  target_link_libraries(${name} PUBLIC mullion_tensor CUDA::cudart_static ${CMAKE_DL_LIBS})
endfunction()

# The devices a program can compute on beside the CPU: a backend registers itself, so it is linked
# whole. Programs, benches and the tests of a device link this; libraries do not.
add_library(mullion_devices INTERFACE)
