#include "apps/llama/model_amp.h"

namespace mullion {

DType apply_amp(const Options& options, Module& model) {
  Device device;
  bool has_blocks = false, has_bf16 = false;
  for_each_weight(model, [&](const std::string&, Weight& w) {
    device = w.device();
    has_blocks = has_blocks || w.is_blocks();
    has_bf16 = has_bf16 || (!w.is_blocks() && w.tensor().dtype() == DType::bf16);
  });
  const bool on_cpu = device.type == DeviceType::cpu;
  if (on_cpu && !has_bf16 && options.get<std::string>("run.amp") == "bf16")
    options.tell_idle("run.amp",
                      concat("on the CPU with no matrix held in bf16 (--weights bf16): ",
                             has_blocks ? "blocks are" : "f32 is", " multiplied in f32"));
  return apply_amp(options, device);
}

}  // namespace mullion
