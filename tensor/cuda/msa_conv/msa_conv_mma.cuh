// The tensor-core form of MSA-Conv's window. A warp owns a strip of 2 x 8 pixels, the 16 rows of a
// product; together they see (K + 1) x (K + 7) pixels of the tile, which are numbered row by row:
//
//    0   1   2   3   4   5   6   7   8   9  10  11  12  13     for K = 7: 8 x 14 = 112 pixels,
//   14  15  16  17  18  19  20  21  22  23  24  25  26  27     14 groups of 8 with no gap;
//   ...            [ 2 x 8 pixels ]                 ...        a group may lie in two rows, since
//   98  99 100 101 102 103 104 105 106 107 108 109 110 111     ldmatrix takes each pixel's address
//
// Of the 112 a pixel's own window is 49; the rest is masked. A strip of 16 x 1 would see 154
// pixels, one of 4 x 4 100, which are no whole number of groups.
#pragma once
#include "tensor/cuda/dispatch.h"
#include "tensor/cuda/msa_conv/msa_conv_tile.cuh"

namespace mullion::cuda {

template <int D, int K>
struct MmaWindow {
  static constexpr int kColumns = K + 7, kPixels = (K + 1) * kColumns;
  static constexpr int kGroups = (kPixels + 15) / 16 * 2;  // of 8 pixels, an even number
  static_assert(kPixels % 8 == 0 && 2 * kGroups <= 32);
};
template <int D>
using MmaPieces = PixelPieces<D / 8, true>;

// A strip: (row, column) in the tile; a lane's pixels are (y, x) and the one d below.
struct MmaStrip {
  int row, column, y, x, d;

  __device__ MmaStrip(const MsaMap& m, const MsaTiles& t, const TilePlace& p, int index)
      : row(2 * (index >> wide(t))), column(8 * (index & wide(t))), d(m.dilation) {
    y = p.y0 + d * row;
    x = p.x0 + d * (column + static_cast<int>(threadIdx.x) % 32 / 4);
  }
  // Whether any of the strip's pixels is in the map: the same for all lanes.
  __device__ static bool in_map(const MsaMap& m, const MsaTiles& t, const TilePlace& p, int index) {
    return p.y0 + m.dilation * 2 * (index >> wide(t)) < m.height &&
           p.x0 + m.dilation * 8 * (index & wide(t)) < m.width;
  }
  __device__ static int wide(const MsaTiles& t) { return t.tile_w / 16; }  // tiles are 8 or 16 wide
  __device__ bool in_map(const MsaMap& m, int half) const {
    return y + d * half < m.height && x < m.width;
  }
  __device__ static int count(const MsaTiles& t) { return t.tile_h / 2 * (t.tile_w / 8); }
};

// Lane t of a quad hands in row t of a 4 x 4 matrix and gets column t.
__device__ inline uint4 transpose_quad(uint4 v) {
  const int t = static_cast<int>(threadIdx.x) % 4;
  const bool odd = t % 2 != 0, high = t / 2 != 0;
  const auto swap = [](uint32_t& a, uint32_t& b, bool give_a, int lanes) {
    const uint32_t other = __shfl_xor_sync(kFullMask, give_a ? a : b, lanes);
    a = give_a ? other : a;
    b = give_a ? b : other;
  };
  swap(v.x, v.y, odd, 1), swap(v.z, v.w, odd, 1);
  swap(v.x, v.z, high, 2), swap(v.y, v.w, high, 2);
  return v;
}

// The first operand of a product: a strip's 16 pixels by D channels.
template <int D>
struct StripFragment {
  uint32_t r[D / 16][4];
};
// Accumulators of such a matrix, in groups of 8 channels.
template <int D>
struct StripSums {
  float r[D / 8][4];
};

// The rolls of the pieces that a lane reads and writes: piece t of every four, for lane t of a
// quad. None: the map is not a key map.
template <int D>
struct LaneRolls {
  Roll r[D == 64 ? 2 : 1];

  __device__ static LaneRolls none() { return {}; }
  __device__ static LaneRolls of_keys(const MsaMap& m, const TilePlace& p) {
    LaneRolls rolls;
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int i = 0; i < (D == 64 ? 2 : 1); ++i)
      rolls.r[i] = roll_of(m, p.head, 8 * ((4 * i + t) % (D / 8)));
    return rolls;
  }
};

// Where piece number `piece` of the pixel in row `half` of the strip lies.
template <typename T>
__device__ T* strip_piece(const MsaMap& m, const MmaStrip& s, const ImageHead<T>& map,
                          const Roll& roll, int half, int piece) {
  const int y = unrolled(s.y + s.d * half, roll.y, m.height), x = unrolled(s.x, roll.x, m.width);
  return map.first + (y * m.width + x) * map.stride + 8 * piece;
}

