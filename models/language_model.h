// What a program asks of a model of text: evaluation, passkey, generation and chat take this, so
// that another architecture is one class of its own. Any number of threads may use a const model,
// each with caches of its own.
#pragma once
#include "nn/context_parallel.h"
#include "nn/kv_cache.h"
#include "nn/module.h"
#include "tensor/attention_pattern.h"

namespace mullion {

class LanguageModel : public Module {
 public:
  // ids (B, T) of i64 -> the normed last hidden states (B, T, C). With a cache, the tokens follow
  // those the cache has seen. More than context() tokens are an error.
  // Where the pattern has documents, ids are one packed sequence, row after row (B * T tokens), and
  // there is no cache; positions begin anew in each.
  // Under context parallelism ids are those of all ranks, and the states those of the own tokens:
  // (B, own tokens, C), or (1, own tokens, C) of a packed sequence. A cache is of one rank alone.
  // With a dropout stream (one i64, another for each pass of a training) dropout acts.
  virtual Tensor hidden(const Tensor& ids, KvCache* cache = nullptr,
                        const Tensor& dropout_stream = {}) const = 0;
  // The output projection (V, C), which may be the embedding's own.
  virtual const Weight& head_weight() const = 0;
  virtual int64_t context() const = 0;  // tokens
  virtual KvCacheShape cache_shape() const = 0;

  // (.., V) of hidden states (.., C).
  Tensor head(const Tensor& hidden) const;
  // (B, T, V); for evaluation and generation.
  Tensor logits(const Tensor& ids, KvCache* cache = nullptr) const;
  // Sum over targets (B, T), each the token to follow ids there (-100: none), of their
  // cross-entropy times `scale`. Logits of kLossRows exist at a time. Under context parallelism the
  // sum is over the own tokens; the ranks' sums make the whole.
  Tensor loss(const Tensor& ids, const Tensor& targets, double scale,
              const Tensor& dropout_stream = {}) const;
  static constexpr int64_t kLossRows = 256;

  void set_pattern(const AttentionPattern& pattern) { pattern_ = pattern; }
  const AttentionPattern& pattern() const { return pattern_; }
  // From now on passes without a cache are those of a part of the sequence (null: of all of it).
  void set_context_parallel(std::shared_ptr<ContextParallel> context) {
    context_parallel_ = std::move(context);
  }
  // The type of activations: f32, or bf16 where the device computes in it. Parameters keep theirs.
  void set_compute_type(DType type) { compute_type_ = type; }
  DType compute_type() const { return compute_type_; }
  int64_t vocabulary() const { return head_weight().dim(0); }  // ids
  Device device() const { return head_weight().device(); }

 protected:
  // Of a sequence of so many tokens, under the pattern; null where it is not divided.
  std::shared_ptr<const ContextPass> context_pass(int64_t tokens) const;

 private:
  AttentionPattern pattern_;
  std::shared_ptr<ContextParallel> context_parallel_;
  DType compute_type_ = DType::f32;
};

}  // namespace mullion
