// A case of the tests of attention, on the CPU and on devices: its pattern, and its inputs in the
// oracle.
#pragma once
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "tensor/attention_pattern.h"
#include "tensor/check.h"
#include "tensor/dtype.h"
#include "tests/reference_attention.h"

namespace mullion::test {

struct AttentionCase {
  std::string pattern = "full";
  int64_t B = 1, T = 1, H = 1, Hkv = 1, D = 8;
  int64_t group = 8, sinks = -1;
  int64_t more_sinks = 0;     // than make_pattern() gives
  int64_t offset = 0, S = 0;  // S: T + offset unless given
  int64_t gap = 0;            // on a device: elements between the tokens of every array
  int64_t skew = 0;           // on a device: elements by which every array misses alignment
  bool packed = false;        // gaps between tokens as in one array of q, k and v
  bool causal = true, open_sinks = false, every_order = false;
  int64_t sums_from = 0;

  AttentionCase with_group(int64_t tokens, int64_t first = -1) const {
    AttentionCase c = *this;
    c.group = tokens, c.sinks = first;
    return c;
  }
};

inline std::string name_of(const AttentionCase& c, DType type = DType::f32) {
  return concat(c.pattern, " ", name_of(type), " B", c.B, " T", c.T, " S", c.S, " H", c.H, "/",
                c.Hkv, " D", c.D, " G", c.group, " sinks ", c.sinks + c.more_sinks, " offset ",
                c.offset, " gap ", c.gap, " skew ", c.skew, c.packed ? " packed" : "",
                c.causal ? "" : " not causal", c.open_sinks ? " open sinks" : "");
}

inline AttentionPattern pattern_of(const AttentionCase& c) {
  PatternOptions options;
  options.n_heads = c.H;
  options.context = c.T + c.offset;
  options.group_size = c.group;
  options.sinks = c.sinks;
  AttentionPattern p = make_pattern(c.pattern, options);
  p.causal = c.causal;
  p.sink_query_noncausal = c.open_sinks;
  p.sinks += c.more_sinks;
  return p;
}

// Numbers that `type` holds exactly, so that every precision starts from the same.
inline std::vector<double> random_values(int64_t n, unsigned seed, DType type = DType::f32) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<double> values(static_cast<size_t>(n));
  for (double& x : values) {
    const float value = normal(engine);
    x = static_cast<double>(type == DType::bf16 ? static_cast<float>(bf16(value)) : value);
  }
  return values;
}

inline ReferenceAttention reference_of(const AttentionCase& c, DType type = DType::f32) {
  ReferenceAttention r{};
  r.B = c.B, r.T = c.T, r.S = c.S > 0 ? c.S : c.T + c.offset, r.H = c.H, r.Hkv = c.Hkv, r.D = c.D;
  r.query_offset = c.offset;
  r.sums_from = c.sums_from;
  r.scale = 1.3 / std::sqrt(static_cast<double>(c.D));
  r.pattern = pattern_of(c);
  r.q = random_values(r.B * r.T * r.H * r.D, 1, type);
  r.k = random_values(r.B * r.S * r.Hkv * r.D, 2, type);
  r.v = random_values(r.B * r.S * r.Hkv * r.D, 3, type);
  return r;
}

}  // namespace mullion::test
