// A LLaMA of which no process reads more than its part (optim/parallel/full_shard.h): the matrices
// of its blocks are absent (tensor/absent.h) until someone fills them.
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

}  // namespace mullion
