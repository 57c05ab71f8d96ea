// Arguments of the local, convolution-like kernels of TiC: pooling, the depthwise 3x3 convolution
// and the unfolding of patches. Maps are contiguous NHWC; dtype is f32 or f64 on the CPU, f32 or
// bf16 on a GPU, for every pointer but those of the depthwise weights, which are f32 beside bf16.
#pragma once
#include <cstdint>

#include "tensor/dtype.h"

namespace mullion {

struct MapSize {
  int64_t batch = 0, height = 0, width = 0, channels = 0;

  // Of what cells of r x r are pooled to, those at the edges cut off.
  MapSize pooled(int64_t r) const {
    return {batch, (height + r - 1) / r, (width + r - 1) / r, channels};
  }
};

// MaxPool 2x2, stride 2: y is (B, ceil(H/2), ceil(W/2), C); a window at an odd edge is cut off.
// `chosen` (like y, u8) gets the position of the maximum in its window, 2 dy + dx; the first of
// equals, and a NaN wins. It may be null where no backward follows.
struct MaxPool2Args {
  DType dtype;
  MapSize map;  // of x
  const void* x;
  void* y;
  uint8_t* chosen = nullptr;
};
struct MaxPool2BackwardArgs {
  DType dtype;
  MapSize map;  // of dx
  const void* grad_y;
  const uint8_t* chosen;
  void* dx;
};

// Mean over r x r with stride r: y is (B, ceil(H/r), ceil(W/r), C). A window cut off at the edge is
// divided by the pixels it has. x and y may have pixels further apart than C elements.
struct AveragePoolArgs {
  DType dtype;
  MapSize map;  // of x
  int64_t ratio;
  const void* x;
  void* y;
  int64_t x_stride, y_stride;  // between pixels
};
struct AveragePoolBackwardArgs {
  DType dtype;
  MapSize map;  // of dx
  int64_t ratio;
  const void* grad_y;
  void* dx;
  int64_t grad_y_stride, dx_stride;
};

// Depthwise 3x3 convolution, padding 1: y(r, c) = bias(c) + sum over t of weight(c, t) x(r + d_t,
// c). weight is (C, 3, 3) as in PyTorch's (C, 1, 3, 3); bias (C) may be null. Weight, bias and
// their gradients are f32 where dtype is bf16.
struct DepthwiseConv3Args {
  DType dtype;
  MapSize map;
  const void *x, *weight, *bias = nullptr;
  void* y;
};
// dx, dweight and dbias may each be null where it is not wanted.
struct DepthwiseConv3BackwardArgs {
  DType dtype;
  MapSize map;
  const void *x, *weight, *grad_y;
  void *dx = nullptr, *dweight = nullptr, *dbias = nullptr;
};

// The geometry of a convolution as a matrix product: rows (B, Ho, Wo), columns (kh, kw, C) with
// Ho = (H + 2 pad - kh) / stride + 1. With stride = kernel and no padding it cuts patches.
struct PatchGeometry {
  int64_t batch = 0, height = 0, width = 0, channels = 0;
  int64_t kernel_h = 1, kernel_w = 1, stride = 1, pad_h = 0, pad_w = 0, dilation = 1;

  int64_t out_height() const {
    return (height + 2 * pad_h - dilation * (kernel_h - 1) - 1) / stride + 1;
  }
  int64_t out_width() const {
    return (width + 2 * pad_w - dilation * (kernel_w - 1) - 1) / stride + 1;
  }
  int64_t row_size() const { return kernel_h * kernel_w * channels; }
};
// rows = the window of each output pixel, zeros outside the map.
struct Im2ColArgs {
  DType dtype;
  PatchGeometry geometry;
  const void* x;  // (B, H, W, C)
  void* rows;     // (B, Ho, Wo, kh, kw, C)
};
// x = the sum of all row elements that came from each pixel: the transpose of im2col.
struct Col2ImArgs {
  DType dtype;
  PatchGeometry geometry;
  const void* rows;
  void* x;
};
// Throws Error (Fault::usage) where a size is below 1 or the kernel does not fit the padded map.
void check_patches(const PatchGeometry& geometry);

}  // namespace mullion

// Their kernels (tensor/kernel_table.h): result, name, arguments.
#define MULLION_POOLING_KERNELS(KERNEL)                              \
  KERNEL(void, max_pool2, MaxPool2Args)                              \
  KERNEL(void, max_pool2_backward, MaxPool2BackwardArgs)             \
  KERNEL(void, average_pool, AveragePoolArgs)                        \
  KERNEL(void, average_pool_backward, AveragePoolBackwardArgs)       \
  KERNEL(void, depthwise_conv3, DepthwiseConv3Args)                  \
  KERNEL(void, depthwise_conv3_backward, DepthwiseConv3BackwardArgs) \
  KERNEL(void, im2col, Im2ColArgs)                                   \
  KERNEL(void, col2im, Col2ImArgs)
