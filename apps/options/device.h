// The device that --device names.
#pragma once
#include <string>

#include "apps/options/options.h"
#include "autograd/step_graph.h"
#include "tensor/dtype.h"
#include "tensor/storage.h"

namespace mullion {

// auto: the first CUDA device (auto:1: the second one), and the CPU where the build or the machine
// has none. Error(usage) with the reason for a device that was named and cannot be used, and for an
// index that does not exist.
Device device_of(const Options& options);
// --amp off, tf32 or bf16, and what it says: sets the precision of products (tensor/precision.h)
// and returns the type of activations. bf16 on a GPU: activations in bf16, sums and what is trained
// in f32. bf16 on the CPU: products with weights held in bf16 round the other side too. tf32:
// products of f32 on a GPU's tensor cores. Error(usage) for tf32 on the CPU.
void add_amp_option(OptionTable& table);
DType apply_amp(const Options& options, Device device);
// --cuda-graph auto, on or off: whether training steps are recorded as a graph. Error(usage) for on
// at the CPU.
void add_graph_option(OptionTable& table);
GraphUse graph_use(const Options& options, Device device);
// Error(memory) with both numbers where the CPU's estimate is beyond the machine's memory and swap,
// or what a control group leaves of them: Linux would grant it and end some process later.
void require_memory(double bytes, Device device);
// Says where it is beyond what other programs leave of the machine's now; by the time that it is
// needed they may have ended.
void warn_of_used_memory(double bytes, Device device);

}  // namespace mullion
