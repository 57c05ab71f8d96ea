// The caches that hold tokens in slots: full, local, sink and H2O are one, with other shares.
#pragma once
#include "nn/kv_cache.h"

namespace mullion {

// Keys and values of one layer: (1, slots, Hkv, D), with a slot more than the budget for the newest
// token. Each KV head has tokens of its own in its slots; one slot of each is free once the budget
// is full.
class SlotCache final : public KvCache {
 public:
  SlotCache(const KvCacheOptions& options, const KvCacheShape& shape);
  Tensor attend(int64_t layer, const Tensor& q, const Tensor& k, const Tensor& v,
                const AttentionCall& call) override;
  // Also while a block is under way: it then has so many tokens. What has been fed of it is shared
  // by clones, which so continue one beginning each to an end of its own.
  void begin_block(int64_t tokens) override;
  int64_t position() const override { return layers_.back().seen; }
  int64_t held() const override { return layers_.back().held; }
  int64_t reach(int64_t tokens) const override;
  int64_t room(int64_t context) const override;
  int64_t bytes() const override;
  int64_t peak_bytes() const override { return peak_; }
  std::unique_ptr<KvCache> clone() const override;
  void rewind(int64_t position) override;

  std::vector<int64_t> kept(int64_t layer, int64_t kv_head) const override;

 private:
  struct Head {
    std::vector<int32_t> position, rank;  // by slot; rank: held ones before it, -1: free
    int64_t free = 0;                     // the slot of the next token once the budget is full
  };
  struct Layer {
    Tensor k, v;
    int64_t seen = 0, held = 0;
    std::vector<Head> heads;                 // filled once tokens are lost
    std::vector<std::vector<float>> scores;  // by KV head (max: by query head) and slot
    Tensor block_k, block_v;                 // of the block under way that does not fit
    int64_t block = 0;                       // tokens of it so far
  };

  bool is_bounded() const { return policy_->is_bounded; }
  bool needs_scores() const { return policy_->by_score; }
  bool is_rolled() const { return options_.positions == KvPositions::rolled; }
  Tensor append(Layer& l, Tensor q, Tensor k, const Tensor& v, const AttentionCall& call);
  Tensor decode(Layer& l, const Tensor& q, Tensor k, const Tensor& v, const AttentionCall& call);
  Tensor attend_block(Layer& l, const Tensor& q, Tensor k, const Tensor& v,
                      const AttentionCall& call);
  void evict_block(Layer& l);
  void evict_one(Layer& l, size_t head);
  std::vector<int64_t> kept_of(const Layer& l, size_t head, int64_t tokens) const;
  float score(const Layer& l, size_t head, int64_t slot) const;
  Tensor run(Layer& l, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionCall& call,
             int64_t query_offset);
  Tensor rotated(const Layer& l, const Tensor& keys, const AttentionCall& call) const;
  void reserve(Layer& l, int64_t slots);
  void start_heads(Layer& l);
  void close_gaps(Layer& l);
  void note_peak();

  KvCacheOptions options_;
  const KvPolicy* policy_;
  KvCacheShape shape_;
  KvShares shares_;
  int64_t limit_ = 0;     // tokens a head may hold; 0: not known before the first block
  int64_t expected_ = 0;  // tokens of the block under way; 0: none
  int64_t peak_ = 0;
  std::vector<Layer> layers_;
};

}  // namespace mullion
