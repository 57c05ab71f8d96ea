// Rows of autograd/ops/lora.cc, lora_linears: projections whose pairs lie together or apart, of
// equal and different heights and ranks, with and without dropout.
#include "tensor/random.h"
#include "tests/autograd/op_table.h"

namespace mullion::test {
namespace {

using In = std::vector<Tensor>;
using Ref = std::vector<Values>;

struct Member {
  int64_t out, rank;  // rank 0: without a pair
};

// Copies of the tensors, one after another in one storage.
std::vector<Tensor> together(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> flat, result;
  if (tensors.empty()) return {};
  for (const Tensor& t : tensors) flat.push_back(reshape(t, {-1}));
  const Tensor all = concat(flat, 0);
  int64_t first = 0;
  for (const Tensor& t : tensors) {
    result.push_back(reshape(slice(all, 0, first, first + t.numel()), t.shape()));
    first += t.numel();
  }
  return result;
}

constexpr int64_t kStream = 9;
uint64_t seed_of(size_t member) { return 100 + member; }

struct Case {
  std::string variant;
  std::vector<Member> members;
  bool lies_together = true, trains_weights = true;
  size_t unused = SIZE_MAX;  // a result that nothing uses
  int64_t in = 6;
  double scale = 1.5, dropout = 0;

  // The inputs are x and for each member W and, where it has them, A and B.
  std::vector<Projection> projections(const In& inputs) const {
    std::vector<Tensor> a, b;
    size_t next = 1;
    std::vector<Projection> result;
    for (const Member& m : members) {
      result.push_back({inputs[next++]});
      result.back().dropout_seed = seed_of(result.size() - 1);
      if (m.rank == 0) continue;
      a.push_back(inputs[next++]);
      b.push_back(inputs[next++]);
    }
    if (lies_together) a = together(a), b = together(b);
    next = 0;
    for (size_t i = 0; i < members.size(); ++i) {
      if (members[i].rank == 0) continue;
      result[i].lora_a = a[next];
      result[i].lora_b = b[next++];
    }
    return result;
  }

  Tensor call(const In& inputs) const {
    std::vector<Tensor> flat;
    const Tensor stream = Tensor::from(std::vector<int64_t>{kStream}, {1});
    const std::vector<Tensor> y =
        lora_linears(inputs[0], projections(inputs), scale, {}, {dropout, stream});
    for (size_t i = 0; i < y.size(); ++i)
      if (i != unused) flat.push_back(reshape(y[i], {-1}));
    return concat(flat, 0);
  }

  // What A of a projection sees of x.
  Values dropped(const Values& x, size_t member) const {
    Values y = x;
    for (size_t i = 0; i < y.size() && dropout > 0; ++i) {
      const PhiloxBlock block = philox(seed_of(member), kStream, i / 4);
      const double u = static_cast<double>(uniform_from_bits(block.v[i % 4]));
      y[i] = u < 1 - dropout ? y[i] / (1 - dropout) : 0;
    }
    return y;
  }

  // x W^T + s (dropped x A^T) B^T, one product after another.
  Values reference(const Ref& inputs) const {
    Values y;
    size_t next = 1;
    const auto width = static_cast<size_t>(in);
    const Values& x = inputs[0];
    for (size_t i = 0; i < members.size(); ++i) {
      const auto rank = static_cast<size_t>(members[i].rank);
      const auto out = static_cast<size_t>(members[i].out);
      const Values &w = inputs[next++], seen = dropped(x, i);
      const Values* pair = rank > 0 ? &inputs[next] : nullptr;
      next += rank > 0 ? 2 : 0;
      if (i == unused) continue;
      for (size_t row = 0; row < x.size() / width; ++row)
        for (size_t o = 0; o < out; ++o) {
          double sum = 0;
          for (size_t c = 0; c < width; ++c) {
            sum += x[row * width + c] * w[o * width + c];
            for (size_t r = 0; r < rank; ++r)
              sum += scale * seen[row * width + c] * pair[0][r * width + c] * pair[1][o * rank + r];
          }
          y.push_back(sum);
        }
    }
    return y;
  }

  OpRow row() const {
    OpRow result{"lora_linears", variant, {{{2, 5, in}}}, {}, {}};
    for (const Member& m : members) {
      result.inputs.push_back({{m.out, in}, trains_weights});
      if (m.rank == 0) continue;
      result.inputs.push_back({{m.rank, in}});
      result.inputs.push_back({{m.out, m.rank}});
    }
    result.call = [c = *this](const In& inputs) { return c.call(inputs); };
    result.reference = [c = *this](const Ref& inputs) { return c.reference(inputs); };
    return result;
  }
};

}  // namespace

std::vector<OpRow> lora_rows() {
  std::vector<OpRow> rows;
  for (const Case& c :
       {Case{"equal_heights", {{7, 2}, {7, 2}, {7, 2}}},
        Case{"grouped_queries", {{8, 2}, {3, 2}, {3, 2}}}, Case{"heights_differ", {{7, 2}, {8, 2}}},
        Case{"ranks_differ", {{7, 2}, {7, 3}, {7, 3}}},
        Case{"one_without_pair", {{7, 2}, {7, 0}, {7, 2}}}, Case{"no_pair", {{7, 0}, {5, 0}}},
        Case{"alone", {{7, 2}}}, Case{"apart", {{7, 2}, {7, 2}, {7, 2}}, false},
        Case{"frozen_weights", {{7, 2}, {7, 2}}, true, false},
        Case{"one_unused", {{7, 2}, {7, 2}, {4, 2}}, true, false, 1},
        Case{"wide", {{40, 5}, {40, 5}, {40, 5}}, true, false, SIZE_MAX, 70},
        Case{"wider", {{33, 8}, {33, 8}}, true, true, SIZE_MAX, 130},
        Case{"dropout", {{7, 2}, {7, 2}, {4, 3}, {5, 0}}, true, true, SIZE_MAX, 6, 1.5, 0.3},
        Case{"dropout_apart", {{7, 2}, {7, 2}}, false, false, SIZE_MAX, 70, 1.5, 0.6},
        Case{"dropout_one_unused", {{7, 2}, {7, 2}, {4, 2}}, true, false, 1, 6, 0.5, 0.1}}) {
    rows.push_back(c.row());
    // Of the unused one no gradient exists for the rest, and the table asks for all.
    if (c.unused < c.members.size())
      for (size_t i = 0; i < 3; ++i)
        rows.back().inputs[1 + 3 * c.unused + i].differentiable = false;
  }
  return rows;
}

}  // namespace mullion::test
