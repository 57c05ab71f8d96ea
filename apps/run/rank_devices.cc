// Each rank says its device in four lines of text.
#include "apps/run/rank_devices.h"

#include <algorithm>
#include <sstream>

#include "apps/options/device.h"
#include "apps/program/rank_lines.h"
#include "apps/run/ranks.h"
#include "tensor/backend.h"
#include "tensor/check.h"

namespace mullion {
namespace {

int64_t& on_machine() {
  static int64_t the_number = 1;
  return the_number;
}

void check_shared(const Options& options, const std::vector<RankDevice>& devices) {
  if (options.get<bool>("run.share_device")) return;
  for (size_t a = 0; a < devices.size(); ++a)
    for (size_t b = 0; b < a; ++b)
      CHECK_AS(Fault::usage, !devices[a].is_that_of(devices[b]), "ranks ", b, " and ", a,
               " compute on the same device (", devices[a].place(),
               "); --share-device allows that");
}

}  // namespace

RankDevice choose_rank_device(const Options& options, const std::string& node, int64_t local_rank) {
  const int64_t devices = device_count(DeviceType::cuda);
  set_default_device_index(static_cast<int>(devices > 0 ? local_rank % devices : local_rank));
  const Device device = device_of(options);
  if (device.type == DeviceType::cpu) return {node, "cpu", machine_identity(), ""};
  return {node, concat(name_of(device), ":", device.index), machine_identity(),
          device_identity(device)};
}

std::vector<RankDevice> gather_rank_devices(const Options& options, Communicator& ranks,
                                            const RankDevice& mine) {
  std::vector<RankDevice> all;
  for (const std::string& text : gather_texts(
           ranks, concat(mine.node, "\n", mine.name, "\n", mine.machine, "\n", mine.identity))) {
    std::istringstream lines(text);
    RankDevice& device = all.emplace_back();
    std::getline(lines, device.node);
    std::getline(lines, device.name);
    std::getline(lines, device.machine);
    std::getline(lines, device.identity);
  }
  check_shared(options, all);
  on_machine() = std::count_if(
      all.begin(), all.end(), [&](const RankDevice& each) { return each.machine == mine.machine; });
  return all;
}

int64_t ranks_on_machine() { return on_machine(); }

void warn_of_used_memory_of_ranks(double bytes, Device device) {
  if (is_first_rank()) warn_of_used_memory(bytes * static_cast<double>(ranks_on_machine()), device);
}

void require_memory_of_ranks(double bytes, Device device) {
  const int64_t ranks = ranks_on_machine();
  try {
    require_memory(bytes * static_cast<double>(ranks), device);
  } catch (const Error& error) {
    if (ranks == 1) throw;
    throw Error(concat(error.what(), " for its ", ranks, " ranks"), error.fault(),
                concat("fewer ranks on a machine, or ", error.hint()));
  }
}

}  // namespace mullion
