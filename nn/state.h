// Parameters in files: a list of named tensors to and from safetensors.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "nn/module.h"
#include "tensor/io/tensor_source.h"

namespace mullion {

// Fills one f32 or bf16 tensor. Errors name source, tensor and both shapes:
// "loading layers.3.q_proj.weight: [64, 64] in FILE, [64, 128] in the model".
void load_tensor(const TensorSource& source, const std::string& name, const Tensor& target);
// The same as a matrix of the blocks that the source has, on a device. Errors as above, and where a
// scale is NaN or infinite.
BlockMatrix load_blocks(const TensorSource& source, const std::string& name, const Shape& shape,
                        Device device);
// Error(bad_file) names a tensor that the source lacks, or has beyond these.
void check_tensors(const TensorSource& source, const std::vector<NamedParameter>& tensors);
// Fills every one of the tensors, which must be those of the source.
void load_tensors(const TensorSource& source, const std::vector<NamedParameter>& tensors);
// Writes f32, bf16 and i64 tensors of any device, atomically.
void save_tensors(const std::filesystem::path& path, const std::vector<NamedParameter>& tensors,
                  const std::map<std::string, std::string>& metadata = {});
// Elements that are not finite, over all tensors: what a checkpoint is refused for.
int64_t count_nonfinite(const std::vector<NamedParameter>& tensors);

}  // namespace mullion
