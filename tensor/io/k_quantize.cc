// Writing blocks of 256. The searches are those of ggml's reference: a few dozen candidates for a
// scale around the one that the extreme values give, each judged after the least-squares fit to the
// integers it leads to. Compiled without fused multiply-adds (CMakeLists.txt).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "tensor/check.h"
#include "tensor/io/block_bytes.h"
#include "tensor/io/k_blocks.h"

namespace mullion {
namespace {

constexpr int kBlock = 256, kGroup = 32, kSmallGroup = 16;
constexpr float kNothing = 1e-15f;  // below it a group is all zeros

int nearest(float x) { return static_cast<int>(std::nearbyint(x)); }  // halves to even
int clamped(float x, int low, int high) { return std::clamp(nearest(x), low, high); }

struct Affine {
  float scale = 0, minimum = 0;  // x = scale q - minimum, both at least 0
};

struct Candidates {
  float first, step;  // added to the largest q
  int count;
};

// The weighted least-squares fit of scale and minimum to x with q of 0 to `last`, over the
// candidates (last + first + step k) / range for 1 / scale.
class AffineFit {
 public:
  AffineFit(const float* x, int last) : x_(x), last_(last) {
    float squares = 0;
    for (int i = 0; i < kGroup; ++i) squares += x[i] * x[i];
    const float middle = std::sqrt(squares / kGroup);
    for (int i = 0; i < kGroup; ++i) {  // large values count more
      weight_[i] = middle + std::abs(x[i]);
      sum_w_ += weight_[i];
      sum_wx_ += weight_[i] * x[i];
    }
  }

  // `q` gets the integers of the fit.
  Affine best(const Candidates& candidates, int* q) {
    std::fill_n(q, kGroup, 0);
    const float high = *std::max_element(x_, x_ + kGroup);
    Fit found;
    found.offset = std::min(*std::min_element(x_, x_ + kGroup), 0.0f);
    if (high == found.offset) return {0, -found.offset};
    const auto count = static_cast<float>(last_);
    const auto round_at = [&](float steps) {  // from the offset of the best fit so far
      const float inverse = steps / (high - found.offset);
      round_by(inverse, found.offset);
      return inverse;
    };
    found.scale = 1 / round_at(count);
    float error = error_of(found);
    std::copy_n(q_, kGroup, q);
    for (int k = 0; k <= candidates.count; ++k) {
      round_at(candidates.first + candidates.step * static_cast<float>(k) + count);
      Fit fit;
      if (!solve(fit)) continue;
      const float e = error_of(fit);
      if (e < error) {
        error = e;
        found = fit;
        std::copy_n(q_, kGroup, q);
      }
    }
    return {found.scale, -found.offset};
  }

 private:
  struct Fit {
    float scale = 0, offset = 0;  // x = scale q + offset, offset at most 0
  };

  void round_by(float inverse, float low) {
    for (int i = 0; i < kGroup; ++i)
      q_[i] = static_cast<float>(clamped(inverse * (x_[i] - low), 0, last_));
  }

  // The scale and offset of least weighted squares for the q at hand; false where they are all the
  // same.
  bool solve(Fit& fit) const {
    float l = 0, ll = 0, xl = 0;
    for (int i = 0; i < kGroup; ++i) {
      l += weight_[i] * q_[i];
      ll += weight_[i] * q_[i] * q_[i];
      xl += weight_[i] * q_[i] * x_[i];
    }
    const float determinant = sum_w_ * ll - l * l;
    if (!(determinant > 0)) return false;
    fit = {(sum_w_ * xl - sum_wx_ * l) / determinant, (ll * sum_wx_ - l * xl) / determinant};
    if (fit.offset > 0) fit = {xl / ll, 0};
    return true;
  }

  float error_of(const Fit& fit) const {
    float error = 0;
    for (int i = 0; i < kGroup; ++i) {
      const float d = fit.scale * q_[i] + fit.offset - x_[i];
      error += weight_[i] * (d * d);
    }
    return error;
  }

