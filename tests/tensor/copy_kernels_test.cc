// Copies of the table: conversions between all types, permuted axes, broadcast and views.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tensor/check.h"
#include "tensor/kernel_table.h"
#include "tensor/tensor.h"
#include "tests/kernel_buffer.h"

namespace mullion::test {
namespace {

const KernelTable& table() { return kernels({}); }

template <typename T>
double as_double(T x) {
  if constexpr (std::is_same_v<T, bf16> || std::is_same_v<T, f16>)
    return double{static_cast<float>(x)};
  else
    return static_cast<double>(x);
}

template <typename From, typename To>
void check_conversion() {
  constexpr int64_t n = 1003;
  Buffer<From> source(n);
  Buffer<To> target(n), strided(3 * n);
  for (int64_t i = 0; i < n; ++i) source[i] = static_cast<From>(static_cast<float>(i % 120));
  table().copy({.source = source.data(),
                .target = target.data(),
                .source_type = dtype_of<From>(),
                .target_type = dtype_of<To>(),
                .shape = {n},
                .source_strides = {1},
                .target_strides = {1}});
  table().copy({.source = source.data(),
                .target = strided.data(),
                .source_type = dtype_of<From>(),
                .target_type = dtype_of<To>(),
                .shape = {n},
                .source_strides = {1},
                .target_strides = {3}});
  for (int64_t i = 0; i < n; ++i) {
    double expected = as_double(source[i]);
    if (std::is_same_v<To, bool>) expected = expected != 0;
    EXPECT_EQ(as_double(target[i]), expected)
        << name_of(dtype_of<From>()) << " to " << name_of(dtype_of<To>()) << " at " << i;
    EXPECT_EQ(as_double(strided[3 * i]), expected);
  }
}
template <typename From>
void check_conversions() {
  check_conversion<From, float>();
  check_conversion<From, bf16>();
  check_conversion<From, f16>();
  check_conversion<From, double>();
  check_conversion<From, int32_t>();
  check_conversion<From, int64_t>();
  check_conversion<From, uint8_t>();
  check_conversion<From, bool>();
}

TEST(Copy, ConvertsBetweenAllTypes) {
  check_conversions<float>();
  check_conversions<bf16>();
  check_conversions<f16>();
  check_conversions<double>();
  check_conversions<int32_t>();
  check_conversions<int64_t>();
  check_conversions<uint8_t>();
  check_conversions<bool>();
}

TEST(Copy, FloatsBeyondAnIntegerTypeSaturate) {
  const float x[] = {1e20f, -1e20f, NAN, 300.5f, -3.7f};
  int32_t i32[5];
  uint8_t u8[5];
  table().copy({.source = x,
                .target = i32,
                .source_type = DType::f32,
                .target_type = DType::i32,
                .shape = {5},
                .source_strides = {1},
                .target_strides = {1}});
  table().copy({.source = x,
                .target = u8,
                .source_type = DType::f32,
                .target_type = DType::u8,
                .shape = {5},
                .source_strides = {1},
                .target_strides = {1}});
  EXPECT_EQ(std::vector<int32_t>(i32, i32 + 5),
            (std::vector<int32_t>{INT32_MAX, INT32_MIN, 0, 300, -3}));
  EXPECT_EQ(std::vector<uint8_t>(u8, u8 + 5), (std::vector<uint8_t>{255, 0, 0, 255, 0}));
}

TEST(Copy, Bf16RoundsToNearestEvenAndKeepsNaN) {
  constexpr int64_t n = 1 << 16;
  Buffer<float> x(n);
  Buffer<bf16> y(n);
  for (int64_t i = 0; i < n; ++i)
    x[i] = std::bit_cast<float>(static_cast<uint32_t>(i) * 65537u +
                                0x7fffu * static_cast<uint32_t>(i % 3));
  table().copy({.source = x.data(),
                .target = y.data(),
                .source_type = DType::f32,
                .target_type = DType::bf16,
                .shape = {n},
                .source_strides = {1},
                .target_strides = {1}});
  for (int64_t i = 0; i < n; ++i)
    if (std::isnan(x[i]))
      EXPECT_TRUE(std::isnan(static_cast<float>(y[i])));
    else
      EXPECT_EQ(y[i].bits, bf16(x[i]).bits);
}

// Copies of a permuted space, in both directions: gather from it and scatter into it.
template <typename T>
void check_permuted(const Shape& shape, std::vector<int> axes) {
  Shape permuted, strides;
  for (int axis : axes) {
    permuted.push_back(shape[axis]);
    strides.push_back(shape.strides()[axis]);
  }
  const int64_t n = shape.numel();
  Buffer<T> x(n, 1, 0, 100), gathered(n), back(n);
  const DType type = dtype_of<T>();
  table().copy({.source = x.data(),
                .target = gathered.data(),
                .source_type = type,
                .target_type = type,
                .shape = permuted,
                .source_strides = strides,
                .target_strides = permuted.strides()});
  table().copy({.source = gathered.data(),
                .target = back.data(),
                .source_type = type,
                .target_type = type,
                .shape = permuted,
                .source_strides = permuted.strides(),
                .target_strides = strides});
  for (int64_t i = 0; i < n; ++i) {
    int64_t rest = i, at = 0;
    for (int axis = permuted.rank() - 1; axis >= 0; --axis) {
      at += rest % permuted[axis] * strides[axis];
      rest /= permuted[axis];
    }
    ASSERT_EQ(as_double(gathered[i]), as_double(x[at])) << i;
    ASSERT_EQ(as_double(back[i]), as_double(x[i])) << i;
  }
}

TEST(Copy, PermutedAxes) {
  check_permuted<float>({300, 211}, {1, 0});
  check_permuted<double>({33, 31}, {1, 0});
  check_permuted<uint8_t>({64, 65}, {1, 0});
  check_permuted<float>({5, 33, 40}, {0, 2, 1});
  check_permuted<float>({5, 33, 40}, {2, 1, 0});
  check_permuted<float>({5, 33, 40}, {2, 0, 1});
  check_permuted<float>({2, 37, 5, 64}, {0, 2, 1, 3});  // tokens and heads
  check_permuted<bf16>({2, 3, 4, 5, 6, 7}, {5, 3, 1, 0, 2, 4});
  check_permuted<int64_t>({1, 7, 1, 3}, {3, 2, 1, 0});
}

TEST(Copy, BroadcastSourceAndViewTarget) {
  Buffer<float> x(7, 1), y(35), view(100, 2), before(100, 2);
  table().copy({.source = x.data(),
                .target = y.data(),
                .source_type = DType::f32,
                .target_type = DType::f32,
                .shape = {5, 7},
                .source_strides = {0, 1},
                .target_strides = {7, 1}});
  for (int64_t i = 0; i < 35; ++i) EXPECT_EQ(y[i], x[i % 7]);
  table().copy({.source = x.data(),
                .target = view.data() + 11,
                .source_type = DType::f32,
                .target_type = DType::f32,
                .shape = {7},
                .source_strides = {1},
                .target_strides = {10}});
  for (int64_t i = 0; i < 100; ++i) {
    const bool inside = i >= 11 && (i - 11) % 10 == 0 && (i - 11) / 10 < 7;
    EXPECT_EQ(view[i], inside ? x[(i - 11) / 10] : before[i]);
  }
  table().copy({.source = nullptr,
                .target = nullptr,
                .source_type = DType::f32,
                .target_type = DType::f32,
                .shape = {0, 3},
                .source_strides = {3, 1},
                .target_strides = {3, 1}});  // nothing
}

}  // namespace
}  // namespace mullion::test
