// Both passes are written with GCC's vector extension. Horizontally the lanes are kGroup rows of
// one source column, 4 bytes a pixel, so that a tap is one load, one widening and one multiply-add
// without any shuffle; vertically they are neighbouring bytes of a row.
#include "data/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "tensor/check.h"

namespace mullion {
namespace {

#ifdef __AVX512F__
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif
constexpr int kGroup = kLanes / 4;  // rows that the horizontal pass takes at once

typedef uint8_t ByteLanes __attribute__((vector_size(kLanes)));
typedef int32_t IntLanes __attribute__((vector_size(kLanes * 4)));
typedef float FloatLanes __attribute__((vector_size(kLanes * 4)));

// GCC 12 takes the widening of bytes apart lane by lane, hence the intrinsics where they exist.
inline FloatLanes load_levels(const uint8_t* from) {
#if defined(__AVX512F__)
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  // The masked form: the plain one sets off a false warning in GCC 12.
  const IntLanes wide = (IntLanes)_mm512_maskz_cvtepu8_epi32(0xFFFF, bytes);
  return __builtin_convertvector(wide, FloatLanes);
#elif defined(__AVX2__)
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return __builtin_convertvector((IntLanes)_mm256_cvtepu8_epi32(bytes), FloatLanes);
#else
  ByteLanes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return __builtin_convertvector(__builtin_convertvector(bytes, IntLanes), FloatLanes);
#endif
}

inline FloatLanes clamp_levels(FloatLanes v) {
  const FloatLanes zero = {}, top = zero + 255.0f;
  v = v > zero ? v : zero;
  return v < top ? v : top;
}

// Rounds half up and stores kLanes bytes.
inline void store_levels(FloatLanes v, uint8_t* to) {
  const ByteLanes bytes =
      __builtin_convertvector(__builtin_convertvector(clamp_levels(v) + 0.5f, IntLanes), ByteLanes);
  std::memcpy(to, &bytes, sizeof bytes);
}

double triangle(double x) { return std::max(0.0, 1 - std::abs(x)); }

double keys_cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

}  // namespace

void Resizer::Taps::compute(int size, double low, double high, int out_size, int from, int n,
                            Interpolation interpolation) {
  const bool cubic = interpolation == Interpolation::bicubic;
  const double scale = (high - low) / out_size, stretch = std::max(scale, 1.0);
  const double support = (cubic ? 2.0 : 1.0) * stretch;
  stride = static_cast<int>(std::ceil(support)) * 2 + 1;
  first.resize(n);
  count.resize(n);
  weight.assign(static_cast<size_t>(n) * stride, 0.0f);
  std::vector<double> exact(stride);
  for (int i = 0; i < n; ++i) {
    const double centre = low + (from + i + 0.5) * scale;
    const int begin = std::clamp(static_cast<int>(centre - support + 0.5), 0, size - 1);
    const int end = std::clamp(static_cast<int>(centre + support + 0.5), begin + 1, size);
    double sum = 0;
    for (int k = 0; k < end - begin; ++k) {
      const double at = (begin + k - centre + 0.5) / stretch;
      exact[k] = cubic ? keys_cubic(at) : triangle(at);
      sum += exact[k];
    }
    first[i] = begin;
    count[i] = end - begin;
    for (int k = 0; k < count[i]; ++k) {
      weight[static_cast<size_t>(i) * stride + k] =
          static_cast<float>(sum != 0 ? exact[k] / sum : 1.0 / count[i]);
    }
  }
}

void Resizer::Taps::reverse() {
  std::reverse(first.begin(), first.end());
  std::reverse(count.begin(), count.end());
  const std::vector<float> old = weight;
  const size_t n = first.size();
  for (size_t i = 0; i < n; ++i) {
    std::copy_n(old.begin() + static_cast<ptrdiff_t>((n - 1 - i) * stride), stride,
                weight.begin() + static_cast<ptrdiff_t>(i * stride));
  }
}

void Resizer::prepare(const Image& in, const ResizePlan& plan) {
  const Box& box = plan.box;
  CHECK(in.channels == 3 && in.width > 0 && in.height > 0, "resize: empty picture");
  CHECK(box.x0 >= 0 && box.y0 >= 0 && box.x1 <= in.width && box.y1 <= in.height &&
            box.x0 < box.x1 && box.y0 < box.y1,
        "resize: box (", box.x0, ", ", box.y0, ", ", box.x1, ", ", box.y1, ") of a picture of ",
        in.width, "x", in.height);
  CHECK(plan.window_width > 0 && plan.window_height > 0 && plan.x >= 0 && plan.y >= 0 &&
            plan.window_width <= plan.width - plan.x && plan.window_height <= plan.height - plan.y,
        "resize: window ", plan.window_width, "x", plan.window_height, " at ", plan.x, ", ", plan.y,
        " of ", plan.width, "x", plan.height);
  across_.compute(in.width, box.x0, box.x1, plan.width, plan.x, plan.window_width,
                  plan.interpolation);
  down_.compute(in.height, box.y0, box.y1, plan.height, plan.y, plan.window_height,
                plan.interpolation);
  if (plan.flip) across_.reverse();
  first_row_ = down_.first.front();
  rows_ = down_.first.back() + down_.count.back() - first_row_;
  const int used = plan.window_width * 3 + 1;  // the last pixel is stored as 4 bytes
  row_bytes_ = (used + kLanes - 1) / kLanes * kLanes;
  const size_t groups = static_cast<size_t>((rows_ + kGroup - 1) / kGroup);
  middle_.resize(groups * kGroup * row_bytes_);
  interleaved_.resize(static_cast<size_t>(in.width) * kGroup);
}

void Resizer::horizontal(const Image& in) {
  const int begin = std::min(across_.first.front(), across_.first.back());
  const int end = std::max(across_.first.front() + across_.count.front(),
                           across_.first.back() + across_.count.back());
  const int outputs = static_cast<int>(across_.first.size());
  for (int y = 0; y < rows_; y += kGroup) {
    for (int r = 0; r < kGroup; ++r) {
      const uint8_t* row = in.row(first_row_ + std::min(y + r, rows_ - 1));
      uint32_t* to = interleaved_.data() + r;
      for (int x = begin; x < end - 1; ++x) std::memcpy(to + x * kGroup, row + 3 * x, 4);
      std::memcpy(to + (end - 1) * kGroup, row + 3 * (end - 1), 3);  // no byte beyond the picture
    }
    const uint8_t* levels = reinterpret_cast<const uint8_t*>(interleaved_.data());
    uint8_t* to = middle_.data() + static_cast<size_t>(y) * row_bytes_;
    for (int i = 0; i < outputs; ++i) {
      const float* weight = across_.weight.data() + static_cast<size_t>(i) * across_.stride;
      const uint8_t* from = levels + static_cast<size_t>(across_.first[i]) * kLanes;
      FloatLanes sum = {};
      for (int k = 0; k < across_.count[i]; ++k) {
        sum += load_levels(from + static_cast<size_t>(k) * kLanes) * weight[k];
      }
      uint8_t pixels[kLanes];
      store_levels(sum, pixels);
      // Four bytes a pixel: the fourth is overwritten by the next one.
      for (int r = 0; r < kGroup; ++r) std::memcpy(to + r * row_bytes_ + 3 * i, pixels + 4 * r, 4);
    }
  }
}

// store(row, first byte, levels) for each output row and each run of kLanes of its bytes.
template <typename Store>
void Resizer::vertical(Store store) const {
  const int outputs = static_cast<int>(down_.first.size());
  const int bytes = static_cast<int>(across_.first.size()) * 3;
  for (int y = 0; y < outputs; ++y) {
    const float* weight = down_.weight.data() + static_cast<size_t>(y) * down_.stride;
    const uint8_t* rows =
        middle_.data() + static_cast<size_t>(down_.first[y] - first_row_) * row_bytes_;
    for (int x = 0; x < bytes; x += kLanes) {
      FloatLanes sum = {};
      for (int k = 0; k < down_.count[y]; ++k) {
        sum += load_levels(rows + static_cast<size_t>(k) * row_bytes_ + x) * weight[k];
      }
      store(y, x, sum);
    }
  }
}

void Resizer::run(const Image& in, const ResizePlan& plan, const PixelMap& map, float* out) {
  prepare(in, plan);
  horizontal(in);
  FloatLanes scale[3], bias[3];  // the channel of lane i of the run at byte x is (x + i) mod 3
  for (int phase = 0; phase < 3; ++phase) {
    for (int i = 0; i < kLanes; ++i) {
      scale[phase][i] = map.scale[(phase + i) % 3];
      bias[phase][i] = map.bias[(phase + i) % 3];
    }
  }
  const int bytes = plan.window_width * 3;
  vertical([&](int y, int x, FloatLanes sum) {
    const FloatLanes value = clamp_levels(sum) * scale[x % 3] + bias[x % 3];
    const size_t n = static_cast<size_t>(std::min(kLanes, bytes - x));
    std::memcpy(out + static_cast<size_t>(y) * bytes + x, &value, n * sizeof(float));
  });
}

void Resizer::run(const Image& in, const ResizePlan& plan, Image& out) {
  prepare(in, plan);
  horizontal(in);
  out.resize(plan.window_width, plan.window_height);
  const int bytes = plan.window_width * 3;
  vertical([&](int y, int x, FloatLanes sum) {
    uint8_t levels[kLanes];
    store_levels(sum, levels);
    std::memcpy(out.row(y) + x, levels, static_cast<size_t>(std::min(kLanes, bytes - x)));
  });
}

}  // namespace mullion
