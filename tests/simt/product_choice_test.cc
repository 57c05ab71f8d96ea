// Which of cuBLASLt's candidates computes a product: the library's first, or the fastest.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "tensor/cuda/runtime/runtime.h"
#include "tensor/kernel_table.h"
#include "tensor/simt/candidates.h"
#include "tensor/simt/fault_plan.h"
#include "tensor/simt/simt.h"
#include "tensor/tensor.h"

namespace mullion {
namespace {

const Device kCuda{DeviceType::cuda, 0};

class ProductChoice : public testing::Test {
 protected:
  void SetUp() override {
    late_ = simt::late_streams();
    simt::set_late_streams(false);  // an event's time is when it is queued
    synchronize(kCuda);
  }
  void TearDown() override {
    unsetenv("MULLION_CUDA_PRODUCTS");
    simt::offer_candidates({0});
    simt::set_late_streams(late_);
  }

  // c = a b^T + beta c of n x n, ones and twos and a c of threes: every element of the result.
  // Products of one size are planned once in a process, so each test has its own.
  static float product(int64_t n, double beta = 0) {
    const Tensor a = Tensor::full({n, n}, 1, DType::f32, kCuda);
    const Tensor b = Tensor::full({n, n}, 2, DType::f32, kCuda);
    const Tensor c = Tensor::full({n, n}, 3, DType::f32, kCuda);
    queue(a, b, c, beta);
    const std::vector<float> values = c.to_vector<float>();
    for (const float value : values) EXPECT_EQ(value, values[0]);
    return values[0];
  }
  static void queue(const Tensor& a, const Tensor& b, const Tensor& c, double beta) {
    MatmulArgs args{};
    args.a = a.data<void>(), args.b = b.data<void>(), args.c = c.data<void>();
    args.a_type = args.b_type = args.c_type = DType::f32;
    args.batch = 1, args.m = args.n = args.k = args.lda = args.ldb = args.ldc = a.dim(0);
    args.transpose_b = true, args.alpha = 1, args.beta = beta;
    kernels(kCuda).matmul(args);
  }
  using Runs = std::vector<int>;

 private:
  bool late_ = false;
};

TEST_F(ProductChoice, IsTheLibrarysUnlessTimesAreAskedFor) {
  simt::offer_candidates({30, 0});
  EXPECT_EQ(product(71), 2 * 71);
  EXPECT_EQ(product(71), 2 * 71);
  EXPECT_EQ(simt::candidate_runs(), (Runs{2, 0}));
}

TEST_F(ProductChoice, ByTimeIsTheFastestThatRuns) {
  setenv("MULLION_CUDA_PRODUCTS", "timed", 1);
  simt::offer_candidates({60, -1, 0, 30, -1, 0});  // more than are asked for
  EXPECT_EQ(product(72), 2 * 72);
  EXPECT_EQ(simt::candidate_runs(), (Runs{3, 0, 3 + 1, 3, 0, 0}));
  EXPECT_EQ(product(72), 2 * 72);
  EXPECT_EQ(simt::candidate_runs(), (Runs{3, 0, 3 + 2, 3, 0, 0}));
}

TEST_F(ProductChoice, LeavesTheResultThatIsAddedTo) {
  setenv("MULLION_CUDA_PRODUCTS", "timed", 1);
  simt::offer_candidates({30, 0});
  EXPECT_EQ(product(73, 0.5), 2 * 73 + 1.5f);
  EXPECT_EQ(simt::candidate_runs(), (Runs{3, 3 + 1}));
}

TEST_F(ProductChoice, WaitsForAStepThatIsNotRecorded) {
  setenv("MULLION_CUDA_PRODUCTS", "timed", 1);
  product(74);  // memory and workspace are there
  const Tensor a = Tensor::full({75, 75}, 1, DType::f32, kCuda),
               c = Tensor::full({75, 75}, 0, DType::f32, kCuda);
  synchronize(kCuda);
  simt::offer_candidates({30, 0});
  cuda::begin_recording(0);
  queue(a, a, c, 0);
  cuda::abandon_recording(0);
  EXPECT_EQ(simt::candidate_runs(), (Runs{0, 0}));
  EXPECT_EQ(product(75), 2 * 75);
  EXPECT_EQ(simt::candidate_runs(), (Runs{3, 3 + 1}));
}

TEST_F(ProductChoice, NamesAValueThatItDoesNotKnow) {
  setenv("MULLION_CUDA_PRODUCTS", "fastest", 1);
  try {
    product(76);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(
        std::string(error.what()).find("MULLION_CUDA_PRODUCTS=fastest: expected library or timed"),
        std::string::npos)
        << error.what();
  }
}

// A library without a product that adds, or applies GELU: the same result by several steps.
TEST_F(ProductChoice, WithoutWhatTheLibraryHasNotAtOnce) {
  const auto result = [](DType type, int64_t n, bool gelu) {
    const Tensor a = Tensor::full({n, n}, 0.25, type, kCuda);
    const Tensor b = Tensor::full({n, n}, 0.125, type, kCuda);
    const Tensor c = Tensor::full({n, n}, 9, type, kCuda);
    const Tensor before = Tensor::full({n, n}, 9, type, kCuda);
    const Tensor residual = Tensor::full({n, n}, -0.5, type, kCuda);
    const Tensor bias = Tensor::full({n}, 0.75, DType::f32, kCuda);
    MatmulArgs args{};
    args.a = a.data<void>(), args.b = b.data<void>(), args.c = c.data<void>();
    args.bias = bias.data<void>(), args.residual = residual.data<void>();
    args.a_type = args.b_type = args.c_type = type;
    args.batch = 1, args.m = args.n = args.k = args.lda = args.ldb = args.ldc = n;
    args.alpha = 1, args.gelu = gelu;
    if (gelu) args.before_gelu = before.data<void>();
    simt::plan_fault("cublasLtMatmulAlgoGetHeuristic", 1, cudaErrorNotSupported);
    kernels(kCuda).matmul(args);
    EXPECT_EQ(simt::clear_faults(), 1);
    // Once planned, so it stays.
    kernels(kCuda).matmul(args);
    std::vector<float> all;
    for (const Tensor& t : {c, before})
      for (const float x : raw::cast(t, DType::f32).to_vector<float>()) all.push_back(x);
    return all;
  };
  int64_t n = 40;  // a size that nobody has planned yet
  for (const DType type : {DType::f32, DType::bf16})
    for (const bool gelu : {false, true}) {
      const std::vector<float> found = result(type, n, gelu);
      const float x = static_cast<float>(n) * 0.25f * 0.125f - 0.5f + 0.75f;
      const float y = gelu ? 0.5f * x * (1 + std::erf(x / std::sqrt(2.0f))) : x;
      const auto elements = static_cast<size_t>(n * n);
      for (size_t i = 0; i < elements; ++i) {
        EXPECT_NEAR(found[i], y, 1e-2) << name_of(type) << gelu;
        EXPECT_EQ(found[elements + i], gelu ? x : 9) << name_of(type) << gelu;
      }
      n += 8;
    }
}

}  // namespace
}  // namespace mullion
