// NCCL is opened when ranks first want it, not by the start of a program; needs no GPU. The
// emulator answers the calls itself.
#ifndef MULLION_SIMT
#include <gtest/gtest.h>

#include <fstream>

#include "tensor/check.h"
#include "tensor/device_collective.h"

namespace mullion::test {
namespace {

bool is_mapped(const std::string& part) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find(part) != std::string::npos) return true;
  return false;
}

const bool mapped_at_start = is_mapped("libnccl");

TEST(NcclLibrary, IsOpenedWhenItsVersionIsAsked) {
  EXPECT_FALSE(mapped_at_start);
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
