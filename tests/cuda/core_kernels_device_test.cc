// Elementwise kernels, SwiGLU, sums and random numbers on the device against the CPU's kernels: in
// f32, and in bf16 against f32 on the rounded inputs.
#include <gtest/gtest.h>

#include "tensor/kernel_args/elementwise.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/device_runs.h"

namespace mullion::test {
namespace {

class CoreKernels : public KernelsOfType {};
OF_BOTH_TYPES(CoreKernels);

// Whole vectors, tails, starts that are not aligned, more than one block.
TEST_P(CoreKernels, MapsOfEveryLength) {
  for (const int64_t n : {1, 3, 4, 8, 13, 2048, 5003})
    for (const int64_t skew : {0, 1}) {
      SCOPED_TRACE(concat(n, " elements, skew ", skew));
      const Floats x = values(n, 1, -3, 3), g = values(n, 2), y = values(n, 3);
      compare_sides(type(), skew, tolerance(), [&](Side& side) {
        const auto dtype = side.type();
        side.table().unary[UnaryOps::Gelu](
            {.x = side.in(x), .y = side.out(n), .dtype = dtype, .n = n});
        side.table().unary_backward[UnaryOps::Gelu]({.x = side.in(x),
                                                     .y = side.in(y),
                                                     .g = side.in(g),
                                                     .dx = side.out(n),
                                                     .dtype = dtype,
                                                     .n = n});
        side.table().affine(
            {.x = side.in(x), .y = side.out(n), .dtype = dtype, .n = n, .alpha = 0.5, .beta = -2});
        side.table().accumulate(
            {.x = side.in(x), .y = side.in_out(g), .dtype = dtype, .n = n, .alpha = 0.25});
        side.table().binary[BinaryOps::Sub]({.a = side.in(x),
                                             .b = side.in(g),
                                             .y = side.out(n),
                                             .dtype = dtype,
                                             .shape = {n},
                                             .a_strides = {1},
                                             .b_strides = {1}});
      });
    }
}

TEST_P(CoreKernels, BinaryOverStridedSpaces) {
  struct Space {
    Shape shape, a, b;
  };
  // a dense, b a row, a column, a scalar; both with gaps; b turned; rows that are odd.
  const Space spaces[] = {
      {{6, 16}, {16, 1}, {0, 1}},         {{6, 16}, {16, 1}, {1, 0}},
      {{6, 16}, {16, 1}, {0, 0}},         {{6, 16}, {0, 0}, {16, 1}},
      {{4, 8}, {24, 1}, {40, 1}},         {{4, 8}, {25, 1}, {40, 1}},
      {{5, 6}, {6, 1}, {1, 5}},           {{3, 7}, {7, 1}, {0, 1}},
      {{2, 3, 8}, {24, 8, 1}, {8, 0, 1}}, {{2, 3, 4, 8}, {96, 32, 8, 1}, {8, 0, 16, 1}}};
  for (const Space& s : spaces) {
    SCOPED_TRACE(concat(s.shape, " ", s.a, " ", s.b));
    const Floats a = values(200, 1), b = values(200, 2, 0.5f, 2);
    compare_sides(type(), 0, tolerance(), [&](Side& side) {
      const int64_t n = s.shape.numel();
      side.table().binary[BinaryOps::Div]({.a = side.in(a),
                                           .b = side.in(b),
                                           .y = side.out(n),
                                           .dtype = side.type(),
                                           .shape = s.shape,
                                           .a_strides = s.a,
                                           .b_strides = s.b});
    });
  }
}

// One warp a row, one block, several pieces; columns alone, in blocks and in pieces; many outer.
TEST_P(CoreKernels, SumsOverAnyAxis) {
  const int64_t sizes[][3] = {{3, 5, 1},     {9, 512, 1},   {3, 513, 1},  {2, 4104, 1},
                              {2, 40001, 1}, {1, 33000, 1}, {2, 1, 1},    {2, 3, 1000},
                              {3, 49, 40},   {1, 1100, 33}, {2, 3000, 3}, {1, 20000, 2},
                              {4099, 2, 2},  {2, 0, 3},     {2, 0, 1}};
  for (const auto& [outer, reduced, inner] : sizes)
    for (const int64_t skew : {0, 1}) {
      SCOPED_TRACE(concat(outer, " x ", reduced, " x ", inner, ", skew ", skew));
      const Floats x = values(outer * reduced * inner, 1, -0.5f, 1);
      compare_sides(type(), skew, tolerance(), [&, o = outer, r = reduced, i = inner](Side& side) {
        side.table().sum_axis({.x = side.in(x),
                               .y = side.out(o * i),
                               .dtype = side.type(),
                               .outer = o,
                               .reduced = r,
                               .inner = i,
                               .alpha = 0.5});
      });
    }
}

TEST_P(CoreKernels, RandomNumbersAreTheCpus) {
  using Kind = RandomArgs::Kind;
  for (const int64_t n : {1, 6, 4001})
    for (const Kind kind : {Kind::uniform, Kind::bernoulli, Kind::normal}) {
      SCOPED_TRACE(concat(n, " of kind ", static_cast<int>(kind)));
      const double a = kind == Kind::uniform ? -0.3 : 0.25;
      const auto draw = [&](Device device, DType dtype) {
        const Tensor y = Tensor::empty({n}, dtype, device);
        kernels(device).random({.kind = kind,
                                .y = y.data<void>(),
                                .dtype = dtype,
                                .n = n,
                                .a = a,
                                .b = 0.7,
                                .seed = 99,
                                .stream = 5});
        return y;
      };
      const Tensor expected = raw::cast(draw(Device{}, DType::f32), type());
      const auto e = expected.to_vector<float>(), found = draw(kCuda, type()).to_vector<float>();
      for (size_t i = 0; i < e.size(); ++i)
        if (kind == Kind::normal)
          ASSERT_NEAR(found[i], e[i], tolerance() * 0.1f) << i;
        else
          ASSERT_EQ(found[i], e[i]) << i;
    }
}

TEST_P(CoreKernels, Swiglu) {
  for (const int64_t n : {1, 3, 8, 127, 1000, 2049})
    for (const int64_t skew : {0, 1}) {
      const Floats gate = values(n, 1, -6, 6), up = values(n, 2), g = values(n, 3);
      compare_sides(type(), skew, tolerance(), [&](Side& side) {
        side.table().swiglu({.gate = side.in(gate),
                             .up = side.in(up),
                             .y = side.out(n),
                             .dtype = side.type(),
                             .n = n});
        SwigluBackwardArgs args{.gate = side.in(gate),
                                .up = side.in(up),
                                .g = side.in(g),
                                .dgate = side.out(n),
                                .dup = side.out(n),
                                .dtype = side.type(),
                                .n = n};
        side.table().swiglu_backward(args);
        args.dgate = side.out(n), args.dup = nullptr;
        side.table().swiglu_backward(args);
      });
    }
}

}  // namespace
}  // namespace mullion::test
