// Slots of the table that have no kernel yet; a line goes when its kernel comes.
#include "tensor/cuda/kernels.h"

#include "tensor/check.h"

namespace mullion::cuda {

void msa_conv(const MsaConvArgs&) { fail(Fault::usage, "msa_conv: no kernel on cuda yet"); }
void msa_conv_backward(const MsaConvBackwardArgs&) {
  fail(Fault::usage, "msa_conv_backward: no kernel on cuda yet");
}
void max_pool2(const MaxPool2Args&) { fail(Fault::usage, "max_pool2: no kernel on cuda yet"); }
void max_pool2_backward(const MaxPool2BackwardArgs&) {
  fail(Fault::usage, "max_pool2_backward: no kernel on cuda yet");
}
void average_pool(const AveragePoolArgs&) {
  fail(Fault::usage, "average_pool: no kernel on cuda yet");
}
void average_pool_backward(const AveragePoolBackwardArgs&) {
  fail(Fault::usage, "average_pool_backward: no kernel on cuda yet");
}
void depthwise_conv3(const DepthwiseConv3Args&) {
  fail(Fault::usage, "depthwise_conv3: no kernel on cuda yet");
}
void depthwise_conv3_backward(const DepthwiseConv3BackwardArgs&) {
  fail(Fault::usage, "depthwise_conv3_backward: no kernel on cuda yet");
}
void im2col(const Im2ColArgs&) { fail(Fault::usage, "im2col: no kernel on cuda yet"); }
void col2im(const Col2ImArgs&) { fail(Fault::usage, "col2im: no kernel on cuda yet"); }

}  // namespace mullion::cuda
