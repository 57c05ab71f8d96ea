// A LLaMA of which no process has more than its part (optim/parallel/full_shard.h): the matrices of
// its blocks are absent (tensor/absent.h) until someone fills them.
#pragma once
#include <memory>

#include "models/llama/load.h"

namespace mullion {

// As load_llama(), in memory of the host, but for the matrices of the blocks: absent, of the
// type that they are to be held in. Their values load_tensor() reads by their names. Error(usage)
// where they would be held in the blocks of the file.
std::unique_ptr<Llama> load_llama_but_blocks(const LlamaCheckpoint& checkpoint,
                                             const LlamaLoadOptions& options);
// Reads what that has left absent, and keeps nothing of it: for the errors.
void read_absent(const LlamaCheckpoint& checkpoint, Llama& model);

// As load_llama_but_blocks(), of a model made from a seed: initialize_parameter() gives the rest
// their values.
std::unique_ptr<Llama> make_llama_but_blocks(const LlamaConfig& config, uint64_t seed);

// What Llama::initialize() gives the parameter of that name: it follows from name and seed alone.
void initialize_parameter(const LlamaConfig& config, uint64_t seed, const std::string& name,
                          Tensor parameter);

}  // namespace mullion
