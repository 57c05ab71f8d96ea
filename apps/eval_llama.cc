// What a LLaMA knows: one verb a file of apps/llama/tasks.
//   eval_llama ppl -m DIR --data book.bin --ctx-size 512,1024 --protocol longlora
//   eval_llama choice -m DIR --task openbookqa --data test.jsonl --kv full,h2o --kv-budget 20%
#include "apps/llama/evaluation/task.h"
#include "apps/program/dry_run.h"

int main(int argc, char** argv) {
  using namespace mullion;
  std::vector<Verb> verbs = evaluation_verbs();
  for (Verb& verb : verbs)  // all prints its list of calls
    if (verb.table.program() != "eval_llama all") verb = without_dry_run(std::move(verb));
  return run_program(argc, argv, "Evaluates a LLaMA.", verbs);
}