// A lane reads whole pieces of 16 bytes, and the quad exchanges words for the order of a fragment.
template <int D>
__device__ void load_strip(const MsaMap& m, const MmaStrip& s, const ImageHead<const Bf16>& map,
                           const LaneRolls<D>& rolls, StripFragment<D>& out) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int first = 0; first < D / 4; first += 4) {
    const int half = (first + t) / (D / 8), piece = (first + t) % (D / 8);
    uint4 v{0, 0, 0, 0};
    if (s.in_map(m, half))
      v = load_vector<uint4>(
          strip_piece(m, s, map, rolls.r[D == 64 ? first / 4 % 2 : 0], half, piece));
    v = transpose_quad(v);
    const auto put = [&out](int n, uint32_t word) {
      const int c = n % (D / 8);
      out.r[c / 2][c % 2 * 2 + n / (D / 8)] = word;
    };
    put(first, v.x), put(first + 1, v.y), put(first + 2, v.z), put(first + 3, v.w);
  }
}

template <int D>
__device__ void store_strip(const MsaMap& m, const MmaStrip& s, const StripSums<D>& in,
                            const LaneRolls<D>& rolls, const ImageHead<Bf16>& map) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int first = 0; first < D / 4; first += 4) {
    const auto word = [&in](int n) {
      const int c = n % (D / 8), half = n / (D / 8);
      return pack_bf16(in.r[c][2 * half], in.r[c][2 * half + 1]);
    };
    const uint4 v =
        transpose_quad(uint4{word(first), word(first + 1), word(first + 2), word(first + 3)});
    const int half = (first + t) / (D / 8), piece = (first + t) % (D / 8);
    if (s.in_map(m, half))
      store_global(strip_piece(m, s, map, rolls.r[D == 64 ? first / 4 % 2 : 0], half, piece), v);
  }
}

// A lane's view on the window of a strip in a tile: where the pixel that it names to ldmatrix lies.
// Rows of a tile are K + 7 modulo 8 apart, like those of the window, so pixel i of the window has
// the same place modulo 8 whatever its row, and with it the same turn of its pieces.
template <int D, int K>
struct WindowAddress {
  int first, skip, lane_pixel;

  __device__ WindowAddress(const MsaTiles& t, const MmaStrip& s) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    lane_pixel = hide_origin(lane % 8);
    skip = hide_origin((t.columns() - MmaWindow<D, K>::kColumns) * MmaPieces<D>::kBytes);
    first = MmaPieces<D>::offset(s.row * t.columns() + s.column + lane_pixel, lane / 8 % (D / 8));
  }
  // Of group number `group`, a constant once loops are unrolled.
  __device__ int operator()(int group) const {
    constexpr int kColumns = MmaWindow<D, K>::kColumns;
    if (8 * group >= MmaWindow<D, K>::kPixels) return first;  // masked; only must be readable
    const int row = 8 * group / kColumns, next_row = (row + 1) * kColumns - 8 * group;
    const int below = next_row < 8 && lane_pixel >= next_row ? skip : 0;
    return first + 8 * group * MmaPieces<D>::kBytes + row * skip + below;
  }
};

// Eight pixels of a tile by D channels as second operand: r[c] is the part of channels 8 c to
// 8 c + 7. Plain: the product runs over channels; transposed: over pixels.
template <int D>
struct PixelFragment {
  uint32_t r[D / 8];
};
template <int D, bool kTransposed>
__device__ void load_pixels(const unsigned char* tile, int offset, PixelFragment<D>& out) {
  const auto load_4 = [tile](uint32_t(&r)[4], int at) {
    if constexpr (kTransposed)
      ldmatrix_x4_trans(r, tile + at);
    else
      ldmatrix_x4(r, tile + at);
  };
  if constexpr (D == 16) {
    if constexpr (kTransposed)
      ldmatrix_x2_trans(out.r, tile + offset);
    else
      ldmatrix_x2(out.r, tile + offset);
  } else if constexpr (D == 32) {
    load_4(out.r, offset);
  } else {
    static_assert(D == 64);
    uint32_t low[4], high[4];
    load_4(low, offset);
    load_4(high, offset ^ 64);
#pragma unroll
    for (int i = 0; i < 4; ++i) out.r[i] = low[i], out.r[4 + i] = high[i];
  }
}

// products (16 x 8) = strip * pixels^T, over channels.
template <int D>
__device__ void multiply_pixels(const StripFragment<D>& strip, const PixelFragment<D>& pixels,
                                float (&products)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) products[i] = 0;
