# cmake --install: the libraries with their public headers, the programs, and what
# find_package(Mullion) needs (docs/using-as-a-library.md). Not with CUDA: device code is linked whole
# from a build, so there add_subdirectory is the way.
if(MULLION_HAVE_CUDA OR MULLION_CARRY)
  return()
endif()
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(config ${CMAKE_INSTALL_LIBDIR}/cmake/Mullion)
install(TARGETS mullion_tensor mullion_autograd mullion_nn mullion_optim mullion_data mullion_models
        EXPORT MullionTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT MullionTargets NAMESPACE Mullion:: DESTINATION ${config})
foreach(folder tensor autograd nn optim data models)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${folder} DESTINATION include/mullion
          FILES_MATCHING PATTERN "*.h" PATTERN "cpu" EXCLUDE PATTERN "cuda" EXCLUDE
          PATTERN "simt" EXCLUDE)
endforeach()
write_basic_package_version_file(MullionConfigVersion.cmake COMPATIBILITY ExactVersion)
configure_package_config_file(cmake/MullionConfig.cmake.in MullionConfig.cmake
                              INSTALL_DESTINATION ${config})
install(FILES cmake/MullionPackages.cmake ${PROJECT_BINARY_DIR}/MullionConfig.cmake
        ${PROJECT_BINARY_DIR}/MullionConfigVersion.cmake DESTINATION ${config})
if(MULLION_APPS)
  install(TARGETS ${MULLION_PROGRAMS} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
