// Depthwise MSA-Conv in f32: each channel is a head of its own (h = C in docs/tic.md; TiC's third
// kind of convolution). Vectors run over channels, which lie side by side in NHWC, so that nothing
// is packed: a logit is a product of two elements, cheaper to compute again than to keep.
#pragma once
#include "tensor/kernel_args/msa_conv.h"

namespace mullion::cpu {

// Whether all channels of each vector are shifted alike; never with dropout.
bool has_depthwise_form(const MsaConvGeometry& g);

// As msa_conv and msa_conv_backward, of f32.
void depthwise_msa_conv(const MsaConvArgs& args);
void depthwise_msa_conv_backward(const MsaConvBackwardArgs& args);

}  // namespace mullion::cpu
