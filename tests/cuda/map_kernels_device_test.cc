// Pooling, the depthwise convolution and patches on the device against the CPU's kernels: in f32,
// and in bf16 against f32 on the rounded inputs.
#include <gtest/gtest.h>

#include <cmath>

#include "tensor/kernel_args/pooling.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/device_runs.h"

namespace mullion::test {
namespace {

class MapKernels : public KernelsOfType {};
OF_BOTH_TYPES(MapKernels);

struct MapCase {
  int64_t b, h, w, c, skew = 0;
  operator MapSize() const { return {b, h, w, c}; }
  int64_t size() const { return b * h * w * c; }
};
// Channels moved one by one and 16 bytes at a time, odd maps, a start that is not aligned, rows of
// more than a block.
const MapCase kMaps[] = {{2, 4, 6, 3},    {2, 5, 7, 8},    {1, 1, 9, 16},
                         {3, 1, 1, 2},    {1, 33, 32, 17}, {2, 7, 3, 24},
                         {2, 6, 5, 8, 1}, {1, 3, 40, 64},  {1, 2, 5, 520}};
std::string name(const MapCase& m) {
  return concat(m.b, "x", m.h, "x", m.w, "x", m.c, ", skew ", m.skew);
}

TEST_P(MapKernels, MaxPooling) {
  for (const MapCase& m : kMaps) {
    SCOPED_TRACE(name(m));
    const int64_t out = m.b * ((m.h + 1) / 2) * ((m.w + 1) / 2) * m.c;
    Floats x = values(m.size(), 1);
    const Floats g = values(out, 2);
    for (size_t i = 0; i < x.size(); i += 3) x[i] = 0.5f;  // equals
    compare_sides(type(), m.skew, 0, [&](Side& side) {
      const Tensor chosen = Tensor::empty(
          {out + m.skew}, DType::u8, Device{side.on_cpu() ? DeviceType::cpu : DeviceType::cuda});
      uint8_t* all = chosen.data<uint8_t>();
      uint8_t* positions = all + m.skew;
      const void* maps = side.in(x);
      side.table().max_pool2(
          {.dtype = side.type(), .map = m, .x = maps, .y = side.out(out), .chosen = positions});
      side.table().max_pool2(
          {.dtype = side.type(), .map = m, .x = maps, .y = side.out(out), .chosen = nullptr});
      side.table().max_pool2_backward({.dtype = side.type(),
                                       .map = m,
                                       .grad_y = side.in(g),
                                       .chosen = positions,
                                       .dx = side.out(m.size())});
    });
  }
}

class MapKernelsOnDevice : public OnDevice<> {};

TEST_F(MapKernelsOnDevice, TheFirstOfEqualsAndTheLastNaNWin) {
  const float nan = std::nanf("");
  const Floats x = {nan, 1, 2, nan, 7, 7, 7, 7};  // (1, 2, 2, 2)
  Side side({DeviceType::cuda}, DType::f32, 0);
  const Tensor chosen = Tensor::empty({2}, DType::u8, {DeviceType::cuda});
  side.table().max_pool2({.dtype = DType::f32,
                          .map = {1, 2, 2, 2},
                          .x = side.in(x),
                          .y = side.out(2),
                          .chosen = chosen.data<uint8_t>()});
  const Floats y = side.results()[0];
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_TRUE(std::isnan(y[1]));
  EXPECT_EQ(raw::to_device(chosen, {}).to_vector<int>(), (std::vector<int>{0, 1}));
}

TEST_P(MapKernels, AveragePooling) {
  for (const MapCase& m : kMaps)
    for (auto [ratio, padding] : {std::pair<int64_t, int64_t>{1, 0}, {2, 8}, {3, 1}, {50, 0}}) {
      SCOPED_TRACE(concat(name(m), ", ratio ", ratio, ", padding ", padding));
      const int64_t pixels = m.b * m.h * m.w, stride = m.c + padding;
      const int64_t cells = m.b * ((m.h + ratio - 1) / ratio) * ((m.w + ratio - 1) / ratio);
      const Floats x = values(pixels * stride, 1), g = values(cells * stride, 2);
      const int64_t r = ratio;
      compare_sides(type(), m.skew, tolerance(), [&](Side& side) {
        void* y = side.in_out(values(cells * stride, 3));
        void* dx = side.in_out(values(pixels * stride, 4));
        side.table().average_pool({.dtype = side.type(),
                                   .map = m,
                                   .ratio = r,
                                   .x = side.in(x),
                                   .y = y,
                                   .x_stride = stride,
                                   .y_stride = stride});
        side.table().average_pool_backward({.dtype = side.type(),
                                            .map = m,
                                            .ratio = r,
                                            .grad_y = side.in(g),
                                            .dx = dx,
                                            .grad_y_stride = stride,
                                            .dx_stride = stride});
      });
    }
}

TEST_P(MapKernels, DepthwiseConvolution) {
  for (const MapCase& m : kMaps) {
    SCOPED_TRACE(name(m));
    const Floats x = values(m.size(), 1), w = spread(9 * m.c, 2, DType::f32),
                 bias = spread(m.c, 3, DType::f32);
    compare_sides(type(), m.skew, tolerance(), [&](Side& side) {
      const void *map = side.in(x), *weight = side.exact_in(w);
      side.table().depthwise_conv3({.dtype = side.type(),
                                    .map = m,
                                    .x = map,
                                    .weight = weight,
                                    .bias = side.exact_in(bias),
                                    .y = side.out(m.size())});
      side.table().depthwise_conv3({.dtype = side.type(),
                                    .map = m,
                                    .x = map,
                                    .weight = weight,
                                    .bias = nullptr,
                                    .y = side.out(m.size())});
    });
  }
}

TEST_P(MapKernels, DepthwiseConvolutionGradients) {
  std::vector<MapCase> cases(std::begin(kMaps), std::end(kMaps));
  cases.push_back({5, 70, 4, 8});  // more rows than blocks
  for (const MapCase& m : cases) {
    SCOPED_TRACE(name(m));
    const Floats x = values(m.size(), 1), g = values(m.size(), 2);
    const Floats w = spread(9 * m.c, 3, DType::f32);
    compare_sides(type(), m.skew, tolerance(), [&](Side& side) {
      DepthwiseConv3BackwardArgs args{.dtype = side.type(),
                                      .map = m,
                                      .x = side.in(x),
                                      .weight = side.exact_in(w),
                                      .grad_y = side.in(g),
                                      .dx = side.out(m.size()),
                                      .dweight = side.exact_out(9 * m.c),
                                      .dbias = side.exact_out(m.c)};
      side.table().depthwise_conv3_backward(args);
      args.dx = nullptr, args.dbias = nullptr, args.dweight = side.exact_out(9 * m.c);
      side.table().depthwise_conv3_backward(args);
      args.dweight = nullptr, args.dbias = side.exact_out(m.c);
      side.table().depthwise_conv3_backward(args);
    });
  }
}

TEST_P(MapKernels, PatchesAndBack) {
  struct Patches {
    MapCase m;
    int64_t kh, kw, stride, pad_h, pad_w, dilation;
  };
  const Patches cases[] = {{{2, 8, 12, 3}, 4, 4, 4, 0, 0, 1},   {{2, 5, 6, 8}, 3, 3, 2, 1, 1, 1},
                           {{1, 7, 6, 16}, 3, 3, 1, 2, 2, 2},   {{1, 4, 9, 5}, 1, 5, 1, 0, 2, 1},
                           {{1, 5, 5, 8, 1}, 2, 2, 2, 0, 0, 1}, {{1, 2, 3, 40}, 3, 3, 1, 1, 1, 1}};
  for (const Patches& p : cases) {
    SCOPED_TRACE(concat(name(p.m), ", kernel ", p.kh, "x", p.kw));
    const PatchGeometry g{p.m.b, p.m.h,    p.m.w,   p.m.c,   p.kh,
                          p.kw,  p.stride, p.pad_h, p.pad_w, p.dilation};
    const int64_t n = g.batch * g.out_height() * g.out_width() * g.row_size();
    const Floats x = values(p.m.size(), 1), rows = values(n, 2);
    compare_sides(type(), p.m.skew, tolerance(), [&](Side& side) {
      side.table().im2col(
          {.dtype = side.type(), .geometry = g, .x = side.in(x), .rows = side.out(n)});
      side.table().col2im(
          {.dtype = side.type(), .geometry = g, .rows = side.in(rows), .x = side.out(p.m.size())});
    });
  }
}

}  // namespace
}  // namespace mullion::test
