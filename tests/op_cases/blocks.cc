// Rows of the ops whose weight is a matrix of blocks: linear, lora_linears, linear_cross_entropy.
// Of more than kFewBlockRows rows, whose products take the blocks' exact values.
#include <cmath>
#include <cstring>

#include "tests/autograd/op_table.h"
#include "tests/block_bytes.h"

namespace mullion::test {
namespace {

using In = std::vector<Tensor>;
using Ref = std::vector<Values>;
constexpr int64_t kRows = 9;

struct MadeUp {
  StoredType type;
  int64_t rows, width;
  BlockMatrix blocks{type, rows, width};

  MadeUp(StoredType t, int64_t r, int64_t w) : type(t), rows(r), width(w) {
    const std::vector<std::byte> bytes = made_up_blocks(type, rows * width, 3);
    uint8_t* target = blocks.bytes().data<uint8_t>();
    std::memcpy(target, bytes.data(), bytes.size());
  }
  // Beside x, wherever that is.
  Weight beside(const Tensor& x) const { return to_device(blocks, x.device()); }
  // x W^T
  Values times(const Values& x) const {
    const std::vector<float> w = widened(blocks).to_vector<float>();
    const auto in = static_cast<size_t>(width), out = static_cast<size_t>(rows);
    Values y(x.size() / in * out);
    for (size_t i = 0; i < y.size(); ++i)
      for (size_t k = 0; k < in; ++k) y[i] += x[i / out * in + k] * double{w[i % out * in + k]};
    return y;
  }
};

OpRow linear_row(StoredType type) {
  const MadeUp w(type, 5, static_cast<int64_t>(layout_of(type).block));
  return {"linear",
          concat("blocks_", name_of(type)),
          {{{kRows, w.width}}, {{5}}, {{kRows, 5}}},
          [w](const In& in) { return linear(in[0], w.beside(in[0]), in[1], in[2]); },
          [w](const Ref& in) {
            Values y = w.times(in[0]);
            for (size_t i = 0; i < y.size(); ++i) y[i] += in[1][i % 5] + in[2][i];
            return y;
          },
          1e-4};  // sums of 256 values up to 40 times as large as their result
}

OpRow lora_row() {
  const MadeUp w(StoredType::q4_0, 6, 64);
  return {"lora_linears",
          "blocks",
          {{{3, 3, 64}}, {{2, 64}}, {{6, 2}}},
          [w](const In& in) {
            return lora_linears(in[0], {{w.beside(in[0]), in[1], in[2]}}, 1.5)[0];
          },
          [w](const Ref& in) {
            Values y = w.times(in[0]);
            for (size_t i = 0; i < y.size(); ++i)
              for (size_t r = 0; r < 2; ++r)
                for (size_t k = 0; k < 64; ++k)
                  y[i] += 1.5 * in[0][i / 6 * 64 + k] * in[1][r * 64 + k] * in[2][i % 6 * 2 + r];
            return y;
          },
          1e-4};
}

OpRow loss_row() {
  const MadeUp w(StoredType::q8_0, 7, 32);
  const std::vector<int64_t> targets = {3, 0, 6, -100, 2, 2, 5, 1, 4};
  return {"linear_cross_entropy",
          "blocks",
          {{{kRows, 32}}},
          [=](const In& in) {
            return linear_cross_entropy(in[0], w.beside(in[0]), Tensor::from(targets, {kRows}), 0.5,
                                        9);
          },
          [=](const Ref& in) {
            const Values z = w.times(in[0]);
            double loss = 0;
            for (size_t i = 0; i < targets.size(); ++i) {
              if (targets[i] < 0) continue;
              double sum = 0;
              for (size_t v = 0; v < 7; ++v) sum += std::exp(z[7 * i + v]);
              loss += std::log(sum) - z[7 * i + static_cast<size_t>(targets[i])];
            }
            return Values{0.5 * loss};
          },
          1e-4};
}

}  // namespace

std::vector<OpRow> block_weight_rows() {
  std::vector<OpRow> rows;
  for (const StoredType type : kBlockTypes) rows.push_back(linear_row(type));
  rows.push_back(lora_row());
  rows.push_back(loss_row());
  return rows;
}

}  // namespace mullion::test
