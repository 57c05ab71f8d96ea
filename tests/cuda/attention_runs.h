// A case of attention on the device and its comparison with the oracle: arrays with gaps and skews,
// outputs that hold NaN before and marks around, every order of threads where it is asked for.
#pragma once
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tensor/kernel_args/attention.h"
#include "tests/attention_case.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/device_runs.h"

namespace mullion::test {

// B x n x heads x D on the device, with `gap` elements between tokens that hold a mark.
class AttentionRows {
 public:
  AttentionRows(DType type, int64_t B, int64_t n, int64_t heads, int64_t D, int64_t gap,
                int64_t skew, const std::vector<double>& values)
      : width_(heads * D), strides_{n * (width_ + gap), width_ + gap, D} {
    Floats all(static_cast<size_t>(B * n * strides_.token), kMark);
    for (int64_t t = 0; t < B * n; ++t)
      for (int64_t i = 0; i < width_; ++i)
        all[static_cast<size_t>(t * strides_.token + i)] =
            values.empty() ? NAN : static_cast<float>(values[static_cast<size_t>(t * width_ + i)]);
    array_ = std::make_unique<DeviceArray>(kCuda, type, all, skew);
  }
  void* data() const { return array_->data(); }
  AttentionStrides strides() const { return strides_; }
  Floats values() const {
    const Floats all = array_->values();
    Floats found;
    for (size_t i = 0; i < all.size(); ++i) {
      if (static_cast<int64_t>(i) % strides_.token < width_)
        found.push_back(all[i]);
      else
        EXPECT_EQ(all[i], kMark) << "written between rows";
    }
    return found;
  }

 private:
  static constexpr float kMark = 1536;
  int64_t width_;
  AttentionStrides strides_;
  std::unique_ptr<DeviceArray> array_;
};

struct AttentionResults {
  Floats o, lse, sums, dq, dk, dv;
  bool operator==(const AttentionResults&) const = default;
};

// Forward, and backward where d_o is not empty.
inline AttentionResults run_kernels(const AttentionCase& c, const ReferenceAttention& r, DType type,
                                    const std::vector<double>& d_o) {
  const auto rows = [&](int64_t n, int64_t heads, const std::vector<double>& values) {
    return AttentionRows(type, r.B, n, heads, r.D, c.gap, c.skew, values);
  };
  const AttentionRows q = rows(r.T, r.H, r.q), k = rows(r.S, r.Hkv, r.k), v = rows(r.S, r.Hkv, r.v);
  const AttentionRows o = rows(r.T, r.H, {});
  const DeviceArray lse(kCuda, DType::f32, Floats(static_cast<size_t>(r.B * r.H * r.T), NAN), 0);
  const KernelTable& table = kernels(kCuda);
  AttentionForwardArgs args{};
  args.size = {r.B, r.T, r.S, r.H, r.Hkv, r.D, r.scale, r.query_offset, type, &r.pattern};
  args.q = q.data(), args.k = k.data(), args.v = v.data(), args.o = o.data();
  args.lse = lse.data();
  const bool with_sums = r.pattern.kind == PatternKind::full && r.pattern.documents.empty();
  const DeviceArray sums(kCuda, DType::f32, Floats(static_cast<size_t>(r.B * r.H * r.S), NAN), 0);
  if (with_sums) args.column_sums = sums.data(), args.sums_from = r.sums_from;
  args.q_stride = q.strides(), args.k_stride = k.strides(), args.v_stride = v.strides();
  args.o_stride = o.strides();
  const auto floats = [](size_t bytes) { return Floats((bytes + 3) / 4, NAN); };
  const DeviceArray parts(kCuda, DType::f32, floats(table.attention_forward_scratch(args.size)), 0);
  args.scratch = parts.data();
  table.attention_forward(args);
  parts.values();
  const Floats sums_found = with_sums ? sums.values() : Floats{};
  if (d_o.empty()) return {o.values(), lse.values(), sums_found, {}, {}, {}};

  const AttentionRows gradient = rows(r.T, r.H, d_o), dq = rows(r.T, r.H, {}),
                      dk = rows(r.S, r.Hkv, {}), dv = rows(r.S, r.Hkv, {});
  AttentionBackwardArgs back{};
  back.size = args.size;
  back.q = q.data(), back.k = k.data(), back.v = v.data(), back.o = o.data();
  back.lse = lse.data(), back.d_o = gradient.data();
  back.dq = dq.data(), back.dk = dk.data(), back.dv = dv.data();
  back.q_stride = q.strides(), back.k_stride = k.strides(), back.v_stride = v.strides();
  back.o_stride = o.strides(), back.d_o_stride = gradient.strides();
  back.dq_stride = dq.strides(), back.dk_stride = dk.strides(), back.dv_stride = dv.strides();
  const DeviceArray scratch(kCuda, DType::f32, floats(table.attention_backward_scratch(back.size)),
                            0);
  back.scratch = scratch.data();
  table.attention_backward(back);
  scratch.values();
  return {o.values(), lse.values(), sums_found, dq.values(), dk.values(), dv.values()};
}

// f32 sums in another order than the oracle; bf16 rounds results and probabilities to 8 bits.
inline double bound_of(DType type) { return type == DType::bf16 ? 1e-2 : 1e-5; }

inline void check_results(const AttentionResults& got, const ReferenceAttention& r, DType type,
                          bool backward) {
  const double bound = bound_of(type);
  EXPECT_LE(difference(got.o, r.o), bound);
  EXPECT_LE(difference(got.lse, r.lse), 1e-5);
  if (!got.sums.empty()) {
    EXPECT_LE(difference(got.sums, r.sums), 1e-5);
  }
  if (!backward) return;
  if (r.S > 1) {  // else they are nothing but rounding
    EXPECT_LE(difference(got.dq, r.dq), bound);
    EXPECT_LE(difference(got.dk, r.dk), bound);
  }
  EXPECT_LE(difference(got.dv, r.dv), bound);
}

inline void check(const AttentionCase& c, DType type, ReferenceAttention r) {
  SCOPED_TRACE(name_of(c, type));
  r.forward();
  std::vector<double> d_o;
  if (c.offset == 0) {
    d_o = random_values(r.B * r.T * r.H * r.D, 4, type);
    r.backward(d_o);
  }
  const AttentionResults first = run_kernels(c, r, type, d_o);
  check_results(first, r, type, !d_o.empty());
  if (!c.every_order) return;
  in_every_order(
      [&](const std::string& order) { EXPECT_EQ(first, run_kernels(c, r, type, d_o)) << order; });
}
inline void check(const AttentionCase& c, DType type) { check(c, type, reference_of(c, type)); }

}  // namespace mullion::test
