// tool_llama merge: base and adapter as one Hugging Face folder.
#include "apps/llama/model_options.h"
#include "apps/llama/model_out.h"
#include "apps/llama/tool_verbs.h"
#include "tensor/io/atomic_folder.h"
#include "tensor/io/file_place.h"

namespace mullion {
namespace fs = std::filesystem;

OptionTable merge_table() {
  OptionTable table("tool_llama merge",
                    "Merges an adapter into its base, as a Hugging Face folder");
  add_model_out_options(table);
  table
      .add_optional<fs::path>("output.path", "-o,--output",
                              "folder to write; nothing may be in it yet")
      .required();
  table
      .add("output.dtype", "--dtype", "auto",
           "type of the weights; auto: the base's, f32 for a quantised one")
      .one_of({"auto", "f32", "f16", "bf16"});
  add_hf_folder_options(table);
  return table;
}

Outcome merge_adapter(const Options& options) {
  check_folder_place(options.get<fs::path>("output.path"));  // before the work
  ModelOut m = open_model_out(options);
  CHECK_AS(Fault::usage, !m.adapter.empty(),
           "merge: no adapter: --adapter FOLDER, or a run with one as --model");
  return write_folder(options, m, options.get<std::string>("output.dtype"));
}

}  // namespace mullion
