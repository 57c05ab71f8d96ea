// Products with matrices of blocks. Where they may be rounded (tensor/rounded_products.h), rows of
// x are, to 8 bits, and are multiplied as integers (block_dots.h): decoding reads W once, as it is
// stored. Elsewhere panels of W are widened in cache: forward 64 columns of W^T, against which rows
// of x are multiplied as they lie, in an order of sums that no number of rows or threads changes;
// backward, and in f64, panels of W for the library (widened_panels.h).
#include <algorithm>

#include "tensor/cpu/block_dots.h"
#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/micro_product.h"
#include "tensor/cpu/widened_panels.h"
#include "tensor/parallel.h"
#include "tensor/rounded_products.h"
#include "tensor/scratch.h"

namespace mullion::cpu {
namespace {

constexpr int kFloatSlot = 5, kRoundedSlot = 4;  // of thread_scratch()

struct Blocks {
  const std::byte* first;
  StoredType type;
  int64_t block, block_bytes, row_bytes;

  Blocks(const void* data, StoredType stored, int64_t width)
      : first(static_cast<const std::byte*>(data)),
        type(stored),
        block(static_cast<int64_t>(layout_of(stored).block)),
        block_bytes(static_cast<int64_t>(layout_of(stored).block_bytes)),
        row_bytes(width / block * block_bytes) {}
  const std::byte* at(int64_t row, int64_t column) const {
    return first + row * row_bytes + column / block * block_bytes;
  }
};

void widen(const Blocks& w, int64_t row, int64_t column, int64_t n, float* y) {
  widen_blocks(w.type, w.at(row, column), n, y);
}
void widen(const Blocks& w, int64_t row, int64_t column, int64_t n, double* y) {
  float* floats = thread_scratch(static_cast<size_t>(n), kFloatSlot);
  widen(w, row, column, n, floats);
  std::copy(floats, floats + n, y);
}

// y = value + beta y + bias + residual, for one element of a forward product.
template <typename T>
struct Finish {
  T alpha, beta;
  const T *bias, *residual;

