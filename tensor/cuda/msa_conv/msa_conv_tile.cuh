// What the tiled kernels of MSA-Conv share. A block owns a tile of pixels of one head of one image
// and holds, in shared memory, two maps over the tile and its halo of (K - 1) / 2 pixels on every
// side: K and V for the queries' side, Q and dO for the keys' side. Outside the map they are zero,
// which is the border law itself. The cyclic shift is folded into the addresses that fill the halo.
// A dilation of d makes d * d maps of every d-th pixel, each with a plain window: a tile's
// neighbours are d pixels apart.
//
// A tile is at most 16 x 16, so a map of 14 x 14 or 7 x 7 is one block's, whole, and nothing is
// read twice. Neighbouring blocks are the heads of one tile, whose pixels share their cache lines.
#pragma once
#include <algorithm>

#include "tensor/cuda/msa_conv/msa_conv_map.cuh"

namespace mullion::cuda {

constexpr int kTileThreads = 128;
constexpr int kTileWarps = kTileThreads / 32;
// Shared memory of a block; every device since sm_80 has it, the large ones for two blocks.
constexpr int kTileBytes = 96 * 1024;

struct MsaTiles {
  int tile_h, tile_w;    // queries; even, and a multiple of 8
  int tiles_y, tiles_x;  // of one residue of the dilation
  int kernel;            // K, the window's side
  int64_t blocks;

  __host__ __device__ int rows() const { return tile_h + kernel - 1; }
  __host__ __device__ int columns() const { return tile_w + kernel - 1; }
  __host__ __device__ int pixels() const { return rows() * columns(); }
};

// pixel_bytes: of both maps together, and whatever else is kept for each pixel of the halo.
inline MsaTiles make_msa_tiles(const MsaMap& m, int pixel_bytes) {
  const auto up = [](int n, int to) { return (n + to - 1) / to * to; };
  const int h = (m.height + m.dilation - 1) / m.dilation;
  const int w = (m.width + m.dilation - 1) / m.dilation;
  MsaTiles t{std::min(up(h, 2), 16), std::min(up(w, 8), 16), 1, 1, m.kernel_h, 0};
  while (t.pixels() * pixel_bytes > kTileBytes) {
    if (t.tile_h >= t.tile_w || t.tile_w == 8)
      t.tile_h = up(t.tile_h / 2, 2);
    else
      t.tile_w = 8;
  }
  t.tiles_y = (h + t.tile_h - 1) / t.tile_h;
  t.tiles_x = (w + t.tile_w - 1) / t.tile_w;
  t.blocks = m.batch * m.heads * t.tiles_y * t.tiles_x * m.dilation * m.dilation;
  return t;
}

// A block's tile: pixel (i, j) of it is (y0 + d i, x0 + d j) of the map.
struct TilePlace {
  int64_t b;
  int head, y0, x0;

  __device__ TilePlace(const MsaMap& m, const MsaTiles& t) {
    unsigned index = blockIdx.x;
    const auto take = [&index](int n) {
      const unsigned part = index % static_cast<unsigned>(n);
      index /= static_cast<unsigned>(n);
      return static_cast<int>(part);
    };
    head = take(m.heads);
    x0 = take(t.tiles_x) * t.tile_w * m.dilation;
    y0 = take(t.tiles_y) * t.tile_h * m.dilation;
    x0 += take(m.dilation);
    y0 += take(m.dilation);
    b = index;
  }
};

// A head's channels in one image: `stride` elements from pixel to pixel, in all less than 2^31.
template <typename T>
struct ImageHead {
  T* first;
  int stride;
};
// Of a map like Q; where keys are not pooled K's is the same.
template <typename T, typename Void>
__device__ ImageHead<T> image_head(const MsaMap& m, const TilePlace& p, Void* map, int64_t stride,
                                   int head_dim) {
  const int64_t pixels = static_cast<int64_t>(m.height) * m.width;
  return {static_cast<T*>(map) + p.b * pixels * stride + static_cast<int64_t>(p.head) * head_dim,
          static_cast<int>(stride)};
}

// The pieces of 16 bytes that a pixel of a tile consists of, and where piece number `piece` of
// pixel number `pixel` lies. Turned: eight neighbouring pixels' pieces of one number lie in the 32
// banks side by side, as ldmatrix reads them.
template <int kPieces, bool kTurned>
struct PixelPieces {
  static constexpr int kBytes = 16 * kPieces;
  static_assert(!kTurned || kPieces <= 8);

  __device__ static int turn(int pixel) {
    if constexpr (kTurned)
      return static_cast<int>(static_cast<unsigned>(pixel) / (8 / kPieces) % kPieces);
    else
      return 0;
  }
  __device__ static int offset(int pixel, int piece) {
    return pixel * kBytes + 16 * (piece ^ turn(pixel));
  }
};

// Begins to copy the tile and its halo of two maps to a and b. kRolled: the maps are key maps.
template <typename T, typename Pieces, bool kRolled>
__device__ void fill_tiles(const MsaMap& m, const MsaTiles& t, const TilePlace& p,
                           const ImageHead<const T>& from_a, const ImageHead<const T>& from_b,
                           unsigned char* a, unsigned char* b) {
  constexpr int kPieces = Pieces::kBytes / 16, kElements = 16 / static_cast<int>(sizeof(T));
  static_assert(32 % kPieces == 0);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int piece = lane % kPieces, d = m.dilation;
  const Roll roll = kRolled ? roll_of(m, p.head, piece * kElements) : Roll{0, 0};
  for (int row = warp; row < t.rows(); row += kTileWarps) {
    const int y = p.y0 - m.reach_y + d * row;
    const bool row_inside = y >= 0 && y < m.height;
    const int from_row = row_inside ? unrolled(y, roll.y, m.height) * m.width : 0;
    for (int column = lane / kPieces; column < t.columns(); column += 32 / kPieces) {
      const int x = p.x0 - m.reach_x + d * column;
      const bool inside = row_inside && x >= 0 && x < m.width;
      const int pixel = inside ? from_row + unrolled(x, roll.x, m.width) : 0;
      const int target = Pieces::offset(row * t.columns() + column, piece);
      cp_async_16(a + target, from_a.first + pixel * from_a.stride + piece * kElements, inside);
      cp_async_16(b + target, from_b.first + pixel * from_b.stride + piece * kElements, inside);
    }
  }
}

}  // namespace mullion::cuda
