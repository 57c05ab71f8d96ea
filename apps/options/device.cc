// A device by its name, whether it is there; the settings of the process that go with it.
#include "apps/options/device.h"

#include "apps/program/rank_lines.h"

#include <sys/sysinfo.h>

#include <cmath>

#include "tensor/backend.h"
#include "tensor/check.h"
#include "tensor/precision.h"
#include "tensor/words.h"

namespace mullion {

namespace {
int default_index = 0;
}

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
  struct sysinfo machine = {};
  if (device.type != DeviceType::cpu || sysinfo(&machine) != 0) return;
  const double there = static_cast<double>(machine.totalram + machine.totalswap) * machine.mem_unit;
  if (bytes <= there) return;
  const auto gib = [](double n) { return concat(std::round(n / 0x1p30 * 10) / 10, " GiB"); };
  throw Error(concat("memory: a step needs about ", gib(bytes), ", this machine has ", gib(there)),
              Fault::memory, "a smaller --batch-size and more --grad-accum-steps");
}

}  // namespace mullion
