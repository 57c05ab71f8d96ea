// LoRA of small ranks on few rows, in f32: its products are thin in every direction.
#include <gtest/gtest.h>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "tests/kernel_buffer.h"

namespace mullion::test {
namespace {

Tensor values(Shape shape, uint64_t stream, DType dtype) {
  Buffer<float> data(shape.numel(), stream);
  const Tensor x = raw::cast(Tensor::from(data.values(), shape), dtype);
  set_requires_grad(x, true);
  return x;
}

// The result and the gradients of x, A and B.
std::vector<Tensor> forward_and_backward(int64_t rows, int64_t rank, int64_t in, DType dtype) {
  constexpr int64_t kOut = 7;
  const Tensor x = values({rows, in}, 1, dtype), w = values({kOut, in}, 2, dtype);
  const Tensor a = values({rank, in}, 3, dtype), b = values({kOut, rank}, 4, dtype);
  const Tensor y = lora_linears(x, {{w, a, b}}, 2)[0];
  const Tensor g = values({rows, kOut}, 5, dtype);
  backward(y, g);
  return {y, grad(x), grad(a), grad(b)};
}

TEST(Lora, SmallRanksOnFewRowsAreThoseOfDouble) {
  for (int64_t rows = 1; rows <= 6; ++rows)
    for (int64_t rank = 1; rank <= 5; ++rank)
      for (const int64_t in : {6, 64, 67}) {
        SCOPED_TRACE(concat("rows ", rows, " rank ", rank, " in ", in));
        const auto found = forward_and_backward(rows, rank, in, DType::f32);
        const auto expected = forward_and_backward(rows, rank, in, DType::f64);
        for (size_t i = 0; i < found.size(); ++i) {
          const auto single = found[i].to_vector<float>();
          const auto exact = expected[i].to_vector<double>();
          for (size_t j = 0; j < exact.size(); ++j)
            expect_close(double{single[j]}, exact[j], 3e-6, static_cast<int64_t>(j));
        }
      }
}

}  // namespace
}  // namespace mullion::test
