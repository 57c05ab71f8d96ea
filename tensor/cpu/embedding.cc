// Rows looked up in a table, and their gradient. The gradient is split over threads by columns, so
// that every row receives its terms in the order of the ids whatever the number of threads.
#include <algorithm>
#include <cstring>

#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/pack.h"
#include "tensor/parallel.h"

namespace mullion::cpu {
namespace {

template <typename From, typename To>
void lookup(const EmbeddingArgs& args) {
  const auto* table = static_cast<const From*>(args.table);
  auto* y = static_cast<To*>(args.y);
  const int64_t width = args.width;
  parallel_for(args.count, rows_of_grain(width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const From* row = table + args.ids[i] * width;
      for (int64_t c = 0; c < width; ++c) y[i * width + c] = static_cast<To>(row[c]);
    }
  });
}

template <typename T>
void scatter(const EmbeddingBackwardArgs& args) {
  const auto* g = static_cast<const T*>(args.g);
  auto* dtable = static_cast<T*>(args.dtable);
  const int64_t width = args.width;
  parallel_for(args.rows * width, kGrain, [&](int64_t begin, int64_t end) {
    std::memset(dtable + begin, 0, static_cast<size_t>(end - begin) * sizeof(T));
  });
  constexpr int64_t unit = 64 / sizeof(T);  // whole cache lines a thread
  const int64_t units = (width + unit - 1) / unit;
  parallel_for(units, rows_of_grain(args.count * unit), [&](int64_t begin, int64_t end) {
    const int64_t first = begin * unit, last = std::min(width, end * unit);
    for (int64_t i = 0; i < args.count; ++i) {
      T* row = dtable + args.ids[i] * width;
      map_packs(
          first, last, row, [](Pack<T> a, Pack<T> b) { return a + b; }, static_cast<const T*>(row),
          g + i * width);
    }
  });
}

}  // namespace

void embedding(const EmbeddingArgs& args) {
  if (args.table_type == DType::bf16 && args.dtype == DType::f32) return lookup<bf16, float>(args);
  CHECK_AS(Fault::usage, args.table_type == args.dtype, "embedding: a table of ",
           name_of(args.table_type), " and a result of ", name_of(args.dtype));
  dispatch_float("embedding", args.dtype,
                 [&](auto zero) { lookup<decltype(zero), decltype(zero)>(args); });
}

void embedding_backward(const EmbeddingBackwardArgs& args) {
  dispatch_float("embedding_backward", args.dtype,
                 [&](auto zero) { scatter<decltype(zero)>(args); });
}

}  // namespace mullion::cpu
