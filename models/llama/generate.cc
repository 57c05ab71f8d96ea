#include "models/llama/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/node.h"
#include "tensor/random.h"

namespace mullion {
namespace {

constexpr int64_t kPrefillTokens = 2048;  // of a prompt at a time: bounds the activations

Tensor ids_tensor(std::span<const int32_t> ids) {
  return Tensor::from(std::vector<int64_t>(ids.begin(), ids.end()),
                      {1, static_cast<int64_t>(ids.size())});
}

int32_t likeliest(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

Sampler::Sampler(const SamplerOptions& o) : options_(o) {
  CHECK_AS(Fault::usage, o.temperature >= 0 && std::isfinite(o.temperature),
           "sampling: temperature ", o.temperature, " is negative");
  CHECK_AS(Fault::usage, o.top_k >= 0, "sampling: top-k ", o.top_k, " is negative");
  CHECK_AS(Fault::usage, o.top_p > 0 && o.top_p <= 1, "sampling: top-p ", o.top_p,
           " is not in (0, 1]");
  CHECK_AS(Fault::usage, o.min_p >= 0 && o.min_p <= 1, "sampling: min-p ", o.min_p,
           " is not in [0, 1]");
}

int32_t Sampler::pick(std::span<const float> logits, uint64_t draw) const {
  if (options_.temperature == 0) return likeliest(logits);
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto before = [&](int32_t a, int32_t b) {
    const float za = logits[static_cast<size_t>(a)], zb = logits[static_cast<size_t>(b)];
    return za != zb ? za > zb : a < b;
  };
  size_t kept = order.size();
  if (options_.top_k > 0) kept = std::min(kept, static_cast<size_t>(options_.top_k));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                    before);
  std::vector<double> p(kept);
  const float top = logits[static_cast<size_t>(order[0])];
  for (size_t i = 0; i < kept; ++i)
    p[i] = std::exp((logits[static_cast<size_t>(order[i])] - top) / options_.temperature);
  double sum = std::accumulate(p.begin(), p.end(), 0.0);
  double seen = 0;
  for (size_t i = 0; i < kept; ++i) {
    seen += p[i];
    if (seen >= options_.top_p * sum) kept = i + 1;
  }
  while (kept > 1 && p[kept - 1] < options_.min_p * p[0]) --kept;
  sum = std::accumulate(p.begin(), p.begin() + static_cast<std::ptrdiff_t>(kept), 0.0);
  const PhiloxBlock block = philox(options_.seed, 0x73616d706c65, draw);
  const uint64_t bits = (uint64_t{block.v[0]} << 32 | block.v[1]) >> 11;
  double left = static_cast<double>(bits) * 0x1p-53 * sum;
  for (size_t i = 0; i < kept; ++i) {
    left -= p[i];
    if (left < 0) return order[i];
  }
  return order[kept - 1];
}

Generated generate(const LanguageModel& model, std::span<const int32_t> prompt,
                   const GenerateOptions& options) {
  const auto length = static_cast<int64_t>(prompt.size());
  const int64_t context = model.context();
  CHECK_AS(Fault::usage, length > 0, "generate: the prompt is empty and there is no BOS");
  CHECK_AS(Fault::usage, length <= context, "generate: a prompt of ", length,
           " tokens, but the model's context is ", context);
  const int64_t room = context - length + 1;  // the last token need not be seen again
  const int64_t wanted = options.max_tokens > 0 ? std::min(options.max_tokens, room) : room;
  NoGrad no_grad;
  const Sampler sampler(options.sampling);
  const auto cache = make_full_cache(model.cache_shape(), 1, length + wanted);
  // All but the last token of the prompt; their logits are not needed.
  for (int64_t begin = 0; begin + 1 < length; begin += kPrefillTokens) {
    const int64_t end = std::min(begin + kPrefillTokens, length - 1);
    model.hidden(
        ids_tensor(prompt.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin))),
        cache.get());
  }
  Generated result;
  int32_t last = prompt.back();
  while (static_cast<int64_t>(result.ids.size()) < wanted) {
    const auto logits = model.logits(ids_tensor({&last, 1}), cache.get()).to_vector<float>();
    last = sampler.pick(logits, result.ids.size());
    if (std::find(options.stop_ids.begin(), options.stop_ids.end(), last) !=
        options.stop_ids.end()) {
      result.stop = "eos";
      return result;
    }
    result.ids.push_back(last);
    if (options.on_token && !options.on_token(last)) {
      result.stop = "stopped";
      return result;
    }
  }
  result.stop = wanted == options.max_tokens ? "length" : "context";
  return result;
}

}  // namespace mullion
