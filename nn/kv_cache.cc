#include "nn/kv_cache.h"

#include "autograd/node.h"

namespace mullion {
namespace {

class FullCache : public KvCache {
 public:
  FullCache(int64_t layers, Shape shape, DType dtype, Device device) : capacity_(shape[1]) {
    const auto fresh = [&] { return Tensor::empty(shape, dtype, device); };
    for (int64_t i = 0; i < layers; ++i) layers_.push_back({fresh(), fresh(), 0});
  }

  View append(int64_t layer, const Tensor& k, const Tensor& v) override {
    CHECK(layer >= 0 && layer < static_cast<int64_t>(layers_.size()), "KV cache: layer ", layer,
          " of ", layers_.size());
    refuse_gradients("KV cache", {k, v});
    Layer& l = layers_[static_cast<size_t>(layer)];
    const int64_t begin = l.length, end = begin + k.dim(1);
    CHECK(end <= capacity_, "KV cache: ", end, " tokens, room for ", capacity_);
    raw::copy_into(k, raw::slice(l.k, 1, begin, end));
    raw::copy_into(v, raw::slice(l.v, 1, begin, end));
    l.length = end;
    return {raw::slice(l.k, 1, 0, end), raw::slice(l.v, 1, 0, end), begin};
  }

  int64_t position() const override { return layers_.back().length; }

 private:
  struct Layer {
    Tensor k, v;
    int64_t length;
  };
  std::vector<Layer> layers_;
  int64_t capacity_;
};

}  // namespace

std::unique_ptr<KvCache> make_full_cache(const KvCacheShape& s, int64_t batch, int64_t capacity) {
  return std::make_unique<FullCache>(s.layers, Shape{batch, capacity, s.kv_heads, s.head_dim},
                                     s.dtype, s.device);
}

}  // namespace mullion
