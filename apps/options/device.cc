// A device by its name, whether it is there; the settings of the process that go with it.
#include "apps/options/device.h"

#include <sys/sysinfo.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "apps/program/log.h"
#include "tensor/backend.h"
#include "tensor/check.h"
#include "tensor/precision.h"
#include "tensor/words.h"

namespace mullion {

namespace {
int default_index = 0;

struct MemoryThere {
  double bytes = 0;
  const char* of = "";  // whose limit that is, where it is not the machine's
};

// Of memory and swap together: what the machine has, or what a control group lets the process have
// (of containers and batch systems), which ends those that take more.
std::optional<MemoryThere> memory_there() {
  struct sysinfo machine = {};
  if (sysinfo(&machine) != 0) return std::nullopt;
  const double swap = static_cast<double>(machine.totalswap) * machine.mem_unit;
  MemoryThere least{static_cast<double>(machine.totalram) * machine.mem_unit + swap};
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "4:memory:/a/b", of version 2 "0::/a/b"
    const std::vector<std::string> parts = split(line, ':');
    if (parts.size() != 3 || parts[2].empty() || (parts[1] != "memory" && !parts[1].empty()))
      continue;
    const bool first_version = parts[1] == "memory";
    const std::filesystem::path root = first_version ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup";
    for (std::filesystem::path group = parts[2].substr(1);; group = group.parent_path()) {
      std::ifstream file(root / group / (first_version ? "memory.limit_in_bytes" : "memory.max"));
      double limit = 0;
      if (file >> limit && limit + swap < least.bytes)
        least = {limit + swap, " by the limit of its control group"};
      if (group.empty()) break;
    }
  }
  return least;
}

// A figure of a file of /proc in bytes; none where it is not there.
std::optional<double> proc_figure(const char* path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(name + ":"))
      return 1024 * std::strtod(line.c_str() + name.size() + 1, nullptr);
  return std::nullopt;
}

// What this process has and what the kernel could still give it without ending anybody: memory that
// is free or a cache of files, and swap.
std::optional<double> free_memory() {
  const auto available = proc_figure("/proc/meminfo", "MemAvailable");
  if (!available) return std::nullopt;
  return *available + proc_figure("/proc/meminfo", "SwapFree").value_or(0) +
         proc_figure("/proc/self/status", "RssAnon").value_or(0);
}

std::string gib(double bytes) { return concat(std::round(bytes / 0x1p30 * 10) / 10, " GiB"); }
}  // namespace

void set_default_device_index(int index) { default_index = index; }

Device device_of(const Options& options) {
  const std::string text = options.device(), kind = text.substr(0, text.find(':'));
  int index = kind == "cpu" ? 0 : default_index;
  if (kind.size() < text.size()) {
    const auto given = number_in<int>(text.substr(kind.size() + 1));
    CHECK_AS(Fault::usage, given, "--device ", text, ": the index is no number");
    index = *given;
  }
  const bool on_cpu = kind == "cpu" || (kind == "auto" && device_count(DeviceType::cuda) == 0);
  const Device device{on_cpu ? DeviceType::cpu : DeviceType::cuda,
                      on_cpu && kind == "auto" ? 0 : index};
  try {
    kernels(device);  // throws where it cannot be used
  } catch (const Error& error) {
    throw Error(concat("--device ", text, ": ", error.what()), error.fault(), "--device auto");
  }
  return device;
}

void add_amp_option(OptionTable& table) {
  table
      .add("run.amp", "--amp", "off",
           "lower precision for speed; bf16: of all activations on a GPU (what is trained stays "
           "f32), of products with matrices held in bf16 on a CPU; tf32: of a GPU's products of "
           "f32")
      .one_of({"off", "tf32", "bf16"});
}

DType apply_amp(const Options& options, Device device) {
  const auto amp = options.get<std::string>("run.amp");
  const bool on_cpu = device.type == DeviceType::cpu;
  if (amp == "tf32" && on_cpu)
    throw Error("--amp tf32: the cpu has no products of TF32", Fault::usage, "--device cuda");
  set_product_precision({.tf32 = amp == "tf32", .bf16 = amp == "bf16"});
  return amp == "bf16" && !on_cpu ? DType::bf16 : DType::f32;
}

void add_graph_option(OptionTable& table) {
  table
      .add("run.cuda_graph", "--cuda-graph", "auto",
           "record a training step and queue it by one call (auto: where the GPU waits for the "
           "host)")
      .one_of({"auto", "on", "off"})
      .free_on_resume();
}

GraphUse graph_use(const Options& options, Device device) {
  const auto use = options.get<std::string>("run.cuda_graph");
  if (use == "on" && device.type == DeviceType::cpu)
    throw Error("--cuda-graph on: the cpu has no graphs", Fault::usage, "--device cuda");
  return use == "off" ? GraphUse::off : use == "on" ? GraphUse::on : GraphUse::automatic;
}

void require_memory(double bytes, Device device) {
  if (device.type != DeviceType::cpu) return;
  const auto there = memory_there();
  if (!there || bytes <= there->bytes) return;
  throw Error(concat("memory: a step needs about ", gib(bytes), ", this machine has ",
                     gib(there->bytes), there->of),
              Fault::memory, "a smaller --batch-size and more --grad-accum-steps");
}

void warn_of_used_memory(double bytes, Device device) {
  if (device.type != DeviceType::cpu) return;
  if (const auto free = free_memory(); free && bytes > *free)
    log_warning("memory: a step needs about ", gib(bytes), ", and other programs leave ",
                gib(*free), " of this machine's now; a smaller --batch-size needs less");
}

}  // namespace mullion
