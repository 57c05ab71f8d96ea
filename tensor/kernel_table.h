// Every computation on tensors goes through a kernel: a function of one device that is given a
// plain struct of pointers and sizes (tensor/kernel_args). Kernels write every element of their
// outputs, allocate no tensors and know nothing of gradients.
//
// There is one list of kernels, whose parts stand beside the arguments. From it come the slots of
// KernelTable, what each device declares (cpu/kernels.h, cuda/kernels.h) and both tables.
#pragma once
#include "tensor/backend.h"
#include "tensor/elementwise.h"
#include "tensor/kernel_args/attention.h"
#include "tensor/kernel_args/blocks.h"
#include "tensor/kernel_args/elementwise.h"
#include "tensor/kernel_args/linear.h"
#include "tensor/kernel_args/msa_conv.h"
#include "tensor/kernel_args/norm.h"
#include "tensor/kernel_args/optimizer.h"
#include "tensor/kernel_args/pooling.h"

// KERNEL(result, name, Args) for every kernel but those of the functors of tensor/elementwise.h.
#define MULLION_KERNELS(KERNEL)       \
  MULLION_ELEMENTWISE_KERNELS(KERNEL) \
  MULLION_LINEAR_KERNELS(KERNEL)      \
  MULLION_BLOCK_KERNELS(KERNEL)       \
  MULLION_NORM_KERNELS(KERNEL)        \
  MULLION_ATTENTION_KERNELS(KERNEL)   \
  MULLION_MSA_CONV_KERNELS(KERNEL)    \
  MULLION_POOLING_KERNELS(KERNEL)     \
  MULLION_OPTIMIZER_KERNELS(KERNEL)

namespace mullion {

// A device's kernels: kernels(x.device()).softmax({.x = ..., .y = ..., ...}).
struct KernelTable {
#define MULLION_SLOT(result, name, Args) result (*name)(const Args&);
  MULLION_KERNELS(MULLION_SLOT)
#undef MULLION_SLOT
  // One for every functor, in the order of its list: unary[UnaryOps::Silu].
  void (*unary[UnaryOps::size])(const UnaryArgs&);
  void (*unary_backward[UnaryOps::size])(const UnaryBackwardArgs&);
  void (*binary[BinaryOps::size])(const BinaryArgs&);
};

}  // namespace mullion

// Within the namespace of a device: declares its kernels and its table.
#define MULLION_KERNEL_PROTOTYPE(result, name, Args) result name(const Args&);
#define MULLION_DECLARE_KERNELS                  \
  MULLION_KERNELS(MULLION_KERNEL_PROTOTYPE)      \
  template <typename Op>                         \
  void unary(const UnaryArgs&);                  \
  template <typename Op>                         \
  void unary_backward(const UnaryBackwardArgs&); \
  template <typename Op>                         \
  void binary(const BinaryArgs&);                \
  extern const KernelTable kTable;

// In one source of the device: the table.
#define MULLION_KERNEL_ENTRY(result, name, Args) .name = name,
#define MULLION_UNARY_ENTRY(op, Op) unary<Op>,
#define MULLION_UNARY_BACKWARD_ENTRY(op, Op) unary_backward<Op>,
#define MULLION_BINARY_ENTRY(op, Op) binary<Op>,
#define MULLION_DEFINE_TABLE                                                                  \
  constinit const KernelTable kTable = {                                                      \
      MULLION_KERNELS(MULLION_KERNEL_ENTRY).unary = {MULLION_UNARY_OPS(MULLION_UNARY_ENTRY)}, \
      .unary_backward = {MULLION_UNARY_OPS(MULLION_UNARY_BACKWARD_ENTRY)},                    \
      .binary = {MULLION_BINARY_OPS(MULLION_BINARY_ENTRY)}};
