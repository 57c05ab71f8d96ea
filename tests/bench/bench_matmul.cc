// Matrix products at the shapes of the two models, in GFLOP/s beside what the same threads reach
// in a loop of fused multiply-adds that never leaves the registers. One JSON line a shape; row
// vectors, which memory limits, are also given in GB/s of the matrix read. On a device beside what
// it reaches at 8192^3 in the same precision: f32, TF32 or all three matrices in bf16 (--amp).
//   bench_matmul [part of a name] [eigen|onednn] [--device cpu|cuda] [--amp off|tf32|bf16]
#include <cstdio>
#include <cstring>
#include <string>

#include "tensor/cpu/matmul.h"
#include "tensor/kernel_table.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"
#include "tests/bench/device.h"
#include "tests/bench/limits.h"

using namespace mullion;

namespace {

struct Product {
  const char* name;
  int64_t m, n, k;
  bool transpose_a, transpose_b;
  bool bias = false;
  DType b_type = DType::f32;
  bool allow_bf16 = false;
  int64_t batch = 1;
};

constexpr bool kN = false, kT = true;
const Product kProducts[] = {
    {"llama x W^T 512x576x576", 512, 576, 576, kN, kT},
    {"llama x W^T 512x576x1536", 512, 1536, 576, kN, kT},
    {"llama x W^T 512x1536x576", 512, 576, 1536, kN, kT},
    {"llama x W^T 512x576x192", 512, 192, 576, kN, kT},
    {"llama x W^T 2048x576x576", 2048, 576, 576, kN, kT},
    {"llama x W^T 2048x576x1536", 2048, 1536, 576, kN, kT},
    {"llama logits 512x576x49152", 512, 49152, 576, kN, kT},
    {"llama g W 512x576x576", 512, 576, 576, kN, kN},
    {"llama g W 512x1536x576", 512, 576, 1536, kN, kN},
    {"llama g W 512x49152x576", 512, 576, 49152, kN, kN},
    {"llama g^T x 576x2048x576", 576, 576, 2048, kT, kN},
    {"llama g^T x 1536x512x576", 1536, 576, 512, kT, kN},
    {"llama bf16 W 512x576x1536", 512, 1536, 576, kN, kT, false, DType::bf16},
    {"llama bf16 W 2048x576x1536", 2048, 1536, 576, kN, kT, false, DType::bf16},
    {"llama bf16 logits 512x576x49152", 512, 49152, 576, kN, kT, false, DType::bf16},
    {"llama bf16 g W 512x1536x576", 512, 576, 1536, kN, kN, false, DType::bf16},
    {"llama bf16 both 512x576x1536", 512, 1536, 576, kN, kT, false, DType::bf16, true},
    {"llama bf16 both 2048x576x1536", 2048, 1536, 576, kN, kT, false, DType::bf16, true},
    {"llama bf16 both logits 512x576x49152", 512, 49152, 576, kN, kT, false, DType::bf16, true},
    {"llama bf16 both g W 512x1536x576", 512, 576, 1536, kN, kN, false, DType::bf16, true},
    {"lora x A^T 512x576x8", 512, 8, 576, kN, kT},
    {"lora h B^T 512x8x576", 512, 576, 8, kN, kT},
    {"lora h B^T 512x8x1536", 512, 1536, 8, kN, kT},
    {"lora g B 512x576x8", 512, 8, 576, kN, kN},
    {"lora gh A 512x8x576", 512, 576, 8, kN, kN},
    {"lora dA 8x512x576", 8, 576, 512, kT, kN},
    {"lora dB 576x512x8", 576, 8, 512, kT, kN},
    {"tic qkv 16384x32x96", 16384, 96, 32, kN, kT, true},
    {"tic mlp 16384x32x128", 16384, 128, 32, kN, kT, true},
    {"tic mlp 16384x128x32", 16384, 32, 128, kN, kT, true},
    {"tic mlp 4096x64x256", 4096, 256, 64, kN, kT, true},
    {"tic mlp 1024x128x512", 1024, 512, 128, kN, kT, true},
    {"tic g W 16384x96x32", 16384, 32, 96, kN, kN},
    {"tic g W 4096x256x64", 4096, 64, 256, kN, kN},
    {"tic g W 1024x512x128", 1024, 128, 512, kN, kN},
    {"tic dW 96x16384x32", 96, 32, 16384, kT, kN},
    {"tic dW 128x16384x32", 128, 32, 16384, kT, kN},
    {"tic dW 256x4096x64", 256, 64, 4096, kT, kN},
    {"tic dW 512x1024x128", 512, 128, 1024, kT, kN},
    {"attention 64 x 128x64x128", 128, 128, 64, kN, kT, false, DType::f32, false, 64},
    {"decode 1x576x576", 1, 576, 576, kN, kT},
    {"decode 1x576x1536", 1, 1536, 576, kN, kT},
    {"decode 1x1536x576", 1, 576, 1536, kN, kT},
    {"decode 1x576x49152", 1, 49152, 576, kN, kT},
    {"decode 4x576x49152", 4, 49152, 576, kN, kT},
    {"decode bf16 1x576x1536", 1, 1536, 576, kN, kT, false, DType::bf16},
    {"decode bf16 1x576x49152", 1, 49152, 576, kN, kT, false, DType::bf16},
    {"decode bf16 4x576x49152", 4, 49152, 576, kN, kT, false, DType::bf16},
    {"cube 1024", 1024, 1024, 1024, kN, kN},
};
// Of a LLaMA of 7B, of TiC-T at batch 128, and cubes: for a device.
const Product kLargeProducts[] = {
    {"7b x W^T 8192x4096x4096", 8192, 4096, 4096, kN, kT},
    {"7b x W^T 8192x4096x11008", 8192, 11008, 4096, kN, kT},
    {"7b x W^T 8192x11008x4096", 8192, 4096, 11008, kN, kT},
    {"7b g W 8192x4096x4096", 8192, 4096, 4096, kN, kN},
    {"7b g W 8192x11008x4096", 8192, 4096, 11008, kN, kN},
    {"7b logits 2048x4096x32000", 2048, 32000, 4096, kN, kT},
    {"7b lora x A^T 8192x4096x8", 8192, 8, 4096, kN, kT},
    {"7b lora h B^T 8192x8x4096", 8192, 4096, 8, kN, kT},
    {"7b lora dA 8x8192x4096", 8, 4096, 8192, kT, kN},
    {"7b decode 1x4096x11008", 1, 11008, 4096, kN, kT},
    {"7b decode 1x4096x32000", 1, 32000, 4096, kN, kT},
    {"tic-t qkv 401408x96x288", 401408, 288, 96, kN, kT, true},
    {"tic-t mlp 401408x96x384", 401408, 384, 96, kN, kT, true},
    {"tic-t mlp 25088x384x1536", 25088, 1536, 384, kN, kT, true},
    {"tic-t dW 384x401408x96", 384, 96, 401408, kT, kN},
    {"cube 4096", 4096, 4096, 4096, kN, kT},
    {"cube 8192", 8192, 8192, 8192, kN, kT},
};

// The operands of a product, and its arguments. `type` is that of activations.
struct Operands {
  Tensor a, b, bias, c;

