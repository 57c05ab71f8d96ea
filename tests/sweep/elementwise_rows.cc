// Sweeps of the elementwise kernels and of what they are made of (kernel_args/elementwise.h).
#include <limits>

#include "tensor/cpu/pack.h"
#include "tensor/random.h"
#include "tests/sweep/sweep.h"

namespace mullion::sweep {
namespace {

constexpr int64_t kLanes = cpu::Pack<float>::kLanes;
const std::vector<DType> kFloats{DType::f32, DType::f64};

// Lengths of contiguous arrays: around one register and the unrolled loops.
Axis lengths() { return {"n", small_and_around({kLanes, 2 * kLanes, 4 * kLanes})}; }

template <typename Op>
void unary_rows(const char* name, int64_t index, std::vector<Row>& rows) {
  const bool is_positive = std::is_same_v<Op, Log> || std::is_same_v<Op, Sqrt>;
  const double low = is_positive ? 0.1 : -3;
  const auto slot = static_cast<size_t>(index);
  rows.push_back({name, {MULLION_SLOT(unary) + slot}, kFloats, {lengths()}, [=](Case& c) {
                    const int64_t n = c["n"];
                    const Array& x = c.in("x", n, low, 3);
                    Array& y = c.out("y", n);
                    c.call(&KernelTable::unary, index,
                           UnaryArgs{.x = x, .y = y, .dtype = c.type(), .n = n});
                    c.expect([&] {
                      for (int64_t i = 0; i < n; ++i) y.expect(i, Op::value(x[i]));
                    });
                  }});
  rows.push_back(
      {std::string(name) + "_backward",
       {MULLION_SLOT(unary_backward) + slot},
       kFloats,
       {lengths()},
       [=](Case& c) {
         const int64_t n = c["n"];
         const Array &x = c.in("x", n, low, 3), &y = c.in("y", n, 0.1, 1), &g = c.in("g", n);
         Array& dx = c.out("dx", n);
         c.call(&KernelTable::unary_backward, index,
                UnaryBackwardArgs{.x = x, .y = y, .g = g, .dx = dx, .dtype = c.type(), .n = n});
         c.tolerance_factor = 3;
         c.expect([&] {
           for (int64_t i = 0; i < n; ++i) dx.expect(i, Op::backward(x[i], y[i], g[i]));
         });
       }});
}

// How an operand of shape (rows, columns) lies.
enum Layout : int64_t { plain, scalar, row_vector, column_vector, transposed, every_second };
Shape strides_of(int64_t layout, int64_t rows, int64_t columns) {
  switch (layout) {
    case scalar:
      return {0, 0};
    case row_vector:
      return {0, 1};
    case column_vector:
      return {1, 0};
    case transposed:
      return {1, rows};
    case every_second:
      return {2 * columns + 1, 2};
    default:
      return {columns, 1};
  }
}
int64_t extent(const Shape& strides, int64_t rows, int64_t columns) {
  return (rows - 1) * strides[0] + (columns - 1) * strides[1] + 1;
}

template <typename Op>
Row binary_row(const char* name, int64_t index) {
  return {name,
          {MULLION_SLOT(binary) + static_cast<size_t>(index)},
          kFloats,
          {{"rows", small_and_around()}, {"columns", small_and_around({kLanes, 2 * kLanes})}},
          [=](Case& c) {
            const int64_t rows = c["rows"], columns = c["columns"];
            const Shape sa = strides_of(c["a"], rows, columns),
                        sb = strides_of(c["b"], rows, columns);
            const Array &a = c.in("a", extent(sa, rows, columns)),
                        &b = c.in("b", extent(sb, rows, columns), 0.5, 2);
            Array& y = c.out("y", rows * columns);
            c.call(&KernelTable::binary, index,
                   BinaryArgs{.a = a,
                              .b = b,
                              .y = y,
                              .dtype = c.type(),
                              .shape = {rows, columns},
                              .a_strides = sa,
                              .b_strides = sb});
            c.expect([&] {
              for (int64_t i = 0; i < rows; ++i)
                for (int64_t j = 0; j < columns; ++j)
                  y.expect(i * columns + j,
                           Op::value(a[i * sa[0] + j * sa[1]], b[i * sb[0] + j * sb[1]]));
            });
          },
          {{"a", {plain, scalar, row_vector, column_vector, transposed, every_second}},
           {"b", {plain, scalar, row_vector, column_vector, transposed, every_second}}},
          6};
}

void functor_rows(std::vector<Row>& rows) {
#define MULLION_ROWS(name, Op) unary_rows<Op>(#name, UnaryOps::Op, rows);
  MULLION_UNARY_OPS(MULLION_ROWS)
#undef MULLION_ROWS
#define MULLION_ROWS(name, Op) rows.push_back(binary_row<Op>(#name, BinaryOps::Op));
  MULLION_BINARY_OPS(MULLION_ROWS)
#undef MULLION_ROWS
}

void affine(Case& c) {
  const int64_t n = c["n"];
  const Array& x = c.in("x", n);
  Array& y = c.out("y", n);
  c.call(&KernelTable::affine,
         AffineArgs{.x = x, .y = y, .dtype = c.type(), .n = n, .alpha = 1.5, .beta = -0.25});
  c.expect([&] {
    for (int64_t i = 0; i < n; ++i) y.expect(i, 1.5 * x[i] - 0.25);
  });
}

void accumulate(Case& c) {
  const int64_t n = c["n"];
  const Array& x = c.in("x", n);
  Array& y = c.in_out("y", n);
  c.call(&KernelTable::accumulate,
         AccumulateArgs{.x = x, .y = y, .dtype = c.type(), .n = n, .alpha = -0.75});
  c.expect([&] {
    for (int64_t i = 0; i < n; ++i) y.expect(i, y[i] - 0.75 * x[i]);
  });
}

void swiglu(Case& c) {
  const int64_t n = c["n"];
  const Array &gate = c.in("gate", n, -4, 4), &up = c.in("up", n);
  Array& y = c.out("y", n);
  c.call(&KernelTable::swiglu,
         SwigluArgs{.gate = gate, .up = up, .y = y, .dtype = c.type(), .n = n});
  c.expect([&] {
    for (int64_t i = 0; i < n; ++i) y.expect(i, Silu::value(gate[i]) * up[i]);
  });
}

void swiglu_backward(Case& c) {
  const int64_t n = c["n"];
  const Array &gate = c.in("gate", n, -4, 4), &up = c.in("up", n), &g = c.in("g", n);
  Array &dgate = c.out_if(c["dgate"], "dgate", n), &dup = c.out_if(c["dup"], "dup", n);
  c.call(
      &KernelTable::swiglu_backward,
      SwigluBackwardArgs{
          .gate = gate, .up = up, .g = g, .dgate = dgate, .dup = dup, .dtype = c.type(), .n = n});
  c.tolerance_factor = 2;
  c.expect([&] {
    for (int64_t i = 0; i < n; ++i) {
      dgate.expect(i, Silu::backward(gate[i], 0.0, g[i] * up[i]));
      dup.expect(i, g[i] * Silu::value(gate[i]));
    }
  });
}

void sum_axis(Case& c) {
  const int64_t outer = c["outer"], reduced = c["reduced"], inner = c["inner"];
  const Array& x = c.in("x", outer * reduced * inner);
  Array& y = c.out("y", outer * inner);
  c.call(&KernelTable::sum_axis, SumAxisArgs{.x = x,
                                             .y = y,
                                             .dtype = c.type(),
                                             .outer = outer,
                                             .reduced = reduced,
                                             .inner = inner,
                                             .alpha = 0.5});
  c.expect([&] {
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t i = 0; i < inner; ++i) {
        double sum = 0, magnitude = 0;
        for (int64_t r = 0; r < reduced; ++r) {
          const double value = x[(o * reduced + r) * inner + i];
          sum += value;
          magnitude += std::abs(value);
        }
        y.expect(o * inner + i, 0.5 * sum, magnitude);
      }
  });
}

void random(Case& c) {
  const int64_t n = c["n"];
  const auto kind = static_cast<RandomArgs::Kind>(c["kind"]);
  Array& y = c.out("y", n);
  const Array& stream = c.in("stream", std::vector<int64_t>{77});
  RandomArgs args{.kind = kind,
                  .y = y,
                  .dtype = c.type(),
                  .n = n,
                  .a = 0.25,
                  .b = 1.5,
                  .seed = 5,
                  .stream = 77};
  if (c["stream_at"]) args.stream = 0, args.stream_at = stream;
  c.call(&KernelTable::random, args);
  c.expect([&] {
    for (int64_t i = 0; i < n; ++i) {
      const auto block = static_cast<uint64_t>(i);
      const double u = double{uniform_from_bits(philox(5, 77, block / 4).v[block % 4])};
      if (kind == RandomArgs::Kind::uniform) y.expect(i, 0.25 + 1.25 * u);
      if (kind == RandomArgs::Kind::bernoulli) y.expect(i, u < 0.25 ? 1.5 : 0);
      if (kind == RandomArgs::Kind::normal)
        y.expect(i, 0.25 + 1.5 * normal_from_block(philox(5, 77, block)));
    }
  });
}

}  // namespace