  explicit Finish(const BlockMatmulArgs& args)
      : alpha(static_cast<T>(args.alpha)),
        beta(static_cast<T>(args.beta)),
        bias(static_cast<const T*>(args.bias)),
        residual(static_cast<const T*>(args.residual)) {}
  bool adds() const { return bias || residual; }
  T operator()(T value, const T* y, int64_t at, int64_t column) const {
    if (beta != 0) value += beta * y[at];
    if (bias) value += bias[column];
    if (residual) value += residual[at];
    return value;
  }
  // n neighbouring elements of a row of y, of which the first is y[at] in a column.
  void row(const T* values, T* y, int64_t at, int64_t column, int64_t n) const {
    const Finish own = *this;  // no writing to y changes it
    if (own.beta == 0 && !own.bias && !own.residual)
      for (int64_t j = 0; j < n; ++j) y[at + j] = own.alpha * values[j];
    else
      for (int64_t j = 0; j < n; ++j) y[at + j] = own(own.alpha * values[j], y, at + j, column + j);
  }
};

void rounded_rows(const BlockMatmulArgs& args) {
  const Blocks w(args.blocks, args.type, args.width);
  const int64_t chunks = chunks_of(args.width);
  const auto* x = static_cast<const float*>(args.x);
  auto* y = static_cast<float*>(args.y);
  const auto bytes = static_cast<size_t>(args.m * chunks) * sizeof(RoundedChunk);
  auto* rounded =
      reinterpret_cast<RoundedChunk*>(thread_scratch(bytes / sizeof(float), kRoundedSlot));
  for (int64_t i = 0; i < args.m; ++i)
    round_row(x + i * args.width, args.width, rounded + i * chunks);
  const Finish<float> finish(args);
  const DotKind kind = best_dot_kind();
  parallel_for(args.rows, rows_of_grain(args.width), [&](int64_t begin, int64_t end) {
    float dots[kFewBlockRows];
    for (int64_t r = begin; r < end; ++r)
      for (int64_t i0 = 0; i0 < args.m; i0 += kFewBlockRows) {
        const int64_t m = std::min(kFewBlockRows, args.m - i0);
        block_dots(kind, args.type, w.at(r, 0), args.width, rounded + i0 * chunks,
                   static_cast<int>(m), dots, 1);
        for (int64_t i = 0; i < m; ++i) {
          const int64_t at = (i0 + i) * args.rows + r;
          y[at] = finish(finish.alpha * dots[i], y, at, r);
        }
      }
  });
}

constexpr int64_t kUnit = 16;        // columns of y that are never parted
constexpr int64_t kMostRows = 1024;  // of x against one widened panel: their sums stay in cache
constexpr int64_t kTileRows = 48, kTileDepth = 128;  // operands that stay in the first one

// sums = x W^T for `rows` rows of x and a panel of W^T whose inner size is `depth`; they go on
// where `adds`. Rows of sums lie as those of the panel.
void multiply_panel(const float* x, int64_t width, const float* panel, int64_t depth, int64_t rows,
                    int64_t vectors, bool adds, float* sums) {
  for (int64_t i = 0; i < rows; i += kTileRows)
    for (int64_t k = 0; k < depth; k += kTileDepth) {
      const Product<float> tile{x + i * width + k,
                                width,
                                panel + k * kPanelColumns,
                                kPanelColumns,
                                sums + i * kPanelColumns,
                                kPanelColumns,
                                std::min(kTileRows, rows - i),
                                std::min(kTileDepth, depth - k)};
      adds || k > 0 ? wide_product<Left::plain, true>(tile, vectors)
                    : wide_product<Left::plain, false>(tile, vectors);
    }
}

void forward_panels(const BlockMatmulArgs& args) {
  const Blocks w(args.blocks, args.type, args.width);
  const auto* x = static_cast<const float*>(args.x);
  auto* y = static_cast<float*>(args.y);
  const Finish<float> finish(args);
  const int64_t deep = std::min(args.width, kPanelDepth), most = std::min(args.m, kMostRows);
  const auto panel_at = [&](int64_t n0, int64_t columns) {
    float* panel = thread_scratch(static_cast<size_t>((deep + most) * kPanelColumns), kPanelSlot);
    float* sums = panel + deep * kPanelColumns;
    const int64_t vectors = (columns + kLanes<float> - 1) / kLanes<float>;
    for (int64_t m0 = 0; m0 < args.m; m0 += most) {
      const int64_t rows = std::min(most, args.m - m0);
      for (int64_t k0 = 0; k0 < args.width; k0 += deep) {
        const int64_t depth = std::min(deep, args.width - k0);
        widen_transposed(args.type, w.at(n0, k0), w.row_bytes, columns, depth, panel);
        multiply_panel(x + m0 * args.width + k0, args.width, panel, depth, rows, vectors, k0 > 0,
                       sums);
      }
      for (int64_t i = 0; i < rows; ++i)
        finish.row(sums + i * kPanelColumns, y, (m0 + i) * args.rows + n0, n0, columns);
    }
  };
  const double work = static_cast<double>(args.m) * static_cast<double>(args.width * kUnit);
  const auto grain = static_cast<int64_t>(1 + 1e6 / work);
  parallel_for((args.rows + kUnit - 1) / kUnit, grain, [&](int64_t begin, int64_t end) {
    const int64_t last = std::min(end * kUnit, args.rows);
    for (int64_t n0 = begin * kUnit; n0 < last; n0 += kPanelColumns)
      panel_at(n0, std::min(kPanelColumns, last - n0));
  });
}

// y = alpha x op(W) + beta y: op(W) = W^T has W's rows as columns, W its own, which begin at whole
// blocks.
template <typename T>
void exact_rows(const BlockMatmulArgs& args) {
  const Blocks w(args.blocks, args.type, args.width);
  const bool forward = !args.backward;
  const int64_t n = forward ? args.rows : args.width, k = forward ? args.width : args.rows;
  const Finish<T> finish(args);
  auto* y = static_cast<T*>(args.y);
  multiply_widened(
      Gemm<T>{false, forward, args.m, n, k, finish.alpha, static_cast<const T*>(args.x), k, nullptr,
              args.width, finish.beta, y, n},
      forward ? 1 : w.block,
      [&](int64_t row, int64_t column, int64_t length, T* target) {
        widen(w, row, column, length, target);
      },
      [&](int64_t n0, int64_t columns) {
        if (!finish.adds()) return;
        for (int64_t i = 0; i < args.m; ++i)
          for (int64_t j = n0; j < n0 + columns; ++j) {
            T& value = y[i * n + j];
            if (finish.bias) value += finish.bias[j];
            if (finish.residual) value += finish.residual[i * n + j];
          }
      });
}

}  // namespace

void block_matmul(const BlockMatmulArgs& args) {
  if (args.m == 0 || args.rows == 0 || args.width == 0) return;
  DCHECK(!args.backward || (!args.bias && !args.residual));
  if (args.dtype == DType::f32 && !args.backward && RoundedProducts::allowed())
    return rounded_rows(args);
  if (args.dtype == DType::f32 && !args.backward) return forward_panels(args);
  dispatch_float("block_matmul", args.dtype, [&](auto zero) { exact_rows<decltype(zero)>(args); });
}

void block_rows(const BlockRowsArgs& args) {
  const Blocks w(args.blocks, args.type, args.width);
  dispatch_float("block_rows", args.dtype, [&](auto zero) {
    auto* y = static_cast<decltype(zero)*>(args.y);
    parallel_for(args.count, rows_of_grain(args.width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        widen(w, args.ids[i], 0, args.width, y + i * args.width);
    });
  });
}

}  // namespace mullion::cpu
