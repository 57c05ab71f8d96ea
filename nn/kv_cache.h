// The keys and values of the tokens a model has seen, kept between calls of a generation. Attention
// asks a cache to take the new ones and attends to what it gives back; a cache that evicts tokens
// implements the same interface.
#pragma once
#include <memory>
#include <vector>

#include "tensor/tensor.h"

namespace mullion {

class KvCache {
 public:
  virtual ~KvCache() = default;
  struct View {
    Tensor k, v;           // (B, S, Hkv, D): everything to attend to, the new tokens last
    int64_t query_offset;  // index of the first new token among them
  };
  // k, v: (B, T, Hkv, D) of the new tokens of one layer, already rotated to their positions.
  virtual View append(int64_t layer, const Tensor& k, const Tensor& v) = 0;
  // The position of the next token. Moves on when the last layer has appended.
  virtual int64_t position() const = 0;
};

struct KvCacheShape {
  int64_t layers = 0, heads = 0, kv_heads = 0, head_dim = 0;
  DType dtype = DType::f32;
  Device device = {};
};
// Keeps every token, up to `capacity`; one more is an error.
std::unique_ptr<KvCache> make_full_cache(const KvCacheShape& shape, int64_t batch,
                                         int64_t capacity);

}  // namespace mullion
