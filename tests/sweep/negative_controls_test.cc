// Kernels with a fault at one size, which the sweep must find.
#include <gtest/gtest.h>

#include "tensor/parallel.h"
#include "tests/sweep/sweep.h"

namespace mullion::sweep {
namespace {

// A row with its sizes up to 17 or, of more than two, up to 3.
Row row_named(const std::string& name) {
  for (Row row : all_rows()) {
    if (row.name != name) continue;
    const int64_t most = row.sizes.size() > 2 ? 3 : 17;
    for (Axis& axis : row.sizes) std::erase_if(axis.values, [&](int64_t n) { return n > most; });
    row.more_sizes.clear();
    return row;
  }
  ADD_FAILURE() << name;
  return {};
}

// What the sweep says of a table in which one kernel was replaced.
template <typename Change>
Report sweep_with(const std::string& row, Change change) {
  KernelTable table = kernels({});
  change(table);
  return run_row(row_named(row), table);
}
std::string first_message(const Report& report) {
  return report.messages.empty() ? "" : report.messages[0];
}

TEST(SweepControls, AWrongElementAtOneSize) {
  const Report report = sweep_with("affine", [](KernelTable& t) {
    t.affine = [](const AffineArgs& args) {
      kernels({}).affine(args);
      if (args.n == 7 && args.dtype == DType::f32) static_cast<float*>(args.y)[6] *= 1.001f;
    };
  });
  EXPECT_EQ(report.failed, 3);
  EXPECT_EQ(first_message(report).rfind("y[6] is ", 0), 0u) << first_message(report);
  EXPECT_NE(first_message(report).find("affine n 7, f32, 1 threads"), std::string::npos);
}

TEST(SweepControls, AnElementThatIsNotWritten) {
  const Report report = sweep_with("softmax", [](KernelTable& t) {
    t.softmax = [](const SoftmaxArgs& given) {
      SoftmaxArgs args = given;
      if (args.rows > 1) --args.rows;
      kernels({}).softmax(args);
    };
  });
  EXPECT_NE(first_message(report).find("nan instead of"), std::string::npos);
}

TEST(SweepControls, WhatLiesBetweenRowsIsTouched) {
  const Report report = sweep_with("matmul", [](KernelTable& t) {
    t.matmul = [](const MatmulArgs& args) {
      kernels({}).matmul(args);
      if (args.ldc > args.n && args.m > 1 && args.c_type == DType::f32)
        static_cast<float*>(args.c)[args.n] = 0;
    };
  });
  EXPECT_NE(first_message(report).find("no element of the result"), std::string::npos)
      << first_message(report);
}

TEST(SweepControls, AnInputIsChanged) {
  const Report report = sweep_with("rms_norm", [](KernelTable& t) {
    t.rms_norm = [](const RmsNormArgs& args) {
      kernels({}).rms_norm(args);
      if (args.width == 17)
        const_cast<unsigned char*>(static_cast<const unsigned char*>(args.x))[0] ^= 1;
    };
  });
  EXPECT_EQ(first_message(report).rfind("changed x in ", 0), 0u) << first_message(report);
}

// Only where it has threads: what one thread leaves out.
TEST(SweepControls, AFaultOfTheSplit) {
  const Report report = sweep_with("neg", [](KernelTable& t) {
    t.unary[0] = [](const UnaryArgs& given) {
      UnaryArgs args = given;
      if (num_threads() == 3 && args.n > 3) args.n = args.n / 3 * 3;
      kernels({}).unary[0](args);
    };
  });
  EXPECT_GT(report.failed, 0);
  EXPECT_NE(first_message(report).find("3 threads"), std::string::npos);
}

// One element too many, read or written, at either end.
using SweepControlsDeathTest = ::testing::Test;

TEST(SweepControlsDeathTest, WrittenPastTheEnd) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(sweep_with("affine",
                          [](KernelTable& t) {
                            t.affine = [](const AffineArgs& given) {
                              AffineArgs args = given;
                              args.n += args.n == 5;
                              kernels({}).affine(args);
                            };
                          }),
               "sweep: access past the end of [xy] in affine n 5, f32, 1 threads, arrays end");
}

TEST(SweepControlsDeathTest, ReadBeforeTheStart) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(sweep_with("swiglu",
                          [](KernelTable& t) {
                            t.swiglu = [](const SwigluArgs& args) {
                              kernels({}).swiglu(args);
                              volatile float seen = static_cast<const float*>(args.up)[-1];
                              (void)seen;
                            };
                          }),
               "sweep: access before the start of up in swiglu n 1, f32, 1 threads, arrays begin");
}

// The fault for which the sweep was written: rows of A taken for columns where there are 2 to 4
// rows and fewer columns.
TEST(SweepControlsDeathTest, RowsTakenForColumns) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      sweep_with("matmul",
                 [](KernelTable& t) {
                   t.matmul = [](const MatmulArgs& given) {
                     MatmulArgs args = given;
                     if (args.m > 1 && args.m <= 4 && args.n < args.m) args.n = args.m;
                     kernels({}).matmul(args);
                   };
                 }),
      "sweep: access past the end of (a|b|c|bias|residual|before_gelu) in matmul m 2 n 1 ");
}

}  // namespace
}  // namespace mullion::sweep
