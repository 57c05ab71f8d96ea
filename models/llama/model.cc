// LLaMA forward, from tokens to logits, as the paper of LLaMA (Touvron et al. 2023, section 2) has
// it. (Read autograd/ops/norm.cc and nn/linear.h before; models/tic/model.cc next.)
#include "models/llama/model.h"

#include <cmath>

#include "autograd/ops.h"
#include "models/llama/spread_load.h"
#include "nn/placeholder.h"
#include "nn/unit.h"

namespace mullion {

LlamaAttention::LlamaAttention(const LlamaConfig& c)
    : q_proj(c.hidden_size, c.num_attention_heads * c.head_dim),
      k_proj(c.hidden_size, c.num_key_value_heads * c.head_dim),
      v_proj(c.hidden_size, c.num_key_value_heads * c.head_dim),
      o_proj(c.num_attention_heads * c.head_dim, c.hidden_size),
      heads_(c.num_attention_heads),
      kv_heads_(c.num_key_value_heads),
      head_dim_(c.head_dim) {}

Tensor LlamaAttention::operator()(const Tensor& x, const RmsNorm& norm, const LlamaContext& context,
                                  int64_t layer) const {
  const auto [B, T, C] = dims<3>("llama", "x", x);
  const auto heads = [&, B = B, T = T](const Tensor& y, int64_t count) {
    return reshape(y, {B, T, count, head_dim_});
  };
  const std::vector<Tensor> qkv = linears(norm(x), {&q_proj, &k_proj, &v_proj},
                                          context.recompute.norm(norm, x), context.dropout_stream);
  const Tensor q = heads(qkv[0], heads_), k = heads(qkv[1], kv_heads_),
               v = heads(qkv[2], kv_heads_);
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim_));
  Tensor o;
  if (context.cache) {
    o = context.cache->attend(layer, q, k, v, {context.rope, context.pattern, scale});
  } else {
    const auto& [cos, sin] = context.angles;
    const Tensor turned_q = rope_in_place(q, cos, sin), turned_k = rope_in_place(k, cos, sin);
    o = context.part ? context.part->attend(turned_q, turned_k, v, scale)
                     : attention(turned_q, turned_k, v, *context.pattern, scale);
  }
  return o_proj(reshape(o, {B, T, heads_ * head_dim_}), x, context.dropout_stream);
}

void LlamaAttention::fields(Fields& fields) {
  fields("q_proj", q_proj);
  fields("k_proj", k_proj);
  fields("v_proj", v_proj);
  fields("o_proj", o_proj);
}

LlamaMlp::LlamaMlp(const LlamaConfig& c)
    : gate_proj(c.hidden_size, c.intermediate_size),
      up_proj(c.hidden_size, c.intermediate_size),
      down_proj(c.intermediate_size, c.hidden_size) {}

Tensor LlamaMlp::inside(const Tensor& x, const Tensor& dropout_stream) const {
  const std::vector<Tensor> both = linears(x, {&gate_proj, &up_proj}, {}, dropout_stream);
  return swiglu(both[0], both[1]);
}

void LlamaMlp::fields(Fields& fields) {
  fields("gate_proj", gate_proj);
  fields("up_proj", up_proj);
  fields("down_proj", down_proj);
}

LlamaBlock::LlamaBlock(const LlamaConfig& c)
    : input_layernorm(c.hidden_size, c.rms_norm_eps),
      self_attn(c),
      post_attention_layernorm(c.hidden_size, c.rms_norm_eps),
      mlp(c) {}

Tensor LlamaBlock::operator()(const Tensor& x, const LlamaContext& context, int64_t layer) const {
  const Tensor y = self_attn(x, input_layernorm, context, layer);
  const auto inside = [this, stream = context.dropout_stream](const Tensor& input) {
    return mlp.inside(post_attention_layernorm(input), stream);
  };
  return mlp.down_proj(context.recompute.mlp(inside, y), y, context.dropout_stream);
}

void LlamaBlock::fields(Fields& fields) {
  fields("self_attn", self_attn);
  fields("mlp", mlp);
  fields("input_layernorm", input_layernorm);
  fields("post_attention_layernorm", post_attention_layernorm);
}

Llama::Llama(const LlamaConfig& c)
    : config_(c),
      embed_tokens_(c.vocab_size, c.hidden_size),
      norm_(c.hidden_size, c.rms_norm_eps),
      head_(c.tie_word_embeddings ? embed_tokens_.weight
                                  : Weight(new_matrix(c.vocab_size, c.hidden_size))),
      rope_(rope_inv_freq(c)) {
  for (int64_t i = 0; i < c.num_hidden_layers; ++i)
    layers_.push_back(std::make_unique<LlamaBlock>(c));
}

void Llama::fields(Fields& fields) {
  fields("model.embed_tokens", embed_tokens_);
  fields("model.layers", layers_);
  fields("model.norm", norm_);
  fields("lm_head.weight", head_);
}

void Llama::untie_head() {
  if (!head_is_tied()) return;
  head_ = head_.is_blocks() ? Weight(head_.blocks().alias()) : raw::clone(head_.tensor());
}

void Llama::initialize(uint64_t seed) {
  for_each_parameter(*this, [&](const std::string& name, Tensor& p) {
    initialize_parameter(config_, seed, name, p);
  });
}

Tensor Llama::hidden(const Tensor& ids, KvCache* cache, const Tensor& dropout_stream) const {
  const auto [B, T] = dims<2>("llama", "ids", ids);
  const bool packed = !pattern().documents.empty();
  CHECK(!packed || !cache, "llama: packed documents with a cache");
  const int64_t end = cache ? cache->reach(T) : packed ? longest_document(pattern(), B * T) : T;
  CHECK_AS(Fault::usage, end <= this->context(), "llama: ", end,
           " tokens, but the model's context is ", this->context(), "; extend it by rope scaling");
  LlamaContext context{&rope_, {}, &pattern(), cache};
  if (!cache)
    context.angles =
        packed ? rope_.at(pattern().documents, B * T, device()) : rope_.at(0, T, device());
  context.dropout_stream = dropout_stream;
  Tensor rows = packed ? raw::reshape(ids, {1, B * T}) : ids;
  if (!cache) context.part = context_pass(rows.dim(1));
  if (context.part) {
    rows = context.part->own(rows, 1);
    for (Tensor* angles : {&context.angles.cos, &context.angles.sin})
      *angles = context.part->own(*angles, 0);
  }
  Tensor x = embed_tokens_(rows);
  if (compute_type() == DType::bf16) x = cast(x, DType::bf16);
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (!cache) context.recompute = {recompute_, i, layers_.size()};
    const auto block = [layer = layers_[i].get(), context, i](const Tensor& input) {
      const UnitScope unit(*layer);
      return (*layer)(input, context, static_cast<int64_t>(i));
    };
    x = context.recompute.block(block, x);
  }
  return packed && !context.part ? reshape(norm_(x), {B, T, config_.hidden_size}) : norm_(x);
}

KvCacheShape Llama::cache_shape() const {
  return {.layers = config_.num_hidden_layers,
          .heads = config_.num_attention_heads,
          .kv_heads = config_.num_key_value_heads,
          .head_dim = config_.head_dim,
          .dtype = compute_type(),
          .device = device()};
}

}  // namespace mullion
