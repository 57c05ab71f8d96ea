// MSA-Conv alone at the shapes of the TiC presets' stages: GFLOP/s (4 and 14 k^2 C floating-point
// operations a pixel, forward and both) and images/s, the best of several runs. One JSON line each.
//   bench_msa_conv [--threads N] [--cpu-time] [name filter]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <random>

#include "tensor/kernel_args/msa_conv.h"
#include "tensor/parallel.h"
#include "tensor/storage.h"

namespace {

using mullion::MsaConvGeometry;

struct Shape {
  const char* name;
  int64_t batch, size, heads, head_dim, kernel;
};
constexpr Shape kShapes[] = {
    {"tic-n stage 0", 64, 16, 2, 16, 5},   {"tic-n stage 1", 64, 8, 4, 16, 5},
    {"tic-n stage 2", 64, 4, 8, 16, 5},    {"tic-t stage 0", 2, 56, 3, 32, 7},
    {"tic-t stage 1", 4, 28, 6, 32, 7},    {"tic-t stage 2", 8, 14, 12, 32, 7},
    {"tic-t stage 3", 16, 7, 24, 32, 7},   {"tic-rel-t stage 0", 2, 56, 1, 96, 3},
    {"depthwise stage 0", 2, 56, 96, 1, 7}};

bool cpu_time = false;

// Seconds on the clock, or of processor time where other programs share the cores.
double now() {
  if (cpu_time) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <typename F>
double best_seconds(const F& f) {
  double best = 1e9, total = 0;
  for (int i = 0; i < 50 && (i < 5 || total < 1.0); ++i) {
    const double start = now();
    f();
    const double seconds = now() - start;
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

class Floats {  // with the alignment and the pages of a tensor
 public:
  explicit Floats(int64_t n) : storage_(n * 4, {}) {}
  float* data() const { return reinterpret_cast<float*>(storage_.data()); }

 private:
  mullion::Storage storage_;
};

void bench(const Shape& shape, bool shifted) {
  MsaConvGeometry g;
  g.batch = shape.batch;
  g.height = g.width = shape.size;
  g.heads = shape.heads;
  g.head_dim = shape.head_dim;
  g.kernel_h = g.kernel_w = shape.kernel;
  g.scale = 0.25;
  g.shift = shifted ? mullion::MsaShift::directions : mullion::MsaShift::none;
  g.shift_size = shape.kernel;
  const int64_t c = g.heads * g.head_dim, pixels = g.batch * g.height * g.width;
  const Floats qkv(3 * pixels * c), dqkv(3 * pixels * c), o(pixels * c), grad(pixels * c);
  const Floats lse(pixels * g.heads);
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < 3 * pixels * c; ++i) qkv.data()[i] = normal(engine);
  for (int64_t i = 0; i < pixels * c; ++i) grad.data()[i] = normal(engine);

  const float* q = qkv.data();
  float* dq = dqkv.data();
  const mullion::MsaConvArgs forward{
      g, mullion::DType::f32, q, q + c, q + 2 * c, 3 * c, 3 * c, 3 * c, o.data(), c, lse.data()};
  const mullion::MsaConvBackwardArgs backward{
      g,          mullion::DType::f32, q, q + c, q + 2 * c, 3 * c,  3 * c,      3 * c, o.data(),
      lse.data(), grad.data(),         c, c,     dq,        dq + c, dq + 2 * c, 3 * c, 3 * c,
      3 * c};
  const double forward_s = best_seconds([&] { mullion::cpu::msa_conv(forward); });
  const double backward_s = best_seconds([&] { mullion::cpu::msa_conv_backward(backward); });
  const double flop = static_cast<double>(pixels * c * g.taps()), both = forward_s + backward_s;
  const auto images = static_cast<double>(g.batch);
  std::printf(
      "{\"bench\": \"msa_conv\", \"shape\": \"%s\", \"shift\": %s, \"threads\": %d, "
      "\"fwd_gflops\": %.1f, \"fwd_bwd_gflops\": %.1f, \"bwd_gflops\": %.1f, "
      "\"fwd_images_s\": %.0f, \"fwd_bwd_images_s\": %.0f}\n",
      shape.name, shifted ? "true" : "false", mullion::num_threads(), 4e-9 * flop / forward_s,
      14e-9 * flop / both, 10e-9 * flop / backward_s, images / forward_s, images / both);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const char* filter = "";
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
      mullion::set_num_threads(std::atoi(argv[++i]));
    else if (std::strcmp(argv[i], "--cpu-time") == 0)
      cpu_time = true;
    else
      filter = argv[i];
  }
  for (const Shape& shape : kShapes)
    if (std::strstr(shape.name, filter))
      for (bool shifted : {false, true}) bench(shape, shifted);
  return 0;
}
