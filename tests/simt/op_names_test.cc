// Errors from below an op name it, whichever op it is and whatever fails: a launch, memory, the
// device itself some time later.
#include <regex>

#include "autograd/engine.h"
#include "tensor/simt/fault_plan.h"
#include "tests/autograd/op_call.h"
#include "tests/cuda/device_runs.h"

namespace mullion::test {
namespace {

// What f throws; empty where it throws nothing.
template <typename F>
std::string said_by(F f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::memory) << error.what();
    return error.what();
  }
  return "";
}

template <typename Base = testing::Test>
class WithFaults : public OnDevice<Base> {
 protected:
  void TearDown() override {
    simt::clear_faults();
    cudaGetLastError();
    OnDevice<Base>::TearDown();
  }
};

class OpNames : public WithFaults<testing::TestWithParam<OpRow>> {
 protected:
  // The messages of the row's forward, or of its backward, when the first such call fails and all
  // that follow it, when the second does, and so on to the last.
  static std::vector<std::string> when_fails(const char* call, cudaError_t error,
                                             bool in_backward) {
    std::vector<std::string> messages;
    do {
      const Call inputs = inputs_of(GetParam(), DType::f32, kCuda);
      Tensor y, g;
      if (in_backward) {
        y = GetParam().call(inputs.tensors);
        g = random_like(y, 100);
      }
      release_cached_memory(kCuda);
      synchronize(kCuda);
      simt::plan_fault(call, static_cast<int>(messages.size()) + 1, error, true);
      messages.push_back(said_by([&] {
        if (in_backward)
          backward(y, g);
        else
          GetParam().call(inputs.tensors);
      }));
      simt::clear_faults();
      cudaGetLastError();
    } while (!messages.back().empty());
    messages.pop_back();
    return messages;
  }
};

bool begins_with(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

// A row may call other ops as well: whoever fails is named, and the row's own op among them.
TEST_P(OpNames, ForwardAndBackwardAreNamed) {
  const std::string op = GetParam().op;
  bool is_named = false;
  for (const bool in_backward : {false, true}) {
    std::vector<std::string> messages =
        when_fails("cudaMallocAsync", cudaErrorMemoryAllocation, in_backward);
    for (std::string& text : when_fails("launch", cudaErrorLaunchOutOfResources, in_backward))
      messages.push_back(std::move(text));
    for (const std::string& text : messages) {
      EXPECT_TRUE(std::regex_search(
          text, std::regex(in_backward ? "^backward of [a-z_0-9]+: " : "^[a-z_0-9]+: ")))
          << text;
      EXPECT_FALSE(begins_with(text, "cuda: ")) << text;
      is_named |= begins_with(text, (in_backward ? "backward of " : "") + op + ": ");
    }
  }
  // What only looks at the same elements otherwise calls nothing, in any direction.
  EXPECT_TRUE(is_named || op == "reshape" || op == "permute" || op == "cast");
}

INSTANTIATE_TEST_SUITE_P(Rows, OpNames, testing::ValuesIn(op_table()), row_name);

class OpNamesLater : public WithFaults<> {};

TEST_F(OpNamesLater, AProductThatFailsIsNamed) {
  const Tensor x = Tensor::full({4, 8}, 1, DType::f32, kCuda);
  const Tensor w = Tensor::full({8, 8}, 1, DType::f32, kCuda);
  simt::plan_fault("cublasLtMatmul", 1, cudaErrorLaunchFailure);
  const std::string said = said_by([&] { linear(x, w); });
  EXPECT_TRUE(begins_with(said, "linear: cuda: cublasLtMatmul failed")) << said;
}

// The fault of a kernel comes up at a later call, outside of any op.
TEST_F(OpNamesLater, TheLastKernelsAreToldWithTheirOps) {
  const Tensor x = Tensor::full({4, 8}, 1, DType::f32, kCuda);
  set_requires_grad(x, true);
  const Tensor y = softmax(x);
  backward(y, Tensor::full({4, 8}, 1, DType::f32, kCuda));
  mean(detached(y), 0);
  simt::plan_fault("cudaStreamSynchronize", 1, cudaErrorIllegalAddress);
  const std::string said = said_by([] { synchronize(kCuda); });
  EXPECT_TRUE(begins_with(said, "cuda: an illegal memory access")) << said;
  EXPECT_NE(
      said.find("launched last: sum_columns (mean), softmax_backward (backward of softmax), "),
      std::string::npos)
      << said;
}

}  // namespace
}  // namespace mullion::test
