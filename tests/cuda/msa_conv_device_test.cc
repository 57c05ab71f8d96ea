// MSA-Conv on the device against the CPU's kernels: in f32, and in bf16 against f32 on the rounded
// inputs.
#include <gtest/gtest.h>

#include <cmath>

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/msa_conv/msa_conv_plan.h"
#include "tensor/kernel_args/msa_conv.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/device_runs.h"

namespace mullion::test {
namespace {

class MsaConvKernels : public KernelsOfType {};
OF_BOTH_TYPES(MsaConvKernels);

struct MsaCase {
  MsaConvGeometry g;
  int64_t padding = 0, skew = 0;  // elements between packed pixels, past an aligned address
  bool tiles = false;             // served by the kernels with tiles in shared memory
  bool force_simple = false;      // ... and given to the kernel for every geometry all the same

  int64_t channels() const { return g.heads * g.head_dim; }
};

MsaConvGeometry geometry(int64_t height, int64_t width, int64_t heads, int64_t head_dim,
                         int64_t kernel, int64_t dilation = 1) {
  MsaConvGeometry g;
  g.batch = 1;
  g.height = height, g.width = width;
  g.heads = heads, g.head_dim = head_dim;
  g.kernel_h = g.kernel_w = kernel;
  g.dilation = dilation;
  g.scale = 1 / std::sqrt(static_cast<double>(head_dim));
  return g;
}
MsaConvGeometry shifted(MsaConvGeometry g, int64_t size) {
  g.shift = MsaShift::directions;
  g.shift_size = size;
  return g;
}
MsaConvGeometry masked(MsaConvGeometry g) {
  g.border = MsaBorder::masked;
  return g;
}
MsaConvGeometry pooled(MsaConvGeometry g, int64_t pool) {
  g.pool = pool;
  return g;
}

std::string name(const MsaCase& c) {
  const MsaConvGeometry& g = c.g;
  return concat(g.height, "x", g.width, ", heads ", g.heads, " of ", g.head_dim, ", kernel ",
                g.kernel_h, "x", g.kernel_w, ", dilation ", g.dilation, ", border ",
                static_cast<int>(g.border), ", shift ", static_cast<int>(g.shift), " by ",
                g.shift_size, ", pool ", g.pool, ", dropout ", g.dropout, ", padding ", c.padding,
                ", skew ", c.skew, c.force_simple ? ", simple" : "");
}

// Q, K and V lie in one packed map where all have the same pixels, apart otherwise. What lies
// between the pixels of an output must stay as it was.
struct MsaBuffers {
  const void *q, *k, *v;
  int64_t stride;
};
MsaBuffers maps_of(const MsaCase& c, Side& side, DType type, bool outputs) {
  const MsaConvGeometry& g = c.g;
  const int64_t pixels = g.batch * g.height * g.width, C = c.channels();
  const int64_t keys = g.batch * g.key_height() * g.key_width();
  const uint64_t stream = outputs ? 50 : 1;
  const auto map = [&](int64_t n, uint64_t number) {
    const Floats content = spread(n, stream + number, type);
    return outputs ? side.in_out(content) : side.in(content);
  };
  const auto at = [&](const void* base, int64_t elements) {
    return static_cast<const std::byte*>(base) + elements * size_of(side.type());
  };
  if (g.pool == 1) {
    const int64_t stride = 3 * C + c.padding;
    const void* packed = map(pixels * stride, 0);
    return {packed, at(packed, C), at(packed, 2 * C), stride};
  }
  const int64_t stride = C + c.padding;
  const void *q = map(pixels * stride, 0), *k = map(keys * stride, 1), *v = map(keys * stride, 2);
  return {q, k, v, stride};
}

void run_msa(const MsaCase& c, Side& side, DType type) {
  const MsaConvGeometry& g = c.g;
  const int64_t pixels = g.batch * g.height * g.width, o_stride = c.channels() + c.padding;
  const MsaBuffers in = maps_of(c, side, type, false), out = maps_of(c, side, type, true);
  void* o = side.in_out(spread(pixels * o_stride, 60, type));
  float* lse = side.exact_out(pixels * g.heads);
  const void* grad = side.in(spread(pixels * o_stride, 9, type));
  const auto written = [](const void* p) { return const_cast<void*>(p); };
  const MsaConvArgs args{.geometry = g,
                         .dtype = side.type(),
                         .q = in.q,
                         .k = in.k,
                         .v = in.v,
                         .q_stride = in.stride,
                         .k_stride = in.stride,
                         .v_stride = in.stride,
                         .o = o,
                         .o_stride = o_stride,
                         .lse = lse};
  const MsaConvBackwardArgs back{.geometry = g,
                                 .dtype = side.type(),
                                 .q = in.q,
                                 .k = in.k,
                                 .v = in.v,
                                 .q_stride = in.stride,
                                 .k_stride = in.stride,
                                 .v_stride = in.stride,
                                 .o = o,
                                 .lse = lse,
                                 .grad_o = grad,
                                 .o_stride = o_stride,
                                 .grad_o_stride = o_stride,
                                 .dq = written(out.q),
                                 .dk = written(out.k),
                                 .dv = written(out.v),
                                 .dq_stride = out.stride,
                                 .dk_stride = out.stride,
                                 .dv_stride = out.stride};
  if (!side.on_cpu()) {
    EXPECT_EQ(cuda::has_tiles(args), c.tiles);
    EXPECT_EQ(cuda::has_tiles(back), c.tiles);
  }
  if (c.force_simple && !side.on_cpu()) {
    cuda::msa_conv_simple(args);
    cuda::msa_conv_simple_backward(back);
  } else {
    side.table().msa_conv(args);
    side.table().msa_conv_backward(back);
  }
}

void check_msa(const MsaCase& c, DType type, float tolerance) {
  SCOPED_TRACE(name(c));
  compare_sides(type, c.skew, tolerance, [&](Side& side) { run_msa(c, side, type); });
}

MsaCase tiled(MsaConvGeometry g) { return {g, 0, 0, true, false}; }
MsaCase simple(MsaConvGeometry g) { return {g, 0, 0, false, false}; }

TEST_P(MsaConvKernels, ByTilesForEveryHeadAndKernel) {
  for (int64_t head_dim : {16, 32, 64})
    for (int64_t kernel : {3, 5, 7})
      check_msa(tiled(shifted(geometry(3, 10, 4, head_dim, kernel), kernel)), type(), tolerance());
}

// A tile that the map fills, does not fill, exceeds by one; maps smaller than the kernel.
TEST_P(MsaConvKernels, ByTilesOnMapsOfEverySize) {
  for (auto [h, w] : {std::pair<int64_t, int64_t>{1, 1},
                      {1, 9},
                      {6, 1},
                      {7, 7},
                      {14, 14},
                      {17, 8},
                      {8, 17},
                      {2, 33},
                      {18, 19}})
    check_msa(tiled(geometry(h, w, 1, 32, 7)), type(), tolerance());
  for (auto [h, w] : {std::pair<int64_t, int64_t>{1, 1}, {1, 9}, {6, 1}, {7, 7}, {5, 18}}) {
    MsaConvGeometry g = masked(geometry(h, w, 1, 32, 7));
    g.batch = 2;
    check_msa(tiled(g), type(), tolerance());
    check_msa(tiled(masked(shifted(geometry(h, w, 4, 16, 5), 5))), type(), tolerance());
  }
}

TEST_P(MsaConvKernels, ByTilesWithHeadsRolledInParts) {
  check_msa(tiled(shifted(geometry(6, 9, 3, 32, 5), 3)), type(), tolerance());
  check_msa(tiled(shifted(geometry(6, 9, 1, 64, 3), 2)), type(), tolerance());
  check_msa(tiled(shifted(geometry(6, 9, 2, 16, 3), 4)), type(), tolerance());
  // Quarters of 4 channels are pieces of 16 bytes in f32 and half ones in bf16.
  MsaCase quarters{shifted(geometry(6, 9, 1, 16, 3), 2), 0, 0, type() == DType::f32, false};
  check_msa(quarters, type(), tolerance());
  for (int direction = 0; direction < 4; ++direction) {
    MsaConvGeometry g = geometry(5, 6, 2, 16, 5);
    g.shift = MsaShift::one_direction;
    g.direction = direction;
    g.shift_size = 13;  // more than once around
    check_msa(tiled(g), type(), tolerance());
  }
}

TEST_P(MsaConvKernels, ByTilesDilated) {
  check_msa(tiled(shifted(geometry(13, 10, 4, 16, 3, 2), 3)), type(), tolerance());
  check_msa(tiled(masked(geometry(7, 19, 2, 32, 5, 3))), type(), tolerance());
  check_msa(tiled(geometry(3, 2, 2, 16, 7, 8)), type(), tolerance());
  check_msa(simple(geometry(3, 20, 2, 16, 3, 9)), type(), tolerance());
}

// Distances and starts that copies of 16 bytes can serve, and such that they cannot.
TEST_P(MsaConvKernels, AtAnyDistanceOfPixels) {
  const MsaConvGeometry g = shifted(geometry(5, 6, 4, 16, 3), 2);
  check_msa({g, 24, 0, true, false}, type(), tolerance());
  check_msa({g, 3, 0, false, false}, type(), tolerance());
  check_msa({g, 0, 1, false, false}, type(), tolerance());
}

TEST_P(MsaConvKernels, SimpleWhereTilesServeToo) {
  for (int64_t kernel : {3, 7}) {
    MsaCase c = tiled(masked(shifted(geometry(3, 5, 4, 32, kernel), 2)));
    c.force_simple = true;
    check_msa(c, type(), tolerance());
  }
}

// Depthwise (one channel a head), odd head sizes, and one wider than a group of lanes sums at once.
TEST_P(MsaConvKernels, SimpleForEveryHead) {
  for (int64_t head_dim : {1, 3, 8, 33, 96, 260}) {
    check_msa(simple(shifted(geometry(2, 3, 4, head_dim, 3), 3)), type(), tolerance());
    check_msa(simple(masked(shifted(geometry(3, 2, head_dim == 260 ? 1 : 3, head_dim, 3), 1))),
              type(), tolerance());
  }
  MsaConvGeometry depthwise = geometry(5, 4, 24, 1, 7);
  depthwise.batch = 2;
  check_msa(simple(depthwise), type(), tolerance());
}

TEST_P(MsaConvKernels, SimpleForOtherWindows) {
  MsaConvGeometry g = geometry(6, 5, 2, 3, 3);
  g.kernel_w = 5;
  check_msa(simple(g), type(), tolerance());
  check_msa(simple(masked(geometry(6, 5, 2, 8, 4, 2))), type(), tolerance());
  check_msa(simple(geometry(3, 4, 1, 32, 1)), type(), tolerance());
  check_msa(simple(geometry(3, 11, 1, 16, 9)), type(), tolerance());
}

TEST_P(MsaConvKernels, Pooled) {
  for (auto [h, w] : {std::pair<int64_t, int64_t>{6, 8}, {5, 7}, {1, 5}})
    for (int64_t pool : {2, 3}) {
      check_msa(simple(pooled(shifted(geometry(h, w, 4, 4, 3), 1), pool)), type(), tolerance());
      check_msa(simple(pooled(masked(geometry(h, w, 1, 8, 4, 2)), pool)), type(), tolerance());
    }
}

TEST_P(MsaConvKernels, WithDropout) {
  for (int64_t head_dim : {3, 32}) {
    MsaConvGeometry g = shifted(geometry(4, 3, 4, head_dim, 3), 3);
    g.dropout = 0.3;
    g.seed = 7, g.stream = 11;
    check_msa(simple(g), type(), tolerance());
  }
}

// A map without images is no work.
TEST_P(MsaConvKernels, OfNoImages) {
  MsaConvGeometry g = geometry(4, 4, 2, 32, 3);
  g.batch = 0;
  check_msa(simple(g), type(), tolerance());
}

TEST_P(MsaConvKernels, WithAnyScale) {
  for (double scale : {-0.5, 0.0}) {
    MsaConvGeometry g = geometry(3, 4, 2, 16, 3);
    g.scale = scale;
    check_msa(simple(g), type(), tolerance());
  }
}

class MsaConvOnDevice : public OnDevice<> {};

TEST_F(MsaConvOnDevice, RefusesWhatItMust) {
  const KernelTable& table = kernels({DeviceType::cuda});
  MsaConvArgs args{};
  args.geometry = geometry(4, 4, 2, 32, 4);
  EXPECT_THROW(table.msa_conv(args), Error);  // an even kernel with an odd dilation
  args.geometry = geometry(4, 4, 2, 32, 3);
  args.dtype = DType::f64;
  EXPECT_THROW(table.msa_conv(args), Error);
}

}  // namespace
}  // namespace mullion::test