std::vector<Row> elementwise_rows() {
  std::vector<Row> rows;
  functor_rows(rows);
  rows.push_back({"affine", {MULLION_SLOT(affine)}, kFloats, {lengths()}, affine});
  rows.push_back({"accumulate", {MULLION_SLOT(accumulate)}, kFloats, {lengths()}, accumulate});
  rows.push_back({"swiglu", {MULLION_SLOT(swiglu)}, kFloats, {lengths()}, swiglu});
  rows.push_back({"swiglu_backward",
                  {MULLION_SLOT(swiglu_backward)},
                  kFloats,
                  {lengths(), {"dgate", {0, 1}}, {"dup", {0, 1}}},
                  swiglu_backward});
  // kChunk rows are summed at a time, kGrain elements of one row.
  rows.push_back({"sum_axis",
                  {MULLION_SLOT(sum_axis)},
                  kFloats,
                  {{"outer", {1, 2, 3, 4, 5}},
                   {"reduced", small_and_around({4 * kLanes, 128})},
                   {"inner", small_and_around({kLanes, 2 * kLanes})}},
                  sum_axis,
                  {},
                  0,
                  {{2, 32767, 1}, {1, 32768, 1}, {2, 32769, 1}}});
  rows.push_back({"random",
                  {MULLION_SLOT(random)},
                  kFloats,
                  {lengths(), {"kind", {0, 1, 2}}, {"stream_at", {0, 1}}},
                  random});
  return rows;
}

}  // namespace mullion::sweep
