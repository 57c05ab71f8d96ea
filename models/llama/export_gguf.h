// A LLaMA as one GGUF file, as llama.cpp opens it: its metadata, its names, the rows of q and k in
// its order (Note [Rows of q and k] in checkpoint_names.h), and any of its types.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "models/llama/config.h"
#include "tensor/io/gguf_writer.h"
#include "tensor/io/tensor_source.h"

namespace mullion {

struct GgufExport {
  // Of the matrices; norms are F32. With a block format the embedding and the head are in Q8_0, to
  // which perplexity is most sensitive. Rows that are no whole number of blocks of 256 get
  // llama.cpp's next best of 32 (Q5_0 for Q4_K, Q5_1 for Q5_K, Q8_0 for Q6_K), those that are no
  // whole number of these stay in F16; a message names both.
  StoredType type = StoredType::f32;
  std::string name;  // general.name
};

// Writes the model; `tokenizer` may be null, and llama.cpp then refuses the file. Returns
// messages for the user, a line each. `weights` has the tensors of `config` under Hugging Face's
// names, of which one is in memory at a time.
std::vector<std::string> write_gguf(const std::filesystem::path& path, const LlamaConfig& config,
                                    const TensorSource& weights, const Tokenizer* tokenizer,
                                    const GgufExport& options);

// The tensors that such a file has, in its order.
std::vector<GgufSpec> gguf_tensors(const LlamaConfig& config, StoredType type);

// What llama.cpp calls a value of general.file_type, "Q4_K - Medium"; null: not known.
const char* gguf_file_type_name(uint64_t number);

// One tensor's bytes with the rows of each head in GGUF's order; `rows` as the shape has it.
void permute_rotary_rows(std::span<std::byte> bytes, int64_t rows, int64_t head_dim);

}  // namespace mullion
