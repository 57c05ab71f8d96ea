# Outside libraries from MULLION_CARRY instead of the system, under the names by which the rest asks
# for them: headers in include/, GoogleTest's sources in googletest/. What else the system may have
# (libjpeg-turbo, PCRE2, oneDNN) is left out.
function(carried_headers target header)
  if(NOT EXISTS ${MULLION_CARRY}/include/${header})
    message(FATAL_ERROR "MULLION_CARRY=${MULLION_CARRY}: include/${header} is missing; "
                        "tools/gpu_check.sh --pack makes the folder")
  endif()
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${MULLION_CARRY}/include)
endfunction()

carried_headers(Eigen3::Eigen Eigen/Core)
carried_headers(nlohmann_json::nlohmann_json nlohmann/json.hpp)
carried_headers(CLI11::CLI11 CLI/CLI.hpp)
carried_headers(PkgConfig::TOMLPP toml++/toml.h)
set_target_properties(PkgConfig::TOMLPP PROPERTIES INTERFACE_COMPILE_DEFINITIONS TOML_HEADER_ONLY=1)

if(MULLION_TESTS)
  set(googletest ${MULLION_CARRY}/googletest)
  add_library(carried_gtest STATIC ${googletest}/src/gtest-all.cc ${googletest}/src/gtest_main.cc)
  target_include_directories(carried_gtest SYSTEM PUBLIC ${googletest}/include PRIVATE ${googletest})
  target_compile_options(carried_gtest PRIVATE -w)
  target_link_libraries(carried_gtest PUBLIC Threads::Threads)
  add_library(GTest::gtest_main ALIAS carried_gtest)
endif()
