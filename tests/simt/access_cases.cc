// A function a family of kernels, at sizes small enough for a test.
#include "tests/simt/access_cases.h"

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "optim/optimizer.h"
#include "tensor/attention_pattern.h"
#include "tensor/kernel_args/msa_conv.h"
#include "tests/bench/device.h"

namespace mullion::test {
namespace {

constexpr Device kCuda{DeviceType::cuda, 0};

Tensor random(const Shape& shape, uint64_t stream, DType type) {
  Tensor x = bench::random_tensor(shape, stream, type, kCuda);
  if (grad_enabled()) set_requires_grad(x, true);
  return x;
}

AttentionPattern pattern_of(const char* name, int64_t heads, int64_t tokens) {
  PatternOptions options;
  options.n_heads = heads, options.context = tokens;
  return make_pattern(name, options);
}

std::string suffix(DType type) { return concat(" ", name_of(type)); }

class Cases {
 public:
  explicit Cases(std::string part) : part_(std::move(part)) {}
  std::map<std::string, simt::KernelAccesses> run();

 private:
  // Counts what f() and the backward of its result launch; of it the kernels whose names begin so.
  // f() makes its inputs itself: a case that is not asked for costs nothing.
  void count(const std::string& name, const std::vector<std::string>& kernels,
             const std::function<Tensor()>& f) {
    if (name.find(part_) == std::string::npos) return;
    const simt::AccessCounters counters;
    const Tensor y = f();
    if (y.defined() && requires_grad(y)) backward(sum(y));
    synchronize(kCuda);
    for (const auto& [kernel, accesses] : counters.kernels())
      for (const std::string& wanted : kernels)
        if (kernel.rfind(wanted, 0) == 0) counts_[name + ": " + kernel] = accesses;
  }

  // Heads of `width`, groups of a quarter of the tokens, a quarter of the heads shifted, 4 sinks.
  void attention_of(int64_t width, DType type) {
    count(concat("attention ", width, suffix(type)), {"attention"}, [=] {
      const AttentionPattern pattern = pattern_of("sf", 4, 512);
      const Shape shape{1, 512, 4, width};
      return attention(random(shape, 1, type), random(shape, 2, type), random(shape, 3, type),
                       pattern, 0.1);
    });
  }

  void decode_of(int64_t width, DType type) {
    count(concat("decoding ", width, suffix(type)), {"attention"}, [=] {
      constexpr int64_t kKeys = 1024, kHeads = 8, kKeyHeads = 2;
      const NoGrad no_grad;
      const Shape cache{1, kKeys, kKeyHeads, width};
      return attention(random({1, 1, kHeads, width}, 1, type), random(cache, 2, type),
                       random(cache, 3, type), pattern_of("full", kHeads, kKeys), 0.1, kKeys - 1);
    });
  }

  void msa_conv_of(int64_t size, DType type) {
    count(concat("MSA-Conv ", size, "²", suffix(type)), {"msa_conv"}, [=] {
      MsaConvGeometry geometry;
      geometry.heads = 2, geometry.head_dim = 32, geometry.kernel_h = geometry.kernel_w = 7;
      return msa_conv(random({1, size, size, 3 * 64}, 1, type), geometry);
    });
  }

  void rows_of(DType type) {
    const Shape shape{64, 4096};
    const auto weight = [] { return random({4096}, 2, DType::f32); };
    count("RMSNorm 4,096" + suffix(type), {"rms_norm", "norm_columns", "sum_partials"},
          [=] { return rms_norm(random(shape, 1, type), weight(), 1e-5); });
    count("LayerNorm 4,096" + suffix(type), {"layer_norm", "norm_columns", "sum_partials"},
          [=] { return layer_norm(random(shape, 1, type), weight(), weight(), 1e-5); });
    count("softmax 4,096" + suffix(type), {"softmax"},
          [=] { return square(softmax(random(shape, 1, type))); });
    count("SwiGLU" + suffix(type), {"swiglu"}, [=] {
      return swiglu(random({16, 11008}, 1, type), random({16, 11008}, 2, type));
    });
    count("RoPE" + suffix(type), {"rope"}, [=] {
      const Tensor angles = raw::to_device(Tensor::zeros({64, 64}), kCuda);
      return rope(random({1, 64, 8, 128}, 1, type), angles, angles);
    });
    count("sum over rows" + suffix(type), {"sum_columns"},
          [=] { return sum(random(shape, 1, type), 0); });
  }

  void losses_and_updates() {
    count("cross entropy 32,000", {"cross_entropy"}, [] {
      const Tensor targets = Tensor::zeros({16}, DType::i64);
      return cross_entropy(random({16, 32000}, 1, DType::f32), targets, 1);
    });
    count("embedding", {"embedding"}, [] {
      return embedding(random({1000, 576}, 1, DType::f32), Tensor::zeros({256}, DType::i64));
    });
    count("AdamW", {"adamw", "sum_squares"}, [] {
      const Tensor parameter = random({576, 1536}, 1, DType::f32);
      backward(sum(square(parameter)));
      const std::unique_ptr<Optimizer> adamw = make_adamw({{{{"w", parameter}}, 1, 0.1}});
      adamw->step(1e-3, grad_sum_squares({{"w", parameter}}), 1);
      return Tensor();
    });
  }

  void shapes_of(DType type) {
    const auto turned = [=, this](const std::string& name, const Shape& shape,
                                  std::vector<int> axes) {
      count(name + suffix(type), {"copy", "transpose"}, [=] {
        const NoGrad no_grad;
        return raw::contiguous(permute(random(shape, 1, type), axes));
      });
    };
    turned("permute to (B, H, T, D)", {2, 128, 8, 64}, {0, 2, 1, 3});
    turned("permute to (B, C, H, W)", {2, 16, 16, 96}, {0, 3, 1, 2});
    turned("transpose 512 x 384", {512, 384}, {1, 0});
    count("slice" + suffix(type), {"copy"}, [=] {
      return raw::contiguous(raw::slice(random({2, 16, 16, 96}, 1, type), 3, 32, 64));
    });
  }

  void maps_of(DType type) {
    const auto map = [=] { return random({2, 28, 28, 96}, 1, type); };
    count("depthwise 3x3" + suffix(type), {"depthwise"}, [=] {
      return depthwise_conv3x3(map(), random({96, 1, 3, 3}, 2, DType::f32),
                               random({96}, 3, DType::f32));
    });
    count("max pool 2x2" + suffix(type), {"max_pool"}, [=] { return max_pool2x2(map()); });
    count("average pool 7x7" + suffix(type), {"average_pool"}, [=] { return avg_pool(map(), 7); });
  }

  std::string part_;
  std::map<std::string, simt::KernelAccesses> counts_;
};

std::map<std::string, simt::KernelAccesses> Cases::run() {
  for (const int64_t width : {64, 128}) attention_of(width, DType::bf16);
  attention_of(64, DType::f32);
  for (const int64_t width : {64, 128}) decode_of(width, DType::bf16);
  decode_of(128, DType::f32);
  for (const int64_t size : {14, 28}) msa_conv_of(size, DType::bf16);
  msa_conv_of(14, DType::f32);
  losses_and_updates();
  for (const DType type : {DType::bf16, DType::f32}) {
    rows_of(type);
    shapes_of(type);
    maps_of(type);
  }
  return counts_;
}

}  // namespace

std::map<std::string, simt::KernelAccesses> count_main_kernels(const std::string& part) {
  return Cases(part).run();
}

}  // namespace mullion::test
