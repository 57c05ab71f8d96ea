// Parts of queries over held keys on the device, by each of its kernels, against the whole.
#include "tests/attention_part.h"

#include "tests/cuda/device_runs.h"

namespace mullion::test {
namespace {

class AttentionPartOnDevice : public OnDevice<> {};

PartCase case_of(const std::string& name, int64_t width, DType dtype, double bound) {
  const AttentionPattern p =
      make_pattern(name, {.n_heads = 4, .context = 72, .group_size = 16, .seed = 3});
  return {.pattern = p,
          .sizes = {72, 4, 2},
          .width = width,
          .device = kCuda,
          .dtype = dtype,
          .bound = bound,
          .numbers_of_ranks = {3}};
}

TEST_F(AttentionPartOnDevice, IsThatOfTheWhole) {
  for (const char* name : {"full", "sf", "random"})
    check_parts(case_of(name, 8, DType::f32, 2e-5), name);
}

// Gradients of 8 and more, of which a rank's share is rounded to 8 bits.
TEST_F(AttentionPartOnDevice, OnTensorCores) {
  for (const char* name : {"full", "sf"}) check_parts(case_of(name, 64, DType::bf16, 0.13), name);
}

TEST_F(AttentionPartOnDevice, TheStridedPatternIsRefused) {
  EXPECT_THROW(PartProblem(case_of("strided", 8, DType::f32, 0))
                   .part(context_part(case_of("strided", 8, DType::f32, 0).pattern, {72, 4, 2},
                                      contiguous_layout(72, 2), 1)),
               Error);
}

}  // namespace
}  // namespace mullion::test
