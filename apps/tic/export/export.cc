// tool_tic export: a trained model for other programs.
#include "apps/program/log.h"
#include "apps/tic/export/tic_onnx.h"
#include "apps/tic/model_choice.h"
#include "apps/tic/tool_verbs.h"
#include "nn/state.h"
#include "tensor/io/atomic_folder.h"
#include "tensor/io/file.h"
#include "tensor/io/file_place.h"

namespace mullion {

namespace {

namespace fs = std::filesystem;

constexpr char kTicModel[] =  // tic_model.py
#include "tic_model.inc"
    ;

OptionTable export_table() {
  OptionTable table("tool_tic export", "A model for PyTorch or for ONNX.");
  add_checkpoint_options(table);
  table
      .add("export.format", "--format", "torch",
           "torch: a folder with weights, configuration and tic_model.py, which defines the model; "
           "onnx: one file (opset 17), images of any size")
      .one_of({"torch", "onnx"});
  table
      .add_optional<fs::path>("export.output", "-o,--output",
                              "folder (torch; absent or empty) or file (onnx) to write")
      .required();
  table.add_common_without(true, true);
  return table;
}

Outcome export_model(const Options& options) {
  const auto output = options.get<fs::path>("export.output");
  const bool onnx = options.get<std::string>("export.format") == "onnx";
  if (onnx) CHECK_AS(Fault::usage, !fs::exists(output), output.string(), ": is there already");
  onnx ? check_file_place(output) : check_folder_place(output);  // before the work
  const auto checkpoint = options.get<std::string>("model.checkpoint");
  const LoadedTic loaded = checkpoint_model(options);
  CHECK_AS(Fault::usage, !loaded.description.config.is_global(), tic_folder(checkpoint).string(),
           ": the twin with global attention is there for comparisons and is not exported");
  if (onnx) {
    write_whole_file(output, tic_as_onnx(*loaded.model, loaded.description));
  } else {
    AtomicFolder folder(output);
    write_tic_config(folder.place(), loaded.description);
    save_tensors(folder.place() / "model.safetensors", named_parameters(*loaded.model));
    write_whole_file(folder.place() / "tic_model.py", kTicModel);
    folder.commit();
  }
  print_result(options, concat(output.string(), ": ", loaded.description.config.preset, " of ",
                               tic_folder(checkpoint).string(), onnx ? "" : "; see tic_model.py"));
  return JsonObject()
      .set("output", output.string())
      .set("format", onnx ? "onnx" : "torch")
      .set("params", parameter_count(named_parameters(*loaded.model)));
}

}  // namespace

Verb export_verb() { return {export_table(), export_model}; }

}  // namespace mullion
