// Text from a LLaMA:
//   chat_llama chat -m DIR
//   chat_llama serve -m DIR --port 8000
//   chat_llama complete -m DIR -p "Once upon a time" -n 100
#include "apps/llama/chat_verbs.h"

int main(int argc, char** argv) {
  using namespace mullion;
  return run_program(
      argc, argv, "Text from a LLaMA, with a KV cache.",
      {{chat_table(), chat}, {complete_table(), complete_text}, {serve_table(), serve_text}});
}
