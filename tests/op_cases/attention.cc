// Rows of autograd/ops/attention.cc: every preset, on both sides of each choice of a kernel (one
// query, head widths of 4, 64 and 128, tokens above and below a tile).
#include "tests/autograd/op_table.h"
#include "tests/reference_attention.h"

namespace mullion::test {
namespace {

struct Case {
  const char* preset;
  int64_t B, T, H, Hkv, D, group, sinks;
};

OpRow row_of(const Case& c) {
  PatternOptions options;
  options.n_heads = c.H;
  options.context = c.T;
  options.group_size = c.group;
  options.sinks = c.sinks;
  const AttentionPattern pattern = make_pattern(c.preset, options);
  const double scale = 1 / std::sqrt(static_cast<double>(c.D));
  const std::string variant = std::string(c.preset) + "_T" + std::to_string(c.T) + "_H" +
                              std::to_string(c.H) + "_" + std::to_string(c.Hkv) + "_D" +
                              std::to_string(c.D);
  // With one key the gradients of q and k are what is left of two equal terms, of which f32 keeps
  // 1e-7 each.
  const double tolerance = c.T == 1 ? 1e-4 : 1e-5;
  return {"attention",
          variant,
          {{{c.B, c.T, c.H, c.D}}, {{c.B, c.T, c.Hkv, c.D}}, {{c.B, c.T, c.Hkv, c.D}}},
          [pattern, scale](const std::vector<Tensor>& in) {
            return attention(in[0], in[1], in[2], pattern, scale);
          },
          [pattern, scale, c](const std::vector<Values>& in) {
            ReferenceAttention r{c.B, c.T, c.T, c.H, c.Hkv, c.D, 0,  scale, pattern,
                                 {},  {},  {},  {},  {},    {},  {}, {}};
            r.q = in[0];
            r.k = in[1];
            r.v = in[2];
            r.forward();
            return r.o;
          },
          tolerance};
}

}  // namespace

std::vector<OpRow> attention_rows() {
  std::vector<OpRow> rows;
  for (const Case& c :
       {Case{"full", 2, 9, 4, 2, 4, 0, 0}, Case{"full", 1, 1, 2, 1, 8, 0, 0},
        Case{"full", 1, 70, 2, 2, 64, 0, 0}, Case{"full", 1, 20, 2, 1, 128, 0, 0},
        Case{"s2", 1, 16, 4, 2, 4, 4, 0}, Case{"s2-global", 1, 16, 4, 4, 4, 4, 2},
        Case{"s2-sr", 1, 16, 4, 1, 4, 4, 0}, Case{"sf", 2, 16, 4, 4, 4, 4, 2},
        Case{"sf", 1, 37, 9, 3, 8, 8, 4}, Case{"sf", 1, 12, 4, 4, 4, 16, 4},
        Case{"s2-leaky", 1, 16, 4, 4, 4, 4, 0}, Case{"sf-leaky", 1, 16, 4, 4, 4, 4, 2},
        Case{"shift-up-only", 1, 16, 4, 4, 4, 4, 0}, Case{"shift-back-only", 1, 16, 4, 4, 4, 4, 0},
        Case{"fixed", 1, 16, 4, 2, 4, 4, 0}, Case{"strided", 1, 17, 4, 2, 4, 4, 0},
        Case{"random", 1, 16, 4, 2, 4, 4, 0}})
    rows.push_back(row_of(c));
  return rows;
}

}  // namespace mullion::test
