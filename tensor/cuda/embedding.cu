// Rows looked up in a table, a warp a row.
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/rows.cuh"

namespace mullion::cuda {
namespace {

template <typename From, typename To, typename Shape>
__global__ void __launch_bounds__(Shape::kThreads)
    embedding_kernel(const From* table, const int64_t* ids, To* y, int64_t count, int width) {
  const int64_t row = Shape::group();
  if (row >= count) return;
  table += ids[row] * width;
  y += row * width;
  Shape::each(width, [&](int, int at) { store(y + at, load<Shape::N>(table + at)); });
}

template <typename From, typename To>
void lookup(const EmbeddingArgs& args) {
  CHECK_AS(Fault::usage, args.width <= 0x7fffffff, "embedding: rows of ", args.width,
           " elements are too wide for cuda");
  const auto run = [&](auto shape) {
    using Shape = decltype(shape);
    launch("embedding", embedding_kernel<From, To, Shape>, Shape::grid(args.count), Shape::kThreads,
           0, static_cast<const From*>(args.table), args.ids, static_cast<To*>(args.y), args.count,
           args.width);
  };
  constexpr int N = sizeof(From) == 2 || sizeof(To) == 2 ? 8 : 4;
  if (aligned(args.table, args.y) && args.width % N == 0) return run(RowShape<N, 32, 0>{});
  run(RowShape<1, 32, 0>{});
}

}  // namespace

void embedding(const EmbeddingArgs& args) {
  dispatch_cuda("embedding", args.table_type, [&](auto from) {
    dispatch_cuda("embedding", args.dtype,
                  [&](auto to) { lookup<decltype(from), decltype(to)>(args); });
  });
}

}  // namespace mullion::cuda
