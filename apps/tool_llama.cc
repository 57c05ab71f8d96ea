// A LLaMA out of the door, and a look into it:
//   tool_llama merge -m BASE --adapter RUN -o FOLDER
//   tool_llama export -m FOLDER --format gguf --type q8_0 -o MODEL.gguf
//   tool_llama quantize -m FOLDER --type q4_k -o MODEL.gguf --check TEXT
//   tool_llama info MODEL
//   tool_llama compare A B --data TEXT
//   tool_llama bench -m MODEL -p 512 -n 128
#include "apps/llama/tool_verbs.h"
#include "apps/program/dry_run.h"

int main(int argc, char** argv) {
  using namespace mullion;
  return run_program(argc, argv, "Takes a LLaMA out: merges, exports, describes, compares, times.",
                     {{merge_table(), merge_adapter},
                      {export_table(), export_model},
                      {quantize_table(), quantize_model},
                      without_dry_run({info_table(), model_info}),
                      {compare_table(), compare_models},
                      {bench_table(), bench_model}});
}
