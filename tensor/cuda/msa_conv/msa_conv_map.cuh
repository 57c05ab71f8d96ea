// The geometry of MSA-Conv as its CUDA kernels see it: sizes as int, rolls brought into the map,
// the scale in units of log 2 so that the exponential is 2^x. A "rolled" key map is the one the
// window slides over: channel c of its pixel r is the key map's at r - u, u the roll of c's
// direction.
#pragma once
#include <cmath>

#include "tensor/cuda/runtime/launch.h"
#include "tensor/kernel_args/msa_conv.h"
#include "tensor/random.h"

namespace mullion::cuda {

constexpr float kLog2e = 1.4426950408889634f, kLn2 = 0.6931471805599453f;
constexpr float kBelowAllLogits = -1e30f;  // finite, so that a query that sees no key gives no NaN

struct MsaMap {
  int64_t batch;
  int height, width, key_height, key_width;
  int heads, head_dim, kernel_h, kernel_w, dilation, pool;
  int reach_y, reach_x;  // from the window's middle to its first tap
  bool masked;           // outside keys are not seen
  // Channels are rolled by head or by their number among all, in quarters, or all in `direction`.
  bool by_head, by_channel;
  int direction;
  int roll_down, roll_up, roll_right, roll_left;  // +s, -s along y, +s, -s along x, in [0, size)
  float scale, scale_log2;
  // Dropout: a tap falls where the upper 24 bits of its word are below `drop_below`.
  uint32_t drop_below;
  float kept;
  uint64_t seed, stream;
};

inline int wrapped(int64_t shift, int64_t size) {
  return static_cast<int>(((shift % size) + size) % size);
}

inline MsaMap make_msa_map(const MsaConvGeometry& g) {
  const auto size = [](int64_t n) { return static_cast<int>(n); };
  for (const int64_t extent :
       {g.width * g.heads, g.height + g.dilation * g.kernel_h, g.width + g.dilation * g.kernel_w})
    CHECK_AS(Fault::usage, extent < int64_t{1} << 31, "msa_conv: a map of ", g.height, " x ",
             g.width, " pixels of ", g.heads, " heads under a kernel of ", g.kernel_h, " x ",
             g.kernel_w, " with dilation ", g.dilation, " is too large for cuda (", extent, ")");
  const int64_t s = g.shift == MsaShift::none ? 0 : g.shift_size;
  const bool directions = s != 0 && g.shift == MsaShift::directions;
  MsaMap m{};
  m.batch = g.batch;
  m.height = size(g.height), m.width = size(g.width);
  m.key_height = size(g.key_height()), m.key_width = size(g.key_width());
  m.heads = size(g.heads), m.head_dim = size(g.head_dim);
  m.kernel_h = size(g.kernel_h), m.kernel_w = size(g.kernel_w);
  m.dilation = size(g.dilation), m.pool = size(g.pool);
  m.reach_y = size(g.dilation * (g.kernel_h - 1) / 2);
  m.reach_x = size(g.dilation * (g.kernel_w - 1) / 2);
  m.masked = g.border == MsaBorder::masked;
  m.by_head = directions && g.heads >= 4, m.by_channel = directions && g.heads < 4;
  m.direction = g.direction;
  m.roll_down = wrapped(s, g.key_height()), m.roll_up = wrapped(-s, g.key_height());
  m.roll_right = wrapped(s, g.key_width()), m.roll_left = wrapped(-s, g.key_width());
  m.scale = static_cast<float>(g.scale);
  m.scale_log2 = static_cast<float>(g.scale * 1.4426950408889634);
  m.drop_below = static_cast<uint32_t>(std::ceil(g.dropout * 0x1p24));
  m.kept = static_cast<float>(1.0 / (1.0 - g.dropout));
  m.seed = g.seed, m.stream = g.stream;
  return m;
}

// The roll of channel c of a head.
struct Roll {
  int y, x;
};
__device__ inline Roll roll_of(const MsaMap& m, int head, int c) {
  int direction = m.direction;
  if (m.by_head) direction = 4 * head / m.heads;
  if (m.by_channel) direction = 4 * (head * m.head_dim + c) / (m.heads * m.head_dim);
  return {direction == 0   ? m.roll_down
          : direction == 1 ? m.roll_up
                           : 0,
          direction == 2   ? m.roll_right
          : direction == 3 ? m.roll_left
                           : 0};
}

// A coordinate of the rolled map in the map itself.
__device__ inline int unrolled(int at, int roll, int size) {
  return at < roll ? at - roll + size : at - roll;
}

// The factor of tap t's probability at query number `query` of all (B, heads, H, W).
__device__ inline float dropout_factor(const MsaMap& m, int64_t query, int64_t t) {
  if (m.drop_below == 0) return 1.0f;
  const int64_t blocks = (static_cast<int64_t>(m.kernel_h) * m.kernel_w + 3) / 4;
  const PhiloxBlock words = philox(m.seed, m.stream, static_cast<uint64_t>(query * blocks + t / 4));
  const uint32_t low = t % 2 == 0 ? words.v[0] : words.v[1];
  const uint32_t high = t % 2 == 0 ? words.v[2] : words.v[3];
  return ((t % 4 < 2 ? low : high) >> 8) >= m.drop_below ? m.kept : 0.0f;
}

}  // namespace mullion::cuda
