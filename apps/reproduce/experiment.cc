// The list of experiments, and a plan that joins jobs of the same call.
#include "apps/reproduce/experiment.h"

#include <algorithm>

#include "apps/options/nearest.h"
#include "apps/reproduce/sinklora.h"
#include "apps/reproduce/tic.h"
#include "tensor/check.h"

namespace mullion {

const std::vector<std::string>& scale_names() {
  static const std::vector<std::string> names = {"mini", "small", "paper"};
  return names;
}

std::string Plan::add(const Job& job) {
  for (const Job& known : jobs) {
    if (known.name != job.name) continue;
    CHECK(known.program == job.program && known.arguments == job.arguments, "reproduce: two jobs ",
          "of the name ", job.name);
    return job.name;
  }
  jobs.push_back(job);
  return job.name;
}

const std::vector<Experiment>& experiments() {
  static const std::vector<Experiment> all = [] {
    std::vector<Experiment> list = sinklora_experiments();
    for (Experiment& e : tic_experiments()) list.push_back(std::move(e));
    return list;
  }();
  return all;
}

std::vector<const Experiment*> chosen_experiments(const std::vector<std::string>& ids) {
  std::vector<bool> chosen(experiments().size(), false);
  std::vector<std::string> names = {"all"};
  for (const Experiment& e : experiments()) names.push_back(e.id);
  for (const std::string& id : ids) {
    std::string group = id;
    for (const char* tail : {"...", "/"})
      if (group.ends_with(tail)) group.resize(group.size() - std::string(tail).size());
    bool known = false;
    for (size_t i = 0; i < experiments().size(); ++i) {
      const std::string& name = experiments()[i].id;
      if (id != "all" && name != id && !name.starts_with(group + "/")) continue;
      chosen[i] = known = true;
    }
    if (known) continue;
    throw Error(concat(id, ": no experiment or group of them"), Fault::usage,
                did_you_mean(id, names, "--list"));
  }
  std::vector<const Experiment*> list;
  for (size_t i = 0; i < chosen.size(); ++i)
    if (chosen[i]) list.push_back(&experiments()[i]);
  return list;
}

}  // namespace mullion
