// What a resumed training of a LLaMA asks of its data, and a loaded model of its checkpoint.
#include <fstream>

#include "tensor/io/file.h"
#include "tests/apps/llama_programs.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::Answer;
using test::contents;

class LlamaCheckpoints : public test::LlamaPrograms {
 protected:
  // A bit of a byte so far before a file's end.
  void flip(const std::string& file, size_t from_end = 100) const {
    std::string bytes = contents(at(file));
    char& byte = bytes[bytes.size() - from_end];
    byte = static_cast<char>(byte ^ 1);
    std::ofstream(at(file), std::ios::binary) << bytes;
  }
};

TEST_F(LlamaCheckpoints, OtherDataIsNamedAtAResume) {
  test::write_lexicon_tokens(at("train.bin"), 3000);
  const std::string train = lora_ + "--max-steps 1 --name a --resume auto ";
  result(train);
  result(train);
  // The ends of a file do not tell all of it.
  flip("train.bin", fs::file_size(at("train.bin")) / 2);
  refused(train, 2, {"contents of the data: ", "--allow-mismatch 'contents of the data'"});
  flip("train.bin", fs::file_size(at("train.bin")) / 2);
  flip("val.bin");
  const Answer resumed = run(train);
  EXPECT_EQ(resumed.code, 0) << resumed.log;
  EXPECT_NE(resumed.log.find("but        validation data is "), std::string::npos) << resumed.log;
}

TEST_F(LlamaCheckpoints, ALoadedModelIsAsItWasSaved) {
  result(lora_ + "--max-steps 1 --name pairs");
  const std::string ppl = "eval_llama ppl --data val.bin --ctx-size 64 --threads 1 --json ",
                    pairs = "runs/pairs/last/adapter/adapter_model.safetensors";
  const std::vector<std::string> damaged = {"adapter/adapter_model.safetensors: SHA-256 is",
                                            "COMPLETE says", "without COMPLETE"};
  result(ppl + "-m runs/pairs");
  flip(pairs);
  refused(ppl + "-m runs/pairs", 3, damaged);
  refused(ppl + "-m base --adapter runs/pairs/last", 3, damaged);
  refused(lora_ + "--max-steps 1 --name b --initial-adapter runs/pairs", 3, damaged);
  fs::copy(at("runs/pairs/last/adapter"), at("own"));
  result(ppl + "-m base --adapter own");
  flip(pairs);
  result(ppl + "-m runs/pairs");
  // The model card is for people, who write in it.
  write_whole_file(at("runs/pairs/last/adapter/README.md"), "mine");
  result(ppl + "-m runs/pairs");
  fs::remove(at("runs/pairs/last/COMPLETE"));
  refused(ppl + "-m runs/pairs", 3, {"checkpoint-000001: has no COMPLETE", "not whole"});
}

}  // namespace
}  // namespace mullion
