// oneDNN's matmul primitive on bf16. Building one generates code, so primitives are kept by
// everything that shapes them; A is rounded into scratch memory in its own layout.
#include "tensor/cpu/bf16_product.h"

#include "tensor/check.h"
#ifdef MULLION_HAVE_ONEDNN
#include <array>
#include <map>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>

#include "tensor/cpu/dispatch.h"
#include "tensor/parallel.h"
#include "tensor/scratch.h"
#endif

namespace mullion::cpu {

#ifdef MULLION_HAVE_ONEDNN

namespace {

constexpr int kScratchSlot = 7;
constexpr size_t kMostPrimitives = 512;

struct Prepared {
  dnnl::memory::desc a, b, c, bias, scratchpad;
  dnnl::matmul product;
};

const dnnl::engine& engine() {
  static const dnnl::engine the_engine(dnnl::engine::kind::cpu, 0);
  return the_engine;
}

Prepared prepare(const MatmulArgs& p, int64_t lda) {
  using dnnl::memory;
  using Type = memory::data_type;
  const auto strides = [](bool transposed, int64_t ld) {
    return transposed ? memory::dims{1, ld} : memory::dims{ld, 1};
  };
  Prepared result;
  result.a = memory::desc({p.m, p.k}, Type::bf16, strides(p.transpose_a, lda));
  result.b = memory::desc({p.k, p.n}, Type::bf16, strides(p.transpose_b, p.ldb));
  result.c = memory::desc({p.m, p.n}, Type::f32, memory::dims{p.ldc, 1});
  result.bias = memory::desc({1, p.n}, Type::f32, memory::dims{p.n, 1});
  dnnl::primitive_attr attributes;
  // A primitive's own scratchpad would be one for all threads that multiply small matrices of a
  // batch at the same time.
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (p.alpha != 1) attributes.set_output_scales(0, {static_cast<float>(p.alpha)});
  if (p.beta != 0) {
    dnnl::post_ops sum;
    sum.append_sum(static_cast<float>(p.beta));
    attributes.set_post_ops(sum);
  }
  const auto description = p.bias ? dnnl::matmul::desc(result.a, result.b, result.bias, result.c)
                                  : dnnl::matmul::desc(result.a, result.b, result.c);
  const dnnl::matmul::primitive_desc primitive(description, attributes, engine());
  result.scratchpad = primitive.scratchpad_desc();
  result.product = dnnl::matmul(primitive);
  return result;
}

// The primitive for these sizes and scales; `lda` is the distance between rows of the rounded A.
Prepared prepared(const MatmulArgs& p, int64_t lda) {
  using Key = std::array<double, 9>;
  static std::mutex mutex;
  static auto* kept = new std::map<Key, Prepared>;  // outlives every thread
  const auto number = [](int64_t v) { return static_cast<double>(v); };
  const Key key{number(p.m),
                number(p.n),
                number(p.k),
                number(lda),
                number(p.ldb),
                number(p.ldc),
                p.alpha,
                p.beta,
                number(p.transpose_a + 2 * p.transpose_b + 4 * (p.bias != nullptr))};
  std::lock_guard lock(mutex);
  if (const auto found = kept->find(key); found != kept->end()) return found->second;
  if (kept->size() >= kMostPrimitives) kept->clear();
  return kept->emplace(key, prepare(p, lda)).first->second;
}

}  // namespace

bool has_bf16_products() {
  static const bool has = __builtin_cpu_supports("avx512bf16");
  return has;
}

void bf16_product(const MatmulArgs& args, const float* a, const bf16* b, float* c) {
  const int64_t rows = args.transpose_a ? args.k : args.m;
  const int64_t columns = args.transpose_a ? args.m : args.k;
  try {
    const Prepared p = prepared(args, columns);
    // The rounded A, and after it the primitive's scratchpad, at a cache line of its own.
    constexpr size_t kLine = 64 / sizeof(float);
    const auto halves = static_cast<size_t>(rows * columns);
    const size_t floats = (halves / 2 + kLine) / kLine * kLine;
    const size_t more = (p.scratchpad.get_size() + sizeof(float) - 1) / sizeof(float);
    float* scratch = thread_scratch(floats + more, kScratchSlot);
    auto* rounded = reinterpret_cast<bf16*>(scratch);
    parallel_for(rows, rows_of_grain(columns), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t i = 0; i < columns; ++i) rounded[r * columns + i] = bf16(a[r * args.lda + i]);
    });
    thread_local dnnl::stream stream(engine());
    const auto memory = [](const dnnl::memory::desc& shape, const void* data) {
      return dnnl::memory(shape, engine(), const_cast<void*>(data));
    };
    std::unordered_map<int, dnnl::memory> operands = {
        {DNNL_ARG_SRC, memory(p.a, rounded)},
        {DNNL_ARG_WEIGHTS, memory(p.b, b)},
        {DNNL_ARG_DST, memory(p.c, c)},
        {DNNL_ARG_SCRATCHPAD, memory(p.scratchpad, scratch + floats)}};
    if (args.bias) operands.emplace(DNNL_ARG_BIAS, memory(p.bias, args.bias));
    p.product.execute(stream, operands);
    stream.wait();
  } catch (const dnnl::error& error) {
    fail(Fault::other, "matmul: oneDNN refused a bf16 product of ", args.m, " x ", args.k, " x ",
         args.n, ": ", error.what());
  }
}

#else

bool has_bf16_products() { return false; }
void bf16_product(const MatmulArgs&, const float*, const bf16*, float*) {
  fail(Fault::other, "matmul: oneDNN is not part of this build");
}

#endif

}  // namespace mullion::cpu
