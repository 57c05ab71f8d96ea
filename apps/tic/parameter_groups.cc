// A layer number for each parameter's name, and a factor from it.
#include "apps/tic/parameter_groups.h"

#include <cmath>
#include <cstdio>
#include <map>

#include "tensor/check.h"

namespace mullion {

int64_t tic_layer(const std::string& name, const TicConfig& c) {
  const int64_t last = c.blocks();
  if (name.starts_with("stem.") || name == "pos_embed") return 0;
  if (name.starts_with("norm.")) return last;
  if (name.starts_with("head.")) return last + 1;
  size_t stage = 0, block = 0;
  const bool is_block = std::sscanf(name.c_str(), "stages.%zu.blocks.%zu.", &stage, &block) == 2;
  CHECK((is_block || name.find(".downsample.") != name.npos) && stage < c.depths.size(),
        "layer decay: ", name, " is no parameter of a TiC");
  int64_t before = 1;
  for (size_t i = 0; i < stage; ++i) before += c.depths[i];
  return is_block ? before + static_cast<int64_t>(block) : before + c.depths[stage];
}

std::vector<ParameterGroup> tic_parameter_groups(const std::vector<NamedParameter>& parameters,
                                                 const TicConfig& config, double weight_decay,
                                                 double layer_decay) {
  std::map<std::pair<int64_t, bool>, ParameterGroup> groups;  // by layer, whether decayed
  for (const NamedParameter& p : parameters) {
    const bool decayed = p.value.rank() >= 2 && p.name != "pos_embed";
    const int64_t layer = layer_decay == 1 ? 0 : tic_layer(p.name, config);
    ParameterGroup& group = groups[{layer, !decayed}];
    group.parameters.push_back(p);
    group.weight_decay = decayed ? weight_decay : 0;
    if (layer_decay != 1)
      group.lr_scale = std::pow(layer_decay, static_cast<double>(config.blocks() + 1 - layer));
  }
  std::vector<ParameterGroup> list;
  for (auto& [place, group] : groups) list.push_back(std::move(group));
  return list;
}

}  // namespace mullion