  Operands(const Product& p, DType type, Device device)
      : a(bench::random_tensor({p.batch * p.m * p.k}, 1, type, device)),
        b(bench::random_tensor({p.batch * p.k * p.n}, 2, type == DType::bf16 ? type : p.b_type,
                               device)),
        bias(bench::random_tensor({p.n}, 3, DType::f32, device)),
        c(Tensor::empty({p.batch * p.m * p.n}, type, device)) {}

  MatmulArgs args(const Product& p) const {
    return {a.data<void>(),
            b.data<void>(),
            c.data<void>(),
            p.bias ? bias.data<void>() : nullptr,
            a.dtype(),
            b.dtype(),
            c.dtype(),
            p.batch,
            p.m,
            p.n,
            p.k,
            p.transpose_a,
            p.transpose_b,
            p.transpose_a ? p.m : p.k,
            p.transpose_b ? p.k : p.n,
            p.n,
            p.m * p.k,
            p.k * p.n,
            p.m * p.n,
            1,
            0,
            p.allow_bf16,
            product_precision().tf32};
  }
};

double gflop_of(const Product& p) {
  return 2e-9 * static_cast<double>(p.batch * p.m) * static_cast<double>(p.n * p.k);
}

void measure(const Product& p, double peak) {
  const Operands operands(p, DType::f32, {});
  const MatmulArgs args = operands.args(p);
  const double time = bench::shortest(0.15, [&] { kernels({}).matmul(args); });
  const double rate = gflop_of(p) / time;
  std::printf(
      "{\"bench\": \"matmul\", \"shape\": \"%s\", \"us\": %.1f, \"gflops\": %.1f, "
      "\"of_f32_peak\": %.3f",
      p.name, time * 1e6, rate, rate / peak);
  if (p.m <= 4)
    std::printf(", \"gb_per_s\": %.1f", static_cast<double>(operands.b.bytes()) / time * 1e-9);
  std::printf("}\n");
  std::fflush(stdout);
}

void measure_on_device(const Product& p, const bench::Where& where,
                       const bench::DeviceLimits& limits) {
  const Operands operands(p, where.type(), where.device);
  const MatmulArgs args = operands.args(p);
  const bench::Spread time =
      bench::time_on_device(where, 0.5, [&] { kernels(where.device).matmul(args); });
  // The longer of what products and what memory allow; each operand moves once.
  const double bytes =
      static_cast<double>(operands.a.bytes() + operands.b.bytes() + operands.c.bytes());
  const double roof = std::max(gflop_of(p) / limits.gflops, 1e-9 * bytes / limits.gb_per_s);
  std::printf(
      "{\"bench\": \"matmul\", %s, \"shape\": \"%s\", \"us\": %.1f, \"us_min\": %.1f, "
      "\"us_max\": %.1f, \"gflops\": %.0f, \"gb_per_s\": %.0f, \"of_roof\": %.3f}\n",
      where.json().c_str(), p.name, time.median * 1e6, time.least * 1e6, time.most * 1e6,
      gflop_of(p) / time.median, 1e-9 * bytes / time.median, roof / time.median);
  std::fflush(stdout);
}

void run(int argc, char** argv, const bench::Where& where) {
  const std::string part = where.smoke ? "lora" : argc > 1 ? argv[1] : "";
  if (argc > 2)
    set_matmul_backend(std::strcmp(argv[2], "eigen") == 0 ? MatmulBackend::eigen
                                                          : MatmulBackend::onednn);
  const auto each = [&](const auto& products, auto f) {
    for (const Product& p : products)
      if (std::string(p.name).find(part) != std::string::npos) f(p);
  };
  if (!where.on_cpu()) {
    const bench::DeviceLimits limits = bench::print_limits("matmul", where);
    const auto measure_it = [&](const Product& p) { measure_on_device(p, where, limits); };
    each(kProducts, measure_it);
    if (!where.smoke) each(kLargeProducts, measure_it);
    return;
  }
  const double peak = bench::peak_gflops();
  std::printf("{\"bench\": \"peak\", \"threads\": %d, \"gflops\": %.1f}\n", num_threads(), peak);
  each(kProducts, [&](const Product& p) { measure(p, peak); });
}

}  // namespace

int main(int argc, char** argv) { return bench::run(argc, argv, run); }
