// cuBLASLt is opened by the first product and NCCL when ranks first want it, not by the start of a
// program; needs no GPU. The emulator answers the calls itself.
#ifndef MULLION_SIMT
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tensor/check.h"
#include "tensor/cuda/runtime/shared_library.h"
#include "tensor/device_collective.h"

namespace mullion::test {
namespace {

bool is_mapped(const std::string& part) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find(part) != std::string::npos) return true;
  return false;
}

const bool cublas_at_start = is_mapped("libcublasLt"), nccl_at_start = is_mapped("libnccl");

TEST(CublasLt, IsOpenedByItsFirstCall) {
  EXPECT_FALSE(cublas_at_start);
  EXPECT_EQ(cublasLtGetVersion() / 10000, size_t{CUBLAS_VER_MAJOR});
  EXPECT_TRUE(is_mapped("libcublasLt"));
}

TEST(CublasLt, AMissingLibraryIsNamedWithThePlacesLookedAt) {
  try {
    cuda::open_library("tests", "libmissing.so.1", "/nowhere");
    FAIL() << "opened";
  } catch (const Error& error) {
    const std::string what = error.what();
    EXPECT_EQ(error.fault(), Fault::usage);
    EXPECT_NE(what.find("tests need libmissing.so.1: libmissing.so.1: "), std::string::npos)
        << what;
    EXPECT_NE(what.find("/nowhere/libmissing.so.1: "), std::string::npos) << what;
    EXPECT_NE(error.hint().find("LD_LIBRARY_PATH"), std::string::npos);
  }
}

TEST(NcclLibrary, IsOpenedWhenItsVersionIsAsked) {
  EXPECT_FALSE(nccl_at_start);
  std::string version;
  try {
    version = collectives_of(DeviceType::cuda).describe();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::usage);
    GTEST_SKIP() << error.what();
  }
  EXPECT_EQ(version.find("NCCL 2."), 0U) << version;
  EXPECT_TRUE(is_mapped("libnccl.so.2"));
}

}  // namespace
}  // namespace mullion::test
#endif
