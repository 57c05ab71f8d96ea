// cuBLASLt is opened by the first product, not by the start of a program; needs no GPU. The
// emulator answers the calls itself.
#ifndef MULLION_SIMT
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tensor/check.h"
#include "tensor/cuda/runtime/shared_library.h"

namespace mullion::test {
namespace {

bool is_mapped(const std::string& part) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find(part) != std::string::npos) return true;
  return false;
}

const bool mapped_at_start = is_mapped("libcublasLt");

TEST(CublasLt, IsOpenedByItsFirstCall) {
  EXPECT_FALSE(mapped_at_start);
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

}  // namespace
}  // namespace mullion::test
#endif
