// Pooling and convolutions on maps (B, H, W, C). A general convolution is one matrix product over
// the windows as rows; the windows are made again in the backward instead of being kept.
#include "autograd/ops.h"
#include "autograd/ops/common.h"

namespace mullion {
using namespace detail;  // NOLINT

namespace {

MapSize size_of_map(std::string_view op, const Tensor& x) {
  const auto [B, H, W, C] = dims<4>(op, "a map", x);
  return {B, H, W, C};
}
Shape shape_of(const MapSize& s) { return {s.batch, s.height, s.width, s.channels}; }
const std::vector<int> kTapMajor = {0, 2, 3, 1};      // (out, C, kh, kw) -> (out, kh, kw, C)
const std::vector<int> kChannelMajor = {0, 3, 1, 2};  // and back

}  // namespace

// dx is g where x was its cell's (first) maximum, 0 elsewhere
Tensor max_pool2x2(const Tensor& x_in) {
  const OpScope scope("max_pool2x2");
  const Tensor x = raw::contiguous(x_in);
  const MapSize s = size_of_map("max_pool2x2", x);
  const Shape pooled = shape_of(s.pooled(2));
  const Tensor y = empty(pooled, x), chosen = Tensor::empty(pooled, DType::u8, x.device());
  table(x).max_pool2({.dtype = x.dtype(),
                      .map = s,
                      .x = x.data<void>(),
                      .y = y.data<void>(),
                      .chosen = chosen.data<uint8_t>()});
  return record("max_pool2x2", y, {x_in}, [chosen, s](const Tensor& g) -> Gradients {
    const Tensor dx = empty(shape_of(s), g);
    table(g).max_pool2_backward({.dtype = g.dtype(),
                                 .map = s,
                                 .grad_y = g.data<void>(),
                                 .chosen = chosen.data<uint8_t>(),
                                 .dx = dx.data<void>()});
    return {dx};
  });
}

// dx is g / (size of the cell)
Tensor avg_pool(const Tensor& x_in, int64_t r) {
  const OpScope scope("avg_pool");
  CHECK(r > 0, "avg_pool: cells of side ", r);
  const Tensor x = raw::contiguous(x_in);
  const MapSize s = size_of_map("avg_pool", x);
  const Tensor y = empty(shape_of(s.pooled(r)), x);
  table(x).average_pool({.dtype = x.dtype(),
                         .map = s,
                         .ratio = r,
                         .x = x.data<void>(),
                         .y = y.data<void>(),
                         .x_stride = s.channels,
                         .y_stride = s.channels});
  return record("avg_pool", y, {x_in}, [s, r](const Tensor& g) -> Gradients {
    const Tensor dx = empty(shape_of(s), g);
    table(g).average_pool_backward({.dtype = g.dtype(),
                                    .map = s,
                                    .ratio = r,
                                    .grad_y = g.data<void>(),
                                    .dx = dx.data<void>(),
                                    .grad_y_stride = s.channels,
                                    .dx_stride = s.channels});
    return {dx};
  });
}

// y_c(r) = b_c + sum_t w_ct x_c(r + t): dx_c(r) = sum_t w_ct g_c(r - t), dw_ct = sum_r g_c x_c(r +
// t)
Tensor depthwise_conv3x3(const Tensor& x_in, const Tensor& weight, const Tensor& bias) {
  const OpScope scope("depthwise_conv3x3");
  const Tensor x = raw::contiguous(x_in), w = raw::contiguous(weight), b = raw::contiguous(bias);
  const MapSize s = size_of_map("depthwise_conv3x3", x);
  CHECK(weight.shape() == (Shape{s.channels, 1, 3, 3}) && bias.shape() == Shape{s.channels},
        "depthwise_conv3x3: weight of shape ", weight.shape(), " and bias of shape ", bias.shape(),
        " for a map of shape ", x.shape());
  check_exact_dtype("depthwise_conv3x3", x, weight);
  check_exact_dtype("depthwise_conv3x3", x, bias);
  const Tensor y = empty_like(x);
  table(x).depthwise_conv3({.dtype = x.dtype(),
                            .map = s,
                            .x = x.data<void>(),
                            .weight = w.data<void>(),
                            .bias = b.data<void>(),
                            .y = y.data<void>()});
  return record("depthwise_conv3x3", y, {x_in, weight, bias},
                [x = detached(x), w = detached(w), s](const Tensor& g) -> Gradients {
                  const Tensor dx = empty_like(x), dw = empty_like(w),
                               db = empty_exact({s.channels}, x);
                  table(g).depthwise_conv3_backward({.dtype = g.dtype(),
                                                     .map = s,
                                                     .x = x.data<void>(),
                                                     .weight = w.data<void>(),
                                                     .grad_y = g.data<void>(),
                                                     .dx = dx.data<void>(),
                                                     .dweight = dw.data<void>(),
                                                     .dbias = db.data<void>()});
                  return {dx, dw, db};
                });
}

// With X the windows as rows: y = X W^T, dW = g^T X, dx = the windows of g W put back
Tensor conv2d(const Tensor& x_in, const Tensor& weight, int64_t stride, int64_t dilation) {
  const OpScope scope("conv2d");
  const Tensor x = raw::contiguous(x_in);
  const auto [B, H, W, channels] = dims<4>("conv2d", "a map", x);
  const auto [out, C, kh, kw] = dims<4>("conv2d", "weight", weight);
  CHECK(C == channels, "conv2d: weight of shape ", weight.shape(), " for a map of shape ",
        x.shape());
  check_weight_type("conv2d", x, weight);
  const PatchGeometry p{
      B, H, W, C, kh, kw, stride, dilation * (kh - 1) / 2, dilation * (kw - 1) / 2, dilation};
  check_patches(p);
  const Shape result{B, p.out_height(), p.out_width(), out};
  const int64_t pixels = result[0] * result[1] * result[2];
  const Tensor w = raw::reshape(raw::permute(weight, kTapMajor), {out, p.row_size()});
  const auto windows = [p, pixels](const Tensor& map) {
    const Tensor rows = empty({pixels, p.row_size()}, map);
    table(map).im2col(
        {.dtype = map.dtype(), .geometry = p, .x = map.data<void>(), .rows = rows.data<void>()});
    return rows;
  };
  const Tensor y = empty({pixels, out}, x);
  multiply(windows(x), w, y, {.transpose_b = true});
  return record(
      "conv2d", raw::reshape(y, result), {x_in, weight},
      [x = detached(x), w, windows, p, kernel = weight.shape(), pixels,
       need_x = requires_grad(x_in), need_w = requires_grad(weight)](const Tensor& g) -> Gradients {
        const Tensor rows = raw::reshape(g, {pixels, w.dim(0)});
        Gradients gradients(2);
        if (need_x) {
          const Tensor patches = empty({pixels, w.dim(1)}, g);
          multiply(rows, w, patches);
          gradients[0] = empty_like(x);
          table(g).col2im({.dtype = g.dtype(),
                           .geometry = p,
                           .rows = patches.data<void>(),
                           .x = gradients[0].data<void>()});
        }
        if (need_w) {
          const Tensor dw = empty_like(w);
          multiply(rows, windows(x), dw, {.transpose_a = true});
          gradients[1] = raw::permute(
              raw::reshape(dw, {kernel[0], kernel[2], kernel[3], kernel[1]}), kChannelMajor);
        }
        return gradients;
      });
}

}  // namespace mullion
