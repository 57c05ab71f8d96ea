// How MSA-Conv lays out one head's work in scratch memory. A band of query rows and the key rows it
// sees become flat lines of `row` positions a map row, the last `reach_x` or more of them zero, so
// that a tap is one flat offset and a vector may run over the ends of rows. Border, cyclic shift
// and pooled keys are settled while packing: keys pooled by r are repeated r times, a plain window
// with r times the dilation.
#pragma once
#include <array>
#include <cstdint>

#include "tensor/kernel_args/msa_conv.h"

namespace mullion::cpu {

// i modulo n, from 0, as the cyclic shift turns a map.
inline int64_t wrap(int64_t i, int64_t n) { return ((i % n) + n) % n; }

// The channels [first, first + count) of a head, whose keys are read at r - (shift_y, shift_x).
struct ChannelRun {
  int64_t first, count, shift_y, shift_x;
};

struct MsaPlan {
  MsaConvGeometry g;
  int64_t keys_h, keys_w;    // the key map
  int64_t up_h, up_w;        // ... repeated `pool` times
  int64_t step;              // between neighbouring taps: dilation * pool
  int64_t reach_y, reach_x;  // of the window on either side
  int64_t row;               // positions of a flat row
  int64_t band, bands;       // query rows of a band, number of bands
  int64_t guard;             // zeros before and after a plane of queries
  int64_t front;             // ... before the first key row
  int64_t query_plane;       // positions of a plane of queries, guards included
  int64_t key_plane;         // positions of a plane of keys

  int64_t row_step() const { return step * row; }
  // Positions of a key plane that the queries of `rows` rows can see, from its start.
  int64_t key_extent(int64_t rows) const { return front + (rows + 2 * reach_y) * row + reach_x; }
  int64_t pixels() const { return g.height * g.width; }
  // Rows of band number `index`.
  int64_t first_row(int64_t index) const { return index * band; }
  int64_t rows(int64_t index) const {
    return first_row(index) + band <= g.height ? band : g.height - first_row(index);
  }
  // Offset of tap t from a query's flat position to its key's, in a plane of keys.
  int64_t key_offset(int64_t t) const {
    return front + (t / g.kernel_w) * row_step() + (t % g.kernel_w) * step - reach_x;
  }
};

// Sizes the band so that one band's buffers (about `floats_per_position` floats for each of its
// positions) stay in the second-level cache. Lines may be read in chunks of `chunk` positions.
MsaPlan make_plan(const MsaConvGeometry& g, int64_t floats_per_position, int64_t chunk);

// The runs of one head; at most four.
struct ChannelRuns {
  std::array<ChannelRun, 4> runs;
  int count;
  const ChannelRun* begin() const { return runs.data(); }
  const ChannelRun* end() const { return runs.data() + count; }
};
ChannelRuns channel_runs(const MsaConvGeometry& g, int64_t head);

// Copies the key rows that a band sees, of one batch entry and head, to out (key_plane, head_dim);
// positions outside the map are zero, those beyond key_extent(rows) undefined. `keys` points to the
// head's first channel of its first pixel.
template <typename T>
void pack_keys(const MsaPlan& plan, const ChannelRuns& runs, int64_t first_row, int64_t rows,
               const T* keys, int64_t stride, T* out);

// Copies the rows of a map like Q to out (query_plane, head_dim); gaps and the guards' nearest
// reach_x positions are zero, the rest is undefined.
template <typename T>
void pack_queries(const MsaPlan& plan, int64_t first_row, int64_t rows, const T* queries,
                  int64_t stride, T* out);

// out (channels, plane) = factor * in^T, in (plane, channels), for the positions [begin, end) and
// those that fill up the last vector. begin is a multiple of 16.
template <typename T>
void to_planes(const T* in, int64_t plane, int64_t begin, int64_t end, int64_t channels, T factor,
               T* out);

// The way back of pack_keys for row `y` (up_w, head_dim) of the gradient of the repeated keys, from
// the band that begins at first_row: added to the map, or stored where no band before this one saw
// the row. Bands come in order; where keys are pooled the map must be zero at first.
template <typename T>
void unpack_key_row(const MsaPlan& plan, const ChannelRuns& runs, int64_t first_row, int64_t y,
                    const T* row, T* keys, int64_t stride);

// 0 for the keys of the band inside the map, -infinity outside: (key_plane).
template <typename T>
void pack_border(const MsaPlan& plan, int64_t first_row, int64_t rows, T* out);

// Factors of the dropout for the band's taps: (taps, query_plane), each 0 or 1 / (1 - dropout).
template <typename T>
void dropout_factors(const MsaPlan& plan, int64_t batch, int64_t head, int64_t first_row,
                     int64_t rows, T* out);

}  // namespace mullion::cpu
