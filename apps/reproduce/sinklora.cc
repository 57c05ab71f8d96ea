// The list alone; each group of experiments has a file.
#include "apps/reproduce/sinklora.h"

#include <algorithm>

namespace mullion {

std::vector<Experiment> sinklora_experiments() {
  std::vector<Experiment> all;
  for (auto part :
       {extension_experiments, retrieval_experiments, cache_experiments, longlora_experiments})
    for (Experiment& experiment : part()) {
      experiment.background = [](const World& world) -> Background {
        const Setting s = sinklora_setting(world);
        return {s.heading, s.needs};
      };
      all.push_back(std::move(experiment));
    }
  return all;
}

}  // namespace mullion
