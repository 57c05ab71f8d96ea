// What the counters have shown to be avoidable does not come back: the kernels of tensor/cuda meet
// every bank of shared memory once, and ask for no more sectors than their elements fill.
#include <gtest/gtest.h>

#include "tests/simt/access_cases.h"

namespace mullion::test {
namespace {

using simt::Counted;

double over(const simt::KernelAccesses& kernel, Counted what) {
  const simt::AccessCount count = kernel.total(what);
  return count.least == 0 ? 1 : static_cast<double>(count.taken) / static_cast<double>(count.least);
}

// At most so many times the least: conflicts of banks, sectors read and written.
void expect_within(const std::string& part, double shared, double read, double written) {
  const auto kernels = count_main_kernels(part);
  EXPECT_FALSE(kernels.empty()) << part;
  for (const auto& [name, kernel] : kernels) {
    // Another place of its sums in shared memory would cost registers that it has not
    // (docs/gpu.md).
    if (name.find("bf16: attention_list_gradient") != std::string::npos) continue;
    SCOPED_TRACE(name);
    EXPECT_GT(kernel.launches, 0);
    EXPECT_LE(over(kernel, Counted::shared_read), shared);
    EXPECT_LE(over(kernel, Counted::shared_write), shared);
    EXPECT_LE(over(kernel, Counted::global_read), read);
    EXPECT_LE(over(kernel, Counted::global_write), written);
  }
}

// Starts of rows in a span of queries need not be those of sectors.
TEST(KernelAccesses, Attention) { expect_within("attention 64", 1, 1.05, 1); }
TEST(KernelAccesses, Decoding) { expect_within("decoding 64", 1, 1, 1); }
// The tiles' halos begin anywhere in the map; f32 statistics of a strip are parts of sectors.
TEST(KernelAccesses, MsaConv) { expect_within("MSA-Conv 14² bf16", 1, 1.02, 1.05); }
TEST(KernelAccesses, CrossEntropy) { expect_within("cross entropy", 1, 1, 1); }
TEST(KernelAccesses, AdamW) { expect_within("AdamW", 1, 1, 1); }
TEST(KernelAccesses, Softmax) { expect_within("softmax", 1, 1, 1); }
TEST(KernelAccesses, Norms) { expect_within("Norm 4,096 f32", 1, 1, 1); }
TEST(KernelAccesses, MaxPooling) { expect_within("max pool", 1, 1, 1); }
TEST(KernelAccesses, Transposes) {
  expect_within("transpose", 1, 1, 1);
  expect_within("permute", 1, 1, 1);
}

TEST(KernelAccesses, GradientOfADepthwiseWeight) {
  for (const auto& [name, kernel] : count_main_kernels("depthwise")) {
    if (name.find("sums") == std::string::npos) continue;
    EXPECT_EQ(over(kernel, Counted::shared_read), 1) << name;
    EXPECT_EQ(over(kernel, Counted::shared_write), 1) << name;
  }
}

}  // namespace
}  // namespace mullion::test
