// The ladders of docs/kernels.md: every rung of the matrix product with its epilogue, RMSNorm,
// attention and MSA-Conv, on the CPU or with --device cuda on a GPU, against what the machine can
// do, measured in the same run. One Markdown table a kernel; on the CPU the shortest of several
// runs, on a GPU the median. On one thread times are the processor's, which other work on the
// machine does not lengthen.
//   bench_ladder [seconds a rung] [threads] [--device cpu|cuda]
#include <cstdio>
#include <cstdlib>

#include "tensor/cpu/matmul.h"
#include "tensor/kernel_table.h"
#include "tests/bench/device.h"
#include "tests/bench/limits.h"
#include "tests/ladder/reference.h"
#include "tests/ladder/simple.h"
#include "tests/reference_attention.h"
#include "tests/reference_msa_conv.h"
#ifdef MULLION_LADDER_CUDA
#include "tensor/cuda/attention/attention_kernels.h"
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/msa_conv/msa_conv_plan.h"
#include "tests/cuda/ladder/ladder.h"
#endif

namespace {

using namespace mullion;
using test::Doubles;

double budget = 0.5;  // seconds a rung

// The work of a kernel, in 1e9 operations or bytes, and the most of it that a second allows.
struct Ladder {
  double work;
  const char* unit;
  double limit;

  void title(const std::string& text) const {
    std::printf("\n%s; limit %.0f %s\n\n| rung | ms | %s | of the limit |\n|---|---:|---:|---:|\n",
                text.c_str(), limit, unit, unit);
  }
  void rung(const char* name, double time) const {
    std::printf("| %s | %.3g | %.3g | %.2g |\n", name, time * 1e3, work / time,
                work / time / limit);
    std::fflush(stdout);
  }
  template <typename F>
  void on_cpu(const char* name, F f) const {
    rung(name, bench::shortest(budget, f));
  }
  template <typename F>
  void once(const char* name, F f) const {  // the references take long enough
    const double start = bench::seconds();
    f();
    rung(name, bench::seconds() - start);
  }
};

Tensor random(Shape shape, uint64_t stream, DType type = DType::f32, Device device = {}) {
  return bench::random_tensor(std::move(shape), stream, type, device);
}
Doubles doubles(const Tensor& x) {
  const float* first = x.data<float>();
  return Doubles(first, first + x.numel());
}

// x W^T + bias, and GELU in place.
void product_by_table(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) {
  const KernelTable& table = kernels(x.device());
  MatmulArgs args = bench::product_args(x, w, y);
  args.bias = bias.data<void>();
  table.matmul(args);
  table.unary[UnaryOps::Gelu](
      {.x = y.data<void>(), .y = y.data<void>(), .dtype = y.dtype(), .n = y.numel()});
}

void product_on_cpu(double peak) {
  const int64_t m = 512, n = 1536, k = 576;
  const Tensor x = random({m, k}, 1), w = random({n, k}, 2), bias = random({n}, 3);
  const Tensor y = Tensor::empty({m, n});
  const Ladder ladder{2e-9 * m * n * k, "GFLOP/s", peak};
  ladder.title(concat("gelu(x W^T + b), f32, ", m, " x ", n, " x ", k));
  ladder.once("reference: three loops, double, one thread",
              [&] { test::reference_product(doubles(x), doubles(w), doubles(bias), m, n, k); });
  ladder.on_cpu("simple: a row a thread, vectors along k", [&] {
    ladder::simple_product(x.data<float>(), w.data<float>(), bias.data<float>(), y.data<float>(), m,
                           n, k);
  });
  for (const auto& [name, backend] :
       {std::pair{"packed blocks in registers (Eigen)", MatmulBackend::eigen},
        std::pair{"generated code (oneDNN)", MatmulBackend::onednn}}) {
    if (backend == MatmulBackend::onednn && !has_onednn()) continue;
    set_matmul_backend(backend);
    ladder.on_cpu(name, [&] { product_by_table(x, w, bias, y); });
  }
  set_matmul_backend(MatmulBackend::automatic);
}

RmsNormArgs norm_args(const Tensor& x, const Tensor& w, const Tensor& y, const Tensor& rstd) {
  return {x.data<void>(), w.data<void>(), y.data<void>(), rstd.data<void>(),
          x.dtype(),      x.dim(0),       x.dim(1),       1e-5};
}

void norm_on_cpu(double copy) {
  const int64_t rows = 16384, width = 1024;
  const Tensor x = random({rows, width}, 1), w = random({width}, 2);
  const Tensor y = Tensor::empty({rows, width}), rstd = Tensor::empty({rows});
  const Ladder ladder{2e-9 * static_cast<double>(x.bytes()), "GB/s", copy};
  ladder.title(concat("RMSNorm, f32, ", rows, " rows of ", width));
  const Doubles xs = doubles(x), ws = doubles(w);
  ladder.once("reference: row after row, double, one thread",
              [&] { test::reference_rms_norm(xs, ws, 1e-5); });
  const RmsNormArgs args = norm_args(x, w, y, rstd);
  ladder.on_cpu("simple: rows over threads", [&] { ladder::simple_rms_norm(args); });
  ladder.on_cpu("tensor/cpu: four running registers", [&] { kernels(Device{}).rms_norm(args); });
}

// SF-Attn with groups of a quarter of the context.
struct Attention {
  AttentionPattern pattern;
  Tensor q, k, v, o, lse;
  AttentionForwardArgs args{};
  double work = 0;  // 4 D operations a visible pair

