// A TiC as an ONNX graph.
#pragma once
#include <string>

#include "apps/tic/model_folder.h"

namespace mullion {

// The bytes of an ONNX file (opset 17) of the model: images (batch, 3, height, width), normalised,
// of any size, to logits (batch, classes). Keys and values are copied once a tap, as ONNX has no
// windowed attention. What a user of the images needs (mean, std, sizes, class names) is among the
// file's metadata. Error(usage) where the file would be too large for ONNX.
std::string tic_as_onnx(Tic& model, const TicDescription& description);

}  // namespace mullion
