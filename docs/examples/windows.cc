// MSA-Conv on a picture, without any training: with q = k = v = a pixel's colour, each pixel
// becomes a mean of its window weighted by how much the others look like it. That smooths noise and
// keeps edges, which an average over the same window (printed beside it) does not: attention inside
// a convolution, seen by itself. Writes windows.png: the noisy picture, the average, MSA-Conv.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "autograd/ops.h"
#include "data/png.h"
#include "tensor/kernel_args/msa_conv.h"
#include "tensor/random.h"

using namespace mullion;

constexpr int kSide = 96;

// A bright disc on a dark ground, channels in [-1, 1], and what it looks like with noise.
float clean(int y, int x) { return std::hypot(y - 48, x - 48) < 30 ? 1.f : -1.f; }

double error(const Tensor& map) {
  const auto values = map.to_vector<float>();
  double sum = 0;
  for (int i = 0; i < kSide * kSide; ++i)
    sum += std::pow(values[static_cast<size_t>(3 * i)] - clean(i / kSide, i % kSide), 2);
  return std::sqrt(sum / (kSide * kSide));
}

int main() {
  std::vector<float> noisy;
  Philox random{.seed = 1};
  for (int i = 0; i < kSide * kSide * 3; ++i)
    noisy.push_back(clean(i / 3 / kSide, i / 3 % kSide) + 0.4f * random.normal());
  const Tensor x = Tensor::from(noisy, {1, kSide, kSide, 3});  // (B, H, W, C)

  MsaConvGeometry geometry;
  geometry.heads = 1, geometry.head_dim = 3;
  geometry.kernel_h = geometry.kernel_w = 7;
  geometry.border = MsaBorder::masked;
  geometry.scale = 0;  // every logit 0: the plain average of the window
  const Tensor average = msa_conv(x, x, x, geometry);
  geometry.scale = 0.5;  // the larger, the more only the alike count
  const Tensor attended = msa_conv(x, x, x, geometry);
  std::printf("distance from the clean picture: noisy %.3f, average %.3f, MSA-Conv %.3f\n",
              error(x), error(average), error(attended));

  Image image;
  image.resize(3 * kSide, kSide);
  const Tensor maps[] = {x, average, attended};
  for (int m = 0; m < 3; ++m) {
    const auto values = maps[m].to_vector<float>();
    for (int i = 0; i < kSide * kSide * 3; ++i) {
      const float level = std::clamp(127.5f + 80 * values[static_cast<size_t>(i)], 0.f, 255.f);
      image.row(i / 3 / kSide)[3 * (m * kSide + i / 3 % kSide) + i % 3] =
          static_cast<uint8_t>(level);
    }
  }
  write_png("windows.png", image);
  return error(attended) < error(average) ? 0 : 1;
}