#pragma unroll
  for (int c = 0; c < D / 16; ++c)
    mma_16816(products, strip.r[c], {pixels.r[2 * c], pixels.r[2 * c + 1]});
}

// sums += weights * pixels, for two groups of 8 pixels, at offset[0] and offset[1] of a tile.
template <int D>
__device__ void add_pixels(const unsigned char* tile, const int (&offset)[2],
                           const float (&weights)[2][4], StripSums<D>& sums) {
  PixelFragment<D> low, high;
  load_pixels<D, true>(tile, offset[0], low);
  load_pixels<D, true>(tile, offset[1], high);
  const uint32_t a[4] = {
      pack_bf16(weights[0][0], weights[0][1]), pack_bf16(weights[0][2], weights[0][3]),
      pack_bf16(weights[1][0], weights[1][1]), pack_bf16(weights[1][2], weights[1][3])};
#pragma unroll
  for (int c = 0; c < D / 8; ++c) mma_16816(sums.r[c], a, {low.r[c], high.r[c]});
}

// Which of a lane's elements of the 16 x 8 products are taps: bit 2 g + e for element e of group g,
// for the strip's upper and lower row.
template <int D, int K>
struct WindowMask {
  uint32_t rows[2] = {0, 0};

  __device__ WindowMask() {
    constexpr int kColumns = MmaWindow<D, K>::kColumns;
    const int lane = static_cast<int>(threadIdx.x) % 32, query = lane / 4;
    int row = 0, column = 2 * (lane % 4);
#pragma unroll
    for (int group = 0; group < MmaWindow<D, K>::kPixels / 8; ++group) {
#pragma unroll
      for (int e = 0; e < 2; ++e)
        if (column + e >= query && column + e < query + K) {
          if (row < K) rows[0] |= 1u << (2 * group + e);
          if (row > 0) rows[1] |= 1u << (2 * group + e);
        }
      column += 8;
      if (column >= kColumns) column -= kColumns, ++row;
    }
  }
  // Keeps the bits from being taken apart outside of a loop, for a register each.
  __device__ void hide_origin() {
    for (uint32_t& row : rows)
      row = static_cast<uint32_t>(cuda::hide_origin(static_cast<int>(row)));
  }
  __device__ bool has(int group, int element) const {
    return (rows[element / 2] >> (2 * group + element % 2) & 1) != 0;
  }
};

// The groups of a window one after another, for loops that are not unrolled: where the pixel lies
// that the lane names to ldmatrix, which pixels are the lane's own elements, and which are taps.
template <int D, int K>
class WindowWalk {
 public:
  __device__ WindowWalk(const MsaTiles& t, const MmaStrip& s, const WindowMask<D, K>& mask)
      : skip_(t.columns() - kColumns),
        column_(static_cast<int>(threadIdx.x) % 8),
        own_column_(2 * (static_cast<int>(threadIdx.x) % 4)),
        upper_(mask.rows[0]),
        lower_(mask.rows[1]) {
    const int corner = s.row * t.columns() + s.column;
    const int piece = static_cast<int>(threadIdx.x) % 32 / 8 % (D / 8);
    first_ = offset_ = MmaPieces<D>::offset(corner + column_, piece);
    first_own_ = own_ = corner + own_column_;
  }
  __device__ int offset() const { return offset_; }
  // The first of the lane's two pixels, which are neighbours, in the tile.
  __device__ int own_pixel() const { return own_; }
  __device__ bool has(int element) const {
    return ((element < 2 ? upper_ : lower_) >> (element % 2) & 1) != 0;
  }
  __device__ void next() {
    offset_ += 8 * kBytes, column_ += 8;
    if (column_ >= kColumns) column_ -= kColumns, offset_ += skip_ * kBytes;
    own_ += 8, own_column_ += 8;
    if (own_column_ >= kColumns) own_column_ -= kColumns, own_ += skip_;
    upper_ >>= 2, lower_ >>= 2;
    // The group that makes the number even has no taps; it only must be readable.
    if (kPixels % 16 != 0 && ++group_ == kPixels / 8) offset_ = first_, own_ = first_own_;
  }

 private:
  static constexpr int kColumns = MmaWindow<D, K>::kColumns, kPixels = MmaWindow<D, K>::kPixels;
  static constexpr int kBytes = MmaPieces<D>::kBytes;
  int skip_, column_, own_column_, offset_, own_, first_, first_own_, group_ = 0;
  uint32_t upper_, lower_;
};

}  // namespace mullion::cuda
