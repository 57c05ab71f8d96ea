// What each rank can do, gathered; the way that all can go, or the reasons why not.
#include "apps/run/rank_collectives.h"

#include "apps/options/device.h"
#include "apps/program/log.h"
#include "tensor/check.h"
#include "tensor/device_collective.h"

namespace mullion {
namespace {

constexpr char kKey[] = "run.collectives";

// What keeps the ranks from it; empty: nothing. `versions`: of each rank, or why it has none.
std::string why_not(const Communicator& ranks, const std::vector<std::string>& versions,
                    const std::vector<RankDevice>& devices) {
  for (size_t r = 0; r < versions.size(); ++r) {
    const std::string who = ranks.name(static_cast<int64_t>(r));
    if (versions[r].front() == '!') return concat(who, ": ", versions[r].substr(1));
    if (versions[r] != versions[0])
      return concat(who, " has ", versions[r], ", ", ranks.name(0), " has ", versions[0]);
  }
  for (size_t a = 0; a < devices.size(); ++a)
    for (size_t b = 0; b < a; ++b)
      if (devices[a].is_that_of(devices[b]))
        return concat("several ranks compute on one device (", devices[a].place(),
                      "), which NCCL refuses");
  return "";
}

// The version of this rank's own collectives, or '!' and why it has none.
std::string own_version(Device device) {
  if (device.type == DeviceType::cpu) return "!computes on the CPU";
  try {
    return collectives_of(device.type).describe();
  } catch (const Error& error) {
    return concat("!", error.what());
  }
}

// What all ranks have asked for and can.
struct Agreement {
  bool by_host, on_devices;
  std::string obstacle;  // what keeps them from the devices' own collectives; empty: nothing
  std::string version;   // of these
};

// Of all ranks, which each asks; Error(usage) where NCCL is asked for and cannot be had.
Agreement agree(const Options& options, Communicator& host,
                const std::vector<RankDevice>& devices) {
  const auto wanted = options.get<std::string>(kKey);
  bool asked_for = false, by_host = false, on_devices = false;
  std::vector<std::string> versions;
  for (const std::string& text :
       gather_texts(host, wanted + " " + own_version(device_of(options)))) {
    const size_t space = text.find(' ');
    asked_for |= text.substr(0, space) == "nccl";
    by_host |= text.substr(0, space) == "host";
    versions.push_back(text.substr(space + 1));
  }
  for (const RankDevice& each : devices) on_devices |= !each.identity.empty();
  CHECK_AS(Fault::usage, !asked_for || !by_host,
           "--collectives: nccl on one rank, host on another");
  const std::string obstacle = why_not(host, versions, devices);
  CHECK_AS(Fault::usage, !asked_for || obstacle.empty(), "--collectives nccl: ", obstacle);
  return {by_host, on_devices, obstacle, versions[0]};
}

}  // namespace

void add_collectives_option(OptionTable& table) {
  table
      .add(kKey, "--collectives", "auto",
           "how tensors get from GPU to GPU: nccl, host (through its memory), or auto: nccl where "
           "all ranks can")
      .one_of({"auto", "nccl", "host"})
      .free_on_resume();
}

void plan_collectives(const Options& options, Communicator* host,
                      const std::vector<RankDevice>& devices) {
  if (host) {
    agree(options, *host, devices);
    return;
  }
  if (options.get<std::string>(kKey) != "nccl") return;
  const std::string mine = own_version(device_of(options));
  CHECK_AS(Fault::usage, mine.front() != '!', "--collectives nccl: ", mine.substr(1));
}

std::shared_ptr<Communicator> rank_collectives(const Options& options,
                                               std::shared_ptr<Communicator> host,
                                               const std::vector<RankDevice>& devices) {
  const Device device = device_of(options);
  const auto [by_host, on_devices, obstacle, version] = agree(options, *host, devices);
  if (!on_devices) {
    if (by_host) options.tell_idle(kKey, "on the CPU, where there is no other way");
    return host;
  }
  if (by_host || !obstacle.empty()) {
    log_info("traffic    through memory of the host: ", by_host ? "--collectives host" : obstacle);
    return host;
  }
  std::shared_ptr<Communicator> ranks;
  try {
    ranks = collectives_of(device.type).make(host, device.index);
  } catch (const Error& error) {
    if (error.fault() == Fault::peer_lost) throw;
    throw Error(error.what(), error.fault(), "--collectives host");
  }
  log_info("traffic    by ", version, " between ", host->size(),
           host->size() == 1 ? " device" : " devices");
  return ranks;
}

}  // namespace mullion