  const float* x_;
  int last_;
  float weight_[kGroup], q_[kGroup];  // q: whole numbers
  float sum_w_ = 0, sum_wx_ = 0;
};

// q4_K and q5_K: each group's scale and minimum in 6 bits of the largest of the block. Then every q
// is the nearest to what these give; a group whose scale became 0 keeps the q of its fit.
void affine_block(const float* x, int bits, const Candidates& candidates, std::byte* dst) {
  const int last = (1 << bits) - 1;
  Affine groups[kBlock / kGroup];
  int fitted[kBlock];
  float scale = 0, minimum = 0;
  for (int c = 0; c < kBlock / kGroup; ++c) {
    groups[c] = AffineFit(x + kGroup * c, last).best(candidates, fitted + kGroup * c);
    scale = std::max(scale, groups[c].scale);
    minimum = std::max(minimum, groups[c].minimum);
  }
  const float per_scale = scale > 0 ? 63 / scale : 0, per_minimum = minimum > 0 ? 63 / minimum : 0;
  std::memset(dst, 0, bits == 4 ? 144 : 176);
  put(put(dst, f16(scale / 63)), f16(minimum / 63));
  const float d = load_f16(dst), m = load_f16(dst + 2);
  std::byte* high = dst + 16;
  std::byte* low = bits == 4 ? dst + 16 : dst + 48;
  for (int c = 0; c < kBlock / kGroup; ++c) {
    const ScaleAndMinimum packed = {std::min(nearest(per_scale * groups[c].scale), 63),
                                    std::min(nearest(per_minimum * groups[c].minimum), 63)};
    pack_scale_and_minimum(dst + 4, c, packed);
    const float s = d * static_cast<float>(packed.scale);
    const float offset = m * static_cast<float>(packed.minimum);
    for (int i = 0; i < kGroup; ++i) {
      const int at = kGroup * c + i;
      const int q = s == 0 ? fitted[at] : clamped((x[at] + offset) / s, 0, last);
      low[32 * (c / 2) + i] |= static_cast<std::byte>((q & 15) << (4 * (c % 2)));
      if (bits == 5) high[i] |= static_cast<std::byte>((q >> 4) << c);
    }
  }
}

// x = scale q with q of -32 to 31: squares weighted by x^2, over scales around the one that gives
// the value of largest magnitude -32. `biased` gets q + 32, or zeros where there is nothing.
float centred_scale(const float* x, int* biased) {
  std::fill_n(biased, kSmallGroup, 0);
  const float extreme = *std::max_element(
      x, x + kSmallGroup, [](float a, float b) { return std::abs(a) < std::abs(b); });
  if (std::abs(extreme) < kNothing) return 0;
  float scale = 0, best = 0;
  const auto try_at = [&](float inverse, bool first) {
    float xl = 0, ll = 0;
    for (int i = 0; i < kSmallGroup; ++i) {
      const auto q = static_cast<float>(clamped(inverse * x[i], -32, 31));
      const float w = x[i] * x[i];
      xl += w * x[i] * q;
      ll += w * q * q;
    }
    const bool better = first ? ll != 0 : ll > 0 && xl * xl > best * ll;
    if (first || better)
      for (int i = 0; i < kSmallGroup; ++i) biased[i] = clamped(inverse * x[i], -32, 31) + 32;
    if (!better) return;
    scale = xl / ll;
    best = scale * xl;
  };
  try_at(-32 / extreme, true);
  for (int k = -9; k <= 9; ++k)
    if (k != 0) try_at(-(32 + 0.1f * static_cast<float>(k)) / extreme, false);
  return scale;
}

void q6_block(const float* x, std::byte* dst) {
  std::memset(dst, 0, 210);
  float scales[kBlock / kSmallGroup];
  int fitted[kBlock];
  for (int c = 0; c < kBlock / kSmallGroup; ++c)
    scales[c] = centred_scale(x + kSmallGroup * c, fitted + kSmallGroup * c);
  const float extreme =
      *std::max_element(scales, scales + kBlock / kSmallGroup,
                        [](float a, float b) { return std::abs(a) < std::abs(b); });
  if (std::abs(extreme) < kNothing) return;
  const float inverse = -128 / extreme;
  put(dst + 208, f16(1 / inverse));
  const float d = load_f16(dst + 208);
  for (int c = 0; c < kBlock / kSmallGroup; ++c) {
    const int step = std::min(127, nearest(inverse * scales[c]));
    put(dst + 192 + c, static_cast<int8_t>(step));
    const float s = d * static_cast<float>(step);
    for (int i = kSmallGroup * c; i < kSmallGroup * (c + 1); ++i) {
      const int q = s == 0 ? fitted[i] : clamped(x[i] / s, -32, 31) + 32;
      const int half = i / 128, g = i % 128 / 32, at = i % 32;
      dst[64 * half + 32 * (g % 2) + at] |= static_cast<std::byte>((q & 15) << (4 * (g / 2)));
      dst[128 + 32 * half + at] |= static_cast<std::byte>((q >> 4) << (2 * g));
    }
  }
}

}  // namespace

void k_block_from_f32(StoredType type, const float* src, std::byte* dst) {
  switch (type) {
    case StoredType::q4_k:
      return affine_block(src, 4, {-1, 0.1f, 20}, dst);
    case StoredType::q5_k:
      return affine_block(src, 5, {-0.5f, 0.1f, 15}, dst);
    case StoredType::q6_k:
      return q6_block(src, dst);
    default:
      fail(Fault::other, "no conversion of F32 to ", name_of(type));
  }
}

}  // namespace mullion
