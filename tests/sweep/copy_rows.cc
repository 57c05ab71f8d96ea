// Sweeps of the copies and fills, over pairs of all element types.
#include <limits>

#include "tests/sweep/sweep.h"

namespace mullion::sweep {
namespace {

const std::vector<int64_t> kTypes{0, 1, 2, 3, 4, 5, 6, 7};  // DType

bool is_whole(DType t) { return !is_float(t); }

// A value as the target's type holds it, but for the rounding of floats.
double converted(double x, DType from, DType to) {
  if (to == DType::boolean) return x != 0;
  if (!is_whole(to)) return x;
  if (is_whole(from) && to == DType::u8) return static_cast<uint8_t>(static_cast<int64_t>(x));
  return to == DType::u8 ? std::clamp(std::trunc(x), 0.0, 255.0) : std::trunc(x);
}

// Shapes (a, 2, b) and strides of the source and of the target.
struct Layout {
  Shape shape, source, target;
};
Layout layout_of(int64_t number, int64_t a, int64_t b) {
  const Shape shape{a, 2, b}, plain{2 * b, b, 1};
  switch (number) {
    case 1:
      return {shape, {1, a * b, a}, plain};  // planes transposed
    case 2:
      return {shape, {0, b, 1}, plain};
    case 3:
      return {shape, {2, 1, 0}, plain};
    case 4:
      return {shape, {4 * b + 1, 2 * b, 2}, plain};
    case 5:
      return {shape, plain, {2 * (b + 3), b + 3, 1}};
    case 6:
      return {shape, plain, {1, a * b, a}};
    case 7:
      return {shape, {2, 1, 2 * a}, plain};  // the middle axis is the source's contiguous one
    case 8:
      return {{a, b}, {1, a}, {b + 1, 1}};
    case 9:
      return {{2, b, a}, {a * b, 1, b}, {a * b, a, 1}};
    default:
      return {shape, plain, plain};
  }
}

// Calls f(offset in the source, in the target) for every element.
template <typename F>
void for_elements(const Layout& l, F f) {
  for (int64_t i = 0; i < l.shape.numel(); ++i) {
    int64_t rest = i, source = 0, target = 0;
    for (int axis = l.shape.rank() - 1; axis >= 0; --axis) {
      const int64_t at = rest % l.shape[axis];
      rest /= l.shape[axis];
      source += at * l.source[axis];
      target += at * l.target[axis];
    }
    f(source, target);
  }
}

void copy(Case& c) {
  const Layout l = layout_of(c["layout"], c["a"], c["b"]);
  const auto from = static_cast<DType>(c["from"]), to = static_cast<DType>(c["to"]);
  int64_t source_size = 0, target_size = 0;
  for_elements(l, [&](int64_t s, int64_t t) {
    source_size = std::max(source_size, s + 1);
    target_size = std::max(target_size, t + 1);
  });
  const bool has_sign = from != DType::u8 && from != DType::boolean;
  const Array& source =
      c.in("source", from, source_size, has_sign ? -3 : 0, from == DType::boolean ? 2 : 90);
  Array& target = c.out("target", to, target_size);
  c.call(&KernelTable::copy, CopyArgs{.source = source,
                                      .target = target,
                                      .source_type = from,
                                      .target_type = to,
                                      .shape = l.shape,
                                      .source_strides = l.source,
                                      .target_strides = l.target});
  c.expect([&] {
    for_elements(l,
                 [&](int64_t s, int64_t t) { target.expect(t, converted(source[s], from, to)); });
  });
}

void fill(Case& c) {
  const int64_t n = c["n"];
  const double value = c.type() == DType::boolean ? 1 : 3;
  Array& y = c.out("y", n);
  c.call(&KernelTable::fill, FillArgs{.y = y, .dtype = c.type(), .n = n, .value = 3});
  c.expect([&] {
    for (int64_t i = 0; i < n; ++i) y.expect(i, value);
  });
}

}  // namespace

std::vector<Row> copy_rows() {
  return {
      // A transposition goes in blocks of 32.
      {"copy",
       {MULLION_SLOT(copy)},
       {DType::f32},  // the axes name the types
       {{"a", small_and_around({32})}, {"b", small_and_around({32})}},
       copy,
       {{"layout", {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}, {"from", kTypes}, {"to", kTypes}},
       16},
      {"fill",
       {MULLION_SLOT(fill)},
       {DType::f32, DType::bf16, DType::f16, DType::f64, DType::i32, DType::i64, DType::u8,
        DType::boolean},
       {{"n", small_and_around({16, 32, 64})}},
       fill},
  };
}

}  // namespace mullion::sweep
