// Which parameters of a TiC are trained how: weight decay, and the learning rate by depth.
#pragma once
#include <vector>

#include "models/tic/config.h"
#include "optim/optimizer.h"

namespace mullion {

// Where a parameter stands, as timm counts (group_matcher and group_parameters of its Swin): 0 the
// stem, then each block by itself, with the downsampling before the first block of a stage; the
// last norm belongs to the last block, the head comes after all.
int64_t tic_layer(const std::string& name, const TicConfig& config);

// Weight decay on matrices and kernels, none on norms, biases and positions. The rate of layer i of
// n is layer_decay^(n - 1 - i) of the whole one, as timm's param_groups_layer_decay has it.
std::vector<ParameterGroup> tic_parameter_groups(const std::vector<NamedParameter>& parameters,
                                                 const TicConfig& config, double weight_decay,
                                                 double layer_decay);

}  // namespace mullion
