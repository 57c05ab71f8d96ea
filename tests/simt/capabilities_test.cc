// Which devices a build serves, and which tiles attention takes there.
#include "tensor/cuda/runtime/capabilities.h"

#include "tensor/cuda/runtime/launch.h"
#include "tensor/kernel_args/attention.h"
#include "tensor/simt/simt.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/device_runs.h"

namespace mullion::cuda {
namespace {

__global__ void nothing_kernel() {}

TEST(CudaCapabilities, MachineCodeServesLaterMinors) {
  const std::string_view archs = "80,89,90a+ptx";
  EXPECT_EQ(code_for(archs, 7, 5), Code::none);
  EXPECT_EQ(code_for(archs, 8, 0), Code::machine);
  EXPECT_EQ(code_for(archs, 8, 6), Code::machine);  // by that of 8.0
  EXPECT_EQ(code_for(archs, 9, 0), Code::machine);
  EXPECT_EQ(code_for(archs, 9, 1), Code::ptx);  // sm_90a is for 9.0 alone
  EXPECT_EQ(code_for(archs, 10, 3), Code::ptx);
  EXPECT_EQ(code_for(archs, 12, 0), Code::ptx);
  EXPECT_EQ(code_for("86,120+ptx", 8, 0), Code::none);
  EXPECT_EQ(code_for("86,120+ptx", 8, 9), Code::machine);
  EXPECT_EQ(code_for("86,120+ptx", 9, 0), Code::ptx);
  EXPECT_EQ(code_for("86,120+ptx", 12, 1), Code::machine);
  EXPECT_EQ(code_for("90a+ptx", 8, 9), Code::none);
  EXPECT_EQ(code_for("90a+ptx", 10, 0), Code::ptx);
  EXPECT_EQ(code_for("90a", 10, 0), Code::none);
  EXPECT_EQ(code_for("100f", 10, 3), Code::machine);
}

TEST(CudaCapabilities, TheListIsNamed) {
  EXPECT_EQ(code_of("80,89,90a+ptx"),
            "machine code for sm_80, sm_89 and sm_90a, PTX of compute_80 for later devices");
  EXPECT_EQ(code_of("120"), "machine code for sm_120");
  for (const char* wrong : {"", "+ptx", "a", "8.0", "80,,90", "90ab"})
    EXPECT_THROW(code_of(wrong), Error) << wrong;
}

class AttentionTiles : public test::OnDevice<> {};

// The backward on zeros.
void run_backward(DType type, int64_t D) {
  constexpr int64_t kTokens = 16;
  const AttentionPattern full;
  const auto zeros = [&](DType t, int64_t n) {
    return test::DeviceArray(test::kCuda, t, test::Floats(static_cast<size_t>(n), 0), 0);
  };
  const auto rows = [&] { return zeros(type, kTokens * D); };
  const auto q = rows(), k = rows(), v = rows(), o = rows(), d_o = rows(), dq = rows(), dk = rows(),
             dv = rows(), lse = zeros(DType::f32, kTokens);
  AttentionBackwardArgs args{};
  args.size = {1, kTokens, kTokens, 1, 1, D, 1.0, 0, type, &full};
  args.q = q.data(), args.k = k.data(), args.v = v.data(), args.o = o.data();
  args.lse = lse.data(), args.d_o = d_o.data();
  args.dq = dq.data(), args.dk = dk.data(), args.dv = dv.data();
  args.q_stride = args.k_stride = args.v_stride = args.o_stride = {kTokens * D, D, D};
  args.d_o_stride = args.dq_stride = args.dk_stride = args.dv_stride = args.q_stride;
  const KernelTable& table = kernels(test::kCuda);
  const auto scratch =
      zeros(DType::f32, static_cast<int64_t>(table.attention_backward_scratch(args.size)) / 4);
  args.scratch = scratch.data();
  table.attention_backward(args);
  synchronize(test::kCuda);
}

// The taller tile of key_gradient_kernel<128> asks for 132,608 bytes, the simple kernel's for
// 103,232 with D = 256. ("simt: shared memory of capability ..." runs this on other devices.)
TEST_F(AttentionTiles, FollowTheSharedMemoryOfTheDevice) {
  make_current(0);
  const DeviceFacts facts = device_facts();
  const bool is_small = facts.compute_major == 8 && facts.compute_minor != 0;
  EXPECT_EQ(facts.shared_per_block, (facts.compute_major > 8 ? 227u : is_small ? 99u : 163u) << 10);
  const simt::LaunchCounts counts;
  run_backward(DType::bf16, 128);
  EXPECT_EQ(counts.of("attention_key_gradient"), is_small ? 0 : 1);
  EXPECT_EQ(counts.of("attention_key_gradient_low"), is_small ? 1 : 0);
  run_backward(DType::f32, 256);
  EXPECT_EQ(counts.of("attention_simple_key_gradient"), 1);
}

TEST_F(AttentionTiles, ATooLargeBlockIsRefused) {
  try {
    launch("nothing", nothing_kernel, Grid{1}, 32, device_facts().shared_per_block + 1);
    ADD_FAILURE() << "it was launched";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("nothing: a block asks for "), std::string::npos);
  }
}

}  // namespace
}  // namespace mullion::cuda
