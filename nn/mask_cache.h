// H2O as its authors published it for multiple choice (h2o_hf/utils_lm_eval): nothing is evicted;
// one pass over a whole text finds the keys with the largest column sums, those of later queries
// included, and attends again under a mask that leaves these and the recent ones. It shows what
// eviction would cost, saves no memory, and sees what a real cache cannot.
#pragma once
#include "nn/kv_cache.h"

namespace mullion {

class MaskCache final : public KvCache {
 public:
  MaskCache(const KvCacheOptions& options, const KvCacheShape& shape)
      : options_(options), shape_(shape) {}
  Tensor attend(int64_t layer, const Tensor& q, const Tensor& k, const Tensor& v,
                const AttentionCall& call) override;
  void begin_block(int64_t tokens) override;
  int64_t position() const override { return seen_; }
  int64_t held() const override { return seen_; }
  int64_t reach(int64_t tokens) const override { return seen_ + tokens; }
  int64_t bytes() const override { return 0; }  // holds nothing between calls
  int64_t peak_bytes() const override { return 0; }
  std::vector<int64_t> kept(int64_t, int64_t) const override { return {}; }
  std::unique_ptr<KvCache> clone() const override { return std::make_unique<MaskCache>(*this); }
  void rewind(int64_t position) override;

 private:
  KvCacheOptions options_;
  KvCacheShape shape_;
  int64_t seen_ = 0;
};

}  // namespace mullion
