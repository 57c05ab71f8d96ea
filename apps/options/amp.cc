// Looks at where the weights are and how they are held.
#include "apps/options/amp.h"

#include "tensor/cpu/bf16_product.h"

namespace mullion {

DType apply_amp(const Options& options, Module& model) {
  Device device;
  bool has_blocks = false, has_bf16 = false;
  for_each_parameter(model, [&](const std::string&, Tensor& p) { device = p.device(); });
  for_each_weight(model, [&](const std::string&, Weight& w) {
    has_blocks = has_blocks || w.is_blocks();
    has_bf16 = has_bf16 || (!w.is_blocks() && w.tensor().dtype() == DType::bf16);
  });
  const DType activations = apply_amp(options, device);
  if (device.type != DeviceType::cpu || options.get<std::string>("run.amp") != "bf16")
    return activations;
  const bool may_hold_bf16 = options.table().find("model.dtype") != nullptr;
  if (!has_bf16)
    options.tell_idle(
        "run.amp",
        concat("on the CPU with no matrix held in bf16", may_hold_bf16 ? " (--weights bf16)" : "",
               ": ", has_blocks ? "blocks are" : "f32 is", " multiplied in f32"));
  else if (!cpu::has_bf16_products())
    options.tell_idle("run.amp", "on this CPU, which has no instructions for products of bf16");
  return activations;
}

}  // namespace mullion
