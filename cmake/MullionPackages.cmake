# Outside libraries. Hard dependencies are header-only or tiny; the rest is used where found.
set(MULLION_CARRY "" CACHE PATH "Take the libraries from this folder (tools/gpu_check.sh --pack), not from the system")
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(Threads REQUIRED)
set(MULLION_HAVE_ONEDNN OFF)
if(MULLION_TESTS)
  include(GoogleTest)
endif()
if(MULLION_CARRY)
  include(MullionCarry)
  message(STATUS "libraries from ${MULLION_CARRY}, built for ${MULLION_MARCH}")
  return()
endif()

find_package(Eigen3 3.4 REQUIRED NO_MODULE)
find_package(nlohmann_json 3.11 REQUIRED)
if(MULLION_ONEDNN)
  # By header and library: Debian's dnnl-config.cmake stops the configuration where OpenCL's headers,
  # which products on the CPU do not need, are not installed.
  find_path(DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.hpp)
  find_library(DNNL_LIBRARY dnnl)
  if(DNNL_INCLUDE_DIR AND DNNL_LIBRARY)
    set(MULLION_HAVE_ONEDNN ON)
    add_library(dnnl_cpu UNKNOWN IMPORTED)
    set_target_properties(dnnl_cpu PROPERTIES IMPORTED_LOCATION ${DNNL_LIBRARY}
                          INTERFACE_INCLUDE_DIRECTORIES ${DNNL_INCLUDE_DIR})
  endif()
endif()

find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
  pkg_check_modules(TURBOJPEG IMPORTED_TARGET libturbojpeg libjpeg)
  pkg_check_modules(PCRE2 IMPORTED_TARGET libpcre2-8)
  pkg_check_modules(UTF8PROC IMPORTED_TARGET libutf8proc)
  pkg_check_modules(TOMLPP IMPORTED_TARGET tomlplusplus)
  pkg_check_modules(HTTPLIB IMPORTED_TARGET cpp-httplib)  # chat_llama serve
endif()
find_package(ZLIB QUIET)  # ImageNet's devkit is compressed
find_package(CLI11 QUIET)
if(MULLION_TESTS)
  find_package(GTest REQUIRED)
endif()
message(STATUS "matrix products: ${MULLION_HAVE_ONEDNN} (oneDNN), built for ${MULLION_MARCH}")
