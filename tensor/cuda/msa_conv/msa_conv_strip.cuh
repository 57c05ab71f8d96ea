// The register-blocked products of the tiled f32 kernels of MSA-Conv. D / 8 lanes share the
// channels of a strip of four neighbouring pixels; a row of the window over the strip is K + 3
// pixels of the tile, each read once from shared memory for up to four of the strip's pixels: 28
// reads of a pixel (K = 7) become 10.
//
// A lane has two pieces of 4 channels, one in each half of the head. Odd groups of lanes read the
// upper half first, so that the 8 lanes that one access serves hit 32 different banks although
// pixels lie a multiple of 32 banks apart.
#pragma once
#include "tensor/cuda/msa_conv/msa_conv_tile.cuh"

namespace mullion::cuda {

constexpr int kStrip = 4;
constexpr int kLaneChannels = 8;
using StripChannels = float[kStrip][kLaneChannels];

template <int D>
struct StripLanes {
  static constexpr int kLanes = D / kLaneChannels;
  static constexpr int kGroups = kTileThreads / kLanes;
  using Pieces = PixelPieces<D / 4, false>;
  int group, lane;
  unsigned mask;
  int piece[2];

  __device__ StripLanes()
      : group(static_cast<int>(threadIdx.x) / kLanes),
        lane(static_cast<int>(threadIdx.x) % kLanes) {
    const int first = static_cast<int>(threadIdx.x) % 32 / kLanes * kLanes;
    mask = ((1u << kLanes) - 1) << first;
    const int turned = kLanes < 8 ? group % 2 : 0;
    piece[0] = kLanes * turned + lane;
    piece[1] = kLanes * (1 - turned) + lane;
  }
  __device__ float sum(float x) const {
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(mask, x, offset);
    return x;
  }
};

// Four neighbouring pixels of a tile's row: (row, column) in the tile, (y, x) in the map.
struct Strip {
  int row, column, y, x, d;

  __device__ Strip(const MsaMap& m, const MsaTiles& t, const TilePlace& p, int index)
      : row(index >> log2_strips(t)),
        column((index & ((1 << log2_strips(t)) - 1)) * kStrip),
        y(p.y0 + m.dilation * row),
        x(p.x0 + m.dilation * column),
        d(m.dilation) {}
  __device__ bool in_map(const MsaMap& m) const { return y < m.height && x < m.width; }
  __device__ bool in_map(const MsaMap& m, int r) const { return x + d * r < m.width; }
  __device__ static int count(const MsaTiles& t) { return t.tile_h << log2_strips(t); }
  __device__ static int log2_strips(const MsaTiles& t) {  // tiles are 8 or 16 pixels wide
    return t.tile_w == 8 ? 1 : 2;
  }
};

// The rolls of a lane's pieces; none: the map is not a key map.
struct StripRolls {
  Roll r[2];

  __device__ static StripRolls none() { return {}; }
  template <int D>
  __device__ static StripRolls of_keys(const MsaMap& m, const TilePlace& p,
                                       const StripLanes<D>& lanes) {
    return {{roll_of(m, p.head, 4 * lanes.piece[0]), roll_of(m, p.head, 4 * lanes.piece[1])}};
  }
};

// Where a piece of the strip's pixel r lies in a map.
template <typename T>
__device__ T* strip_piece(const MsaMap& m, const Strip& s, const ImageHead<T>& map,
                          const Roll& roll, int r, int piece) {
  const int y = unrolled(s.y, roll.y, m.height), x = unrolled(s.x + s.d * r, roll.x, m.width);
  return map.first + (y * m.width + x) * map.stride + 4 * piece;
}

// Pixels beyond the edge of the map are zero.
template <int D>
__device__ void load_strip(const MsaMap& m, const Strip& s, const StripLanes<D>& lanes,
                           const ImageHead<const float>& map, const StripRolls& rolls,
                           StripChannels& out) {
#pragma unroll
  for (int r = 0; r < kStrip; ++r)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float4 v{0, 0, 0, 0};
      if (s.in_map(m, r))
        v = load_vector<float4>(strip_piece(m, s, map, rolls.r[half], r, lanes.piece[half]));
      out[r][4 * half] = v.x, out[r][4 * half + 1] = v.y;
      out[r][4 * half + 2] = v.z, out[r][4 * half + 3] = v.w;
    }
}

template <int D>
__device__ void store_strip(const MsaMap& m, const Strip& s, const StripLanes<D>& lanes,
                            const StripChannels& in, const StripRolls& rolls,
                            const ImageHead<float>& map) {
#pragma unroll
  for (int r = 0; r < kStrip; ++r)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      if (s.in_map(m, r))
        store_global(
            strip_piece(m, s, map, rolls.r[half], r, lanes.piece[half]),
            float4{in[r][4 * half], in[r][4 * half + 1], in[r][4 * half + 2], in[r][4 * half + 3]});
}

// Row i of the window over the strip, in a tile.
template <int D>
__device__ const float* window_row(const MsaTiles& t, const Strip& s, const unsigned char* tile,
                                   int i) {
  return reinterpret_cast<const float*>(tile) + ((s.row + i) * t.columns() + s.column) * D;
}

// The lane's channels of a pixel, in the order of its pieces.
struct LaneChannels {
  float4 low, high;
};
// Pixel `column` of a row of a tile.
template <int D>
__device__ LaneChannels load_pixel(const StripLanes<D>& lanes, const float* row, int column) {
  return {load_vector<float4>(row + column * D + 4 * lanes.piece[0]),
          load_vector<float4>(row + column * D + 4 * lanes.piece[1])};
}
__device__ inline float dot(const float (&a)[kLaneChannels], const LaneChannels& b) {
  float sum = a[0] * b.low.x;
  sum += a[1] * b.low.y, sum += a[2] * b.low.z, sum += a[3] * b.low.w;
  sum += a[4] * b.high.x, sum += a[5] * b.high.y, sum += a[6] * b.high.z, sum += a[7] * b.high.w;
  return sum;
}
__device__ inline void add(float weight, const LaneChannels& b, float (&sums)[kLaneChannels]) {
  sums[0] += weight * b.low.x, sums[1] += weight * b.low.y;
  sums[2] += weight * b.low.z, sums[3] += weight * b.low.w;
  sums[4] += weight * b.high.x, sums[5] += weight * b.high.y;
  sums[6] += weight * b.high.z, sums[7] += weight * b.high.w;
}

}  // namespace mullion::cuda
