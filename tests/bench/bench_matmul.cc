// Matrix products at the shapes of the two models, in GFLOP/s beside what the same threads reach
// in a loop of fused multiply-adds that never leaves the registers. One JSON line a shape; row
// vectors, which memory limits, are also given in GB/s of the matrix read.
//   bench_matmul [part of a name] [eigen|onednn]
#include <cstdio>
#include <cstring>
#include <string>

#include "tensor/backend.h"
#include "tensor/cpu/matmul.h"
#include "tensor/kernel_args/linear.h"
#include "tensor/parallel.h"
#include "tensor/random.h"
#include "tensor/tensor.h"
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

Tensor random_matrix(int64_t n, uint64_t stream, DType type) {
  Tensor x = Tensor::empty({n});
  Philox philox{1, stream};
  for (int64_t i = 0; i < n; ++i) x.data<float>()[i] = philox.uniform(-1, 1);
  return raw::cast(x, type);
}

void measure(const Product& p, double peak) {
  const Tensor a = random_matrix(p.batch * p.m * p.k, 1, DType::f32);
  const Tensor b = random_matrix(p.batch * p.k * p.n, 2, p.b_type);
  const Tensor bias = random_matrix(p.n, 3, DType::f32);
  Tensor c = Tensor::empty({p.batch * p.m * p.n});
  const MatmulArgs args{a.data<void>(),
                        b.data<void>(),
                        c.data<void>(),
                        p.bias ? bias.data<void>() : nullptr,
                        DType::f32,
                        p.b_type,
                        DType::f32,
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
                        p.allow_bf16};
  const double time = bench::shortest(0.15, [&] { kernels({}).matmul(args); });
  const double flops = 2.0 * static_cast<double>(p.batch * p.m) * static_cast<double>(p.n * p.k);
  std::printf(
      "{\"bench\": \"matmul\", \"shape\": \"%s\", \"us\": %.1f, \"gflops\": %.1f, "
      "\"of_f32_peak\": %.3f",
      p.name, time * 1e6, flops / time * 1e-9, flops / time * 1e-9 / peak);
  if (p.m <= 4) std::printf(", \"gb_per_s\": %.1f", static_cast<double>(b.bytes()) / time * 1e-9);
  std::printf("}\n");
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string part = argc > 1 ? argv[1] : "";
  if (argc > 2)
    set_matmul_backend(std::strcmp(argv[2], "eigen") == 0 ? MatmulBackend::eigen
                                                          : MatmulBackend::onednn);
  const double peak = bench::peak_gflops();
  std::printf("{\"bench\": \"peak\", \"threads\": %d, \"gflops\": %.1f}\n", num_threads(), peak);
  for (const Product& p : kProducts)
    if (std::string(p.name).find(part) != std::string::npos) measure(p, peak);
}
