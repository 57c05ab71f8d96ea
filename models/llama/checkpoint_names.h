// Names of the tensors of a LLaMA checkpoint. Ours are Hugging Face's
// ("model.layers.3.self_attn.q_proj.weight"); GGUF calls the same "blk.3.attn_q.weight" and stores
// the rows of q and k in another order.
//
// Note [Rows of q and k]: rotary embedding pairs element i of a head with i + D/2 in Hugging
// Face's layout ("half-split") and 2i with 2i + 1 in GGUF's ("interleaved"). Per head, row
// p D/2 + i of the former (p = 0, 1) is row 2i + p of the latter. A missing permutation is no error
// anywhere, only nonsense text.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/llama/config.h"

namespace mullion {

class TensorSource;

// None where the name is no tensor of a LLaMA model.
std::optional<std::string> gguf_name_of(std::string_view hf_name);
std::optional<std::string> hf_name_of(std::string_view gguf_name);

// True for q_proj and k_proj weights, whose rows the two layouts order differently.
bool has_rotary_rows(std::string_view hf_name);

// The row of a head in GGUF's layout that is this one in Hugging Face's.
int64_t interleaved_row(int64_t row, int64_t head_dim);
// One head's rows in place; `rows` is head_dim rows of row_bytes each, of any type.
void interleaved_to_half_split(std::span<std::byte> rows, int64_t head_dim);
void half_split_to_interleaved(std::span<std::byte> rows, int64_t head_dim);

// "q_proj", "k_proj", ...: what the projections of a layer are called.
std::vector<std::string> llama_projections();

// Name and shape of every tensor of the model, in layer order; lm_head only where it is not tied.
std::vector<std::pair<std::string, std::vector<int64_t>>> llama_tensors(const LlamaConfig& config);

// Throws unless `weights`, under Hugging Face names, has exactly these tensors in these shapes.
// Beside them rotary_emb.inv_freq, left over from older writers, and the lm_head of a tied model
// may be there.
void check_llama_tensors(const LlamaConfig& config, const TensorSource& weights);

}  // namespace mullion