  Attention(int64_t tokens, int64_t heads, int64_t key_heads, int64_t width, DType type,
            Device device) {
    PatternOptions options;
    options.n_heads = heads, options.context = tokens;
    pattern = make_pattern("sf", options);
    q = random({tokens, heads * width}, 1, type, device);
    k = random({tokens, key_heads * width}, 2, type, device);
    v = random({tokens, key_heads * width}, 3, type, device);
    o = Tensor::empty(q.shape(), type, device);
    lse = Tensor::empty({heads * tokens}, DType::f32, device);
    args.size = {1, tokens, tokens,  heads, key_heads, width, 1 / std::sqrt(double(width)),
                 0, type,   &pattern};
    args.q = q.data<void>(), args.k = k.data<void>(), args.v = v.data<void>();
    args.o = o.data<void>(), args.lse = lse.data<void>();
    args.q_stride = args.o_stride = {q.numel(), heads * width, width};
    args.k_stride = args.v_stride = {k.numel(), key_heads * width, width};
    for (int64_t h = 0; h < heads; ++h)
      work += 4e-9 * static_cast<double>(width * visible_pairs(pattern, h, tokens));
  }
  Attention(const Attention&) = delete;
};

void attention_on_cpu(double peak) {
  const int64_t tokens = 1024, heads = 9, key_heads = 3, width = 64;
  const Attention a(tokens, heads, key_heads, width, DType::f32, {});
  const Ladder ladder{a.work, "GFLOP/s", peak};
  ladder.title(concat("SF-Attn forward, f32, ", tokens, " tokens, ", heads, "/", key_heads,
                      " heads of ", width, ", visible pairs counted"));
  test::ReferenceAttention r{};
  r.B = 1, r.T = r.S = tokens, r.H = heads, r.Hkv = key_heads, r.D = width;
  r.scale = a.args.size.scale, r.pattern = a.pattern;
  r.q = doubles(a.q), r.k = doubles(a.k), r.v = doubles(a.v);
  ladder.once("reference: every pair asks, double, one thread", [&] { r.forward(); });
  ladder.on_cpu("simple: a query a thread, every pair asks",
                [&] { ladder::simple_attention(a.args); });
  ladder.on_cpu("tensor/cpu: blocks of queries over key ranges, online softmax",
                [&] { kernels(Device{}).attention_forward(a.args); });
}

struct MsaConv {
  Tensor qkv, o, lse;
  MsaConvArgs args{};
  double work = 0;  // 4 k^2 C operations a pixel

