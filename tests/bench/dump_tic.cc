// Outputs and every gradient of a TiC for given parameters, for tools/compare_tic.py.
//   dump_tic MODEL_ARGS.json INPUT.safetensors OUTPUT.safetensors
// Input: the parameters under their names, `input` (B, H, W, in_chans), `grad_out` (B, classes).
// Output: `out`, `grad.input` (B, H, W, in_chans) and `grad.NAME`.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "autograd/engine.h"
#include "models/tic/model.h"
#include "nn/state.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"

namespace mullion {
namespace {

Tensor tensor_of(const TensorSource& source, const std::string& name) {
  const TensorEntry* entry = source.find(name);
  CHECK_AS(Fault::bad_file, entry != nullptr, name, " is missing");
  const Tensor tensor = Tensor::empty(Shape(std::span(entry->shape)));
  load_tensor(source, name, tensor);
  return tensor;
}

void dump(const char* args, const char* input, const char* output) {
  Tic model(tic_from_model_args(read_json_file(args), args));
  const auto source = open_safetensors(input);
  const auto parameters = named_parameters(model);
  for (const NamedParameter& p : parameters) load_tensor(*source, p.name, p.value);
  set_trainable(model, [](const std::string&) { return true; });
  const Tensor images = tensor_of(*source, "input");
  set_requires_grad(images, true);
  const Tensor out = model(images);
  backward(out, tensor_of(*source, "grad_out"));
  std::vector<NamedParameter> results = {{"out", out}, {"grad.input", grad(images)}};
  for (const NamedParameter& p : parameters) results.push_back({"grad." + p.name, grad(p.value)});
  save_tensors(output, results);
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  if (argc != 4) return std::fprintf(stderr, "usage: dump_tic ARGS INPUT OUTPUT\n"), 2;
  try {
    mullion::dump(argv[1], argv[2], argv[3]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
