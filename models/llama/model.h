// LLaMA (Touvron et al. 2023): pre-norm blocks of grouped-query attention with rotary positions and
// SwiGLU. Parameters have Hugging Face's names. Attention takes any AttentionPattern, so that full,
// S2 and SF attention are the same model with another piece of data.
#pragma once
#include <memory>

#include "models/language_model.h"
#include "models/llama/config.h"
#include "models/llama/recompute.h"
#include "nn/linear.h"
#include "nn/rope.h"

namespace mullion {

// What a pass through the blocks needs besides x.
struct LlamaContext {
  const RopeTable* rope;
  RopeTable::Slice angles;  // without a cache, which rotates by itself
  const AttentionPattern* pattern;
  KvCache* cache = nullptr;
  Tensor dropout_stream = {};  // given: the pairs' dropout acts
  BlockRecompute recompute = {};
  std::shared_ptr<const ContextPass> part = {};  // given: of a sequence that ranks share
};

class LlamaAttention : public Module {
 public:
  explicit LlamaAttention(const LlamaConfig& config);
  // norm(x), projected, attended and added to x: (B, T, C) -> the same.
  Tensor operator()(const Tensor& x, const RmsNorm& norm, const LlamaContext& context,
                    int64_t layer) const;
  void fields(Fields& fields) override;
  Linear q_proj, k_proj, v_proj, o_proj;

 private:
  int64_t heads_, kv_heads_, head_dim_;
};

class LlamaMlp : public Module {
 public:
  explicit LlamaMlp(const LlamaConfig& config);
  // The whole is down(inside(x)), apart so that a caller may recompute the inside alone: a frozen
  // down projection keeps nothing of its input. (B, T, C) -> (B, T, intermediate size).
  Tensor inside(const Tensor& x, const Tensor& dropout_stream = {}) const;
  void fields(Fields& fields) override;
  Linear gate_proj, up_proj, down_proj;
};

class LlamaBlock : public Module {
 public:
  explicit LlamaBlock(const LlamaConfig& config);
  // (B, T, C) -> the same.
  Tensor operator()(const Tensor& x, const LlamaContext& context, int64_t layer) const;
  void fields(Fields& fields) override;
  RmsNorm input_layernorm;
  LlamaAttention self_attn;
  RmsNorm post_attention_layernorm;
  LlamaMlp mlp;
};

class Llama : public LanguageModel {
 public:
  // Parameters are allocated and not yet given values: load or initialize them.
  explicit Llama(const LlamaConfig& config);

  // The dropout is that of the LoRA pairs.
  Tensor hidden(const Tensor& ids, KvCache* cache = nullptr,
                const Tensor& dropout_stream = {}) const override;
  const Weight& head_weight() const override { return head_; }
  int64_t context() const override { return usable_context(config_); }
  KvCacheShape cache_shape() const override;

  void set_recompute(Recompute what) { recompute_ = what; }
  // The output projection gets values of its own: those the embedding has now. A tied model whose
  // embedding is trained beside LoRA keeps its old head, as PEFT does.
  void untie_head();
  bool head_is_tied() const { return head_.is_same(embed_tokens_.weight); }
  // Matrices of deviation initializer_range (GPT-2's practice), norms 1.
  void initialize(uint64_t seed);

  void fields(Fields& fields) override;
  const LlamaConfig& config() const { return config_; }
  std::vector<std::unique_ptr<LlamaBlock>>& layers() { return layers_; }

 private:
  LlamaConfig config_;
  Recompute recompute_ = Recompute::none;
  Embedding embed_tokens_;
  std::vector<std::unique_ptr<LlamaBlock>> layers_;
  RmsNorm norm_;
  Weight head_;  // (V, C); the embedding's own where tied
  RopeTable rope_;
};

}  // namespace mullion