  MsaConv(int64_t batch, int64_t size, int64_t heads, DType type, Device device) {
    MsaConvGeometry& g = args.geometry;
    g.batch = batch, g.height = g.width = size, g.heads = heads, g.head_dim = 32;
    g.kernel_h = g.kernel_w = 7, g.scale = 1 / std::sqrt(32.0);
    const int64_t C = heads * 32, pixels = batch * size * size;
    qkv = random({pixels, 3 * C}, 1, type, device);
    o = Tensor::empty({pixels, C}, type, device);
    lse = Tensor::empty({pixels * heads}, DType::f32, device);
    void* const begin = qkv.data<void>();
    auto* const first = static_cast<std::byte*>(begin);
    args.dtype = type, args.q = first, args.k = first + C * size_of(type);
    args.v = first + 2 * C * size_of(type), args.o = o.data<void>(), args.lse = lse.data<void>();
    args.q_stride = args.k_stride = args.v_stride = 3 * C, args.o_stride = C;
    work = 4e-9 * static_cast<double>(pixels * C * g.taps());
  }
};

void msa_conv_on_cpu(double peak) {
  const int64_t batch = 2, size = 28, heads = 6;
  const MsaConv m(batch, size, heads, DType::f32, {});
  const Ladder ladder{m.work, "GFLOP/s", peak};
  ladder.title(concat("MSA-Conv forward, f32, k = 7, ", batch, " maps of ", size, " x ", size,
                      " x ", 32 * heads));
  test::MsaReference r{m.args.geometry, {}, {}, {}, {}, {}, {}, {}, {}};
  const auto part = [&](int64_t i) {
    return doubles(raw::contiguous(raw::slice(m.qkv, 1, i * 32 * heads, (i + 1) * 32 * heads)));
  };
  r.q = part(0), r.k = part(1), r.v = part(2);
  ladder.once("reference: tap after tap, double, one thread", [&] { r.forward(); });
  ladder.on_cpu("simple: a pixel a thread", [&] { ladder::simple_msa_conv(m.args); });
  ladder.on_cpu("tensor/cpu: bands of planes, taps as vectors of pixels",
                [&] { kernels(Device{}).msa_conv(m.args); });
}

#ifdef MULLION_LADDER_CUDA

class GpuLadders {
 public:
  explicit GpuLadders(const bench::Where& where) : where_(where) {
    std::printf("\n%s\n", describe(where.device).c_str());
    const bench::DeviceLimits limits = bench::device_limits(where);
    peak_ = limits.gflops, copy_ = limits.gb_per_s;
    std::printf("\nproducts in bf16: %.0f GFLOP/s; copy: %.0f GB/s\n", peak_, copy_);
  }

  void products() const {
    const int64_t n = where_.smoke ? 64 : 4096;
    const Tensor x = random({n, n}, 3), w = random({n, n}, 4), y = raw::clone(x);
    const Tensor b = bench::random_tensor({n}, 5, DType::f32, where_.device);
    const ladder::ProductArgs product{.a = x.data<void>(),
                                      .w = w.data<void>(),
                                      .bias = b.data<float>(),
                                      .c = y.data<void>(),
                                      .m = n,
                                      .n = n,
                                      .k = n};
    const Ladder ladder{2e-9 * static_cast<double>(n * n * n), "GFLOP/s", peak_};
    ladder.title(concat("gelu(x W^T + b), bf16, ", n, "^3"));
    rung(ladder, "a thread an element", [&] { product_thread_an_element(product); });
    rung(ladder, "tiles of 32 x 32 in shared memory", [&] { product_shared_tiles(product); });
    rung(ladder, "tiles of 128 x 128 on tensor cores", [&] { product_tensor_cores(product); });
    rung(ladder, "tensor/cuda: cuBLASLt, GELU by itself", [&] { product_by_table(x, w, b, y); });
  }

