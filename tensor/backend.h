// The kernel table: every computation on tensors goes through one of these pointers, with a plain
// struct of pointers and sizes. A device that is not part of the build has no table. Kernels write
// every element of their outputs, allocate no tensors and know nothing of gradients.
//
// A kind of device other than the CPU is a DeviceBackend: its table and its memory. It registers
// itself before main(), so that which devices a program has is decided by what it links.
#pragma once
#include <string>

#include "tensor/elementwise.h"
#include "tensor/storage.h"

namespace mullion {

struct CopyArgs;
struct FillArgs;
struct UnaryArgs;
struct UnaryGradArgs;
struct AffineArgs;
struct BinaryArgs;
struct SumAxisArgs;
struct AccumulateArgs;
struct SwigluArgs;
struct SwigluGradArgs;
struct RandomArgs;
struct MatmulArgs;
struct EmbeddingArgs;
struct EmbeddingGradArgs;
struct RmsNormArgs;
struct RmsNormGradArgs;
struct LayerNormArgs;
struct LayerNormGradArgs;
struct RopeArgs;
struct SoftmaxArgs;
struct SoftmaxGradArgs;
struct CrossEntropyArgs;
struct SoftCrossEntropyArgs;
struct AttentionSizes;
struct AttentionForwardArgs;
struct AttentionBackwardArgs;
struct MsaConvArgs;
struct MsaConvBackwardArgs;
struct MaxPool2Args;
struct MaxPool2BackwardArgs;
struct AveragePoolArgs;
struct AveragePoolBackwardArgs;
struct DepthwiseConv3Args;
struct DepthwiseConv3BackwardArgs;
struct Im2ColArgs;
struct Col2ImArgs;
struct AdamWArgs;
struct SgdArgs;
struct EmaArgs;
struct SumSquaresArgs;

struct KernelTable {
  // elementwise and data movement (kernel_args/elementwise.h)
  void (*copy)(const CopyArgs&);
  void (*fill)(const FillArgs&);
  void (*unary[UnaryOps::size])(const UnaryArgs&);
  void (*unary_grad[UnaryOps::size])(const UnaryGradArgs&);
  void (*binary[BinaryOps::size])(const BinaryArgs&);
  void (*affine)(const AffineArgs&);
  void (*sum_axis)(const SumAxisArgs&);
  void (*accumulate)(const AccumulateArgs&);
  void (*swiglu)(const SwigluArgs&);
  void (*swiglu_grad)(const SwigluGradArgs&);
  void (*random)(const RandomArgs&);
  // products and lookups (kernel_args/linear.h)
  void (*matmul)(const MatmulArgs&);
  void (*embedding)(const EmbeddingArgs&);
  void (*embedding_grad)(const EmbeddingGradArgs&);
  // normalisation, positions, losses (kernel_args/norm.h)
  void (*rms_norm)(const RmsNormArgs&);
  void (*rms_norm_grad)(const RmsNormGradArgs&);
  void (*layer_norm)(const LayerNormArgs&);
  void (*layer_norm_grad)(const LayerNormGradArgs&);
  void (*rope)(const RopeArgs&);
  void (*softmax)(const SoftmaxArgs&);
  void (*softmax_grad)(const SoftmaxGradArgs&);
  void (*cross_entropy)(const CrossEntropyArgs&);
  void (*soft_cross_entropy)(const SoftCrossEntropyArgs&);
  // attention (kernel_args/attention.h); sizes of scratch are in bytes
  void (*attention_forward)(const AttentionForwardArgs&);
  size_t (*attention_forward_scratch)(const AttentionSizes&);
  void (*attention_backward)(const AttentionBackwardArgs&);
  size_t (*attention_backward_scratch)(const AttentionSizes&);
  // windowed attention on maps (kernel_args/msa_conv.h)
  void (*msa_conv)(const MsaConvArgs&);
  void (*msa_conv_grad)(const MsaConvBackwardArgs&);
  // pooling and convolution on maps (kernel_args/pooling.h)
  void (*max_pool2)(const MaxPool2Args&);
  void (*max_pool2_backward)(const MaxPool2BackwardArgs&);
  void (*average_pool)(const AveragePoolArgs&);
  void (*average_pool_backward)(const AveragePoolBackwardArgs&);
  void (*depthwise_conv3)(const DepthwiseConv3Args&);
  void (*depthwise_conv3_backward)(const DepthwiseConv3BackwardArgs&);
  void (*im2col)(const Im2ColArgs&);
  void (*col2im)(const Col2ImArgs&);
  // optimizers (kernel_args/optimizer.h)
  void (*adamw)(const AdamWArgs&);
  void (*sgd)(const SgdArgs&);
  void (*ema)(const EmaArgs&);
  void (*sum_squares)(const SumSquaresArgs&);
};

// The table of a device, which becomes the calling thread's current one. Throws Error
// (Fault::usage) where the build has none, "device cuda is not part of this build", and where the
// machine has none: "no CUDA device: " and the reason.
const KernelTable& kernels(Device device);

extern const KernelTable kCpuKernels;  // tensor/cpu/table.cc

// What a kind of device brings along. Work is queued: kernels and copies run in the order in which
// they were asked for, and only download() and synchronize() wait. `index` counts devices of the
// kind; one that does not exist is Error (Fault::usage) in kernels() and never reaches the others.
struct DeviceBackend {
  const KernelTable& (*kernels)(int index);
  int (*count)();                               // devices that can be used
  std::string (*describe)(int index);           // name, memory and versions, for people
  void* (*allocate)(int64_t bytes, int index);  // aligned to 256; null: out of memory
  void (*free)(void* block, int index);         // whatever is queued may still use the block
  // The bytes of host memory may be used again when these return.
  void (*upload)(void* target, const void* source, int64_t bytes, int index);
  void (*download)(void* target, const void* source, int64_t bytes, int index);
  // Between two blocks of one device or of two.
  void (*copy)(void* target, int target_index, const void* source, int source_index, int64_t bytes);
  void (*set_bytes)(void* target, unsigned char value, int64_t bytes, int index);
  void (*synchronize)(int index);  // returns when all that was queued has run; throws its faults
  void (*trim)(int index);         // gives unused memory back to the system
  // What the calling thread queues between begin and end is recorded and not computed; it may not
  // wait, allocate, or exchange data with the host. end_recording() gives a graph, which replay()
  // queues as a whole, with the arguments of the recording; abandon_recording() forgets it, where
  // one is under way.
  void (*begin_recording)(int index);
  void* (*end_recording)(int index);
  void (*abandon_recording)(int index);
  void (*replay)(void* graph, int index);
  int64_t (*nodes_of)(void* graph);  // launches, copies and fills
  void (*destroy_graph)(void* graph, int index);
};
void register_backend(DeviceType type, const DeviceBackend& backend);
// The backend of a kind of device other than the CPU. Throws as kernels() where there is none.
const DeviceBackend& backend(DeviceType type);

// Devices of a kind that can be used; 0 where the build or the machine has none.
int device_count(DeviceType type);
void synchronize(Device device);
std::string describe(Device device);

}  // namespace mullion