  void norms() const {
    const int64_t rows = where_.smoke ? 4 : 16384, width = where_.smoke ? 64 : 4096;
    const Tensor x = random({rows, width}, 6), y = raw::clone(x);
    const Tensor weight = bench::random_tensor({width}, 7, DType::f32, where_.device);
    const Tensor rstd = Tensor::empty({rows}, DType::f32, where_.device);
    const RmsNormArgs args = norm_args(x, weight, y, rstd);
    const Ladder ladder{2e-9 * static_cast<double>(x.bytes()), "GB/s", copy_};
    ladder.title(concat("RMSNorm, bf16, ", rows, " rows of ", width));
    rung(ladder, "a thread a row", [&] { ladder::rms_norm_thread_a_row(args); });
    rung(ladder, "a warp a row", [&] { ladder::rms_norm_warp_a_row(args); });
    rung(ladder, "a block a row, 16 bytes a load", [&] { ladder::rms_norm_block_a_row(args); });
    rung(ladder, "tensor/cuda: the row in registers", [&] { table().rms_norm(args); });
  }

  void attention() const {
    const int64_t tokens = where_.smoke ? 64 : 8192, heads = where_.smoke ? 4 : 32;
    const Attention a(tokens, heads, heads, 128, DType::bf16, where_.device);
    const Ladder ladder{a.work, "GFLOP/s", peak_};
    ladder.title(concat("SF-Attn forward, bf16, ", tokens, " tokens, ", heads,
                        " heads of 128, visible pairs counted"));
    rung(ladder, "tensor/cuda: the simple kernel", [&] { cuda::simple_forward(a.args); });
    rung(ladder, "tensor/cuda: tensor cores", [&] { table().attention_forward(a.args); });
  }

  void msa_conv() const {
    const int64_t batch = where_.smoke ? 1 : 128, size = where_.smoke ? 8 : 56;
    const MsaConv m(batch, size, 3, DType::bf16, where_.device);
    const Ladder ladder{4e-9 * static_cast<double>(m.o.bytes()), "GB/s", copy_};
    ladder.title(concat("MSA-Conv forward, bf16, k = 7, ", batch, " maps of ", size, " x ", size,
                        " x 96, q, k, v and o counted once"));
    rung(ladder, "tensor/cuda: the simple kernel", [&] { cuda::msa_conv_simple(m.args); });
    rung(ladder, "tensor/cuda: tiles, tensor cores", [&] { table().msa_conv(m.args); });
  }

 private:
  const KernelTable& table() const { return kernels(where_.device); }
  Tensor random(Shape shape, uint64_t stream) const {
    return bench::random_tensor(std::move(shape), stream, DType::bf16, where_.device);
  }
  template <typename F>
  void rung(const Ladder& ladder, const char* name, F f) const {
    ladder.rung(name, bench::time_on_device(where_, budget, f).median);
  }

  bench::Where where_;
  double peak_, copy_;
};

void ladders_on_gpu(bench::Where where) {
  where.amp = "bf16";
  const GpuLadders ladders(where);
  ladders.products();
  ladders.norms();
  ladders.attention();
  ladders.msa_conv();
}

#else

void ladders_on_gpu(const bench::Where&) {}  // no such device in this build

#endif

void ladders_on_cpu() {
  const double peak = bench::peak_gflops(), copy = bench::copy_gb_per_s();
  std::printf("threads: %d; multiply-adds %.0f GFLOP/s, copy %.1f GB/s\n", num_threads(), peak,
              copy);
  product_on_cpu(peak);
  norm_on_cpu(copy);
  attention_on_cpu(peak);
  msa_conv_on_cpu(peak);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, [](int count, char** values, const bench::Where& where) {
    if (count > 1) budget = std::atof(values[1]);
    if (count > 2) set_num_threads(std::atoi(values[2]));
    where.on_cpu() ? ladders_on_cpu() : ladders_on_gpu(where);
  });
}
