// Tasks in which a model writes: topics and lines, on a model that says one thing.
#include <nlohmann/json.hpp>

#include "models/llama/load.h"
#include "tensor/io/file.h"
#include "tests/apps/byte_tokenizer.h"
#include "tests/apps/programs.h"

namespace mullion {
namespace {

class Written : public test::Programs {
 protected:
  Written() : Programs({"eval_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    LlamaConfig c;
    c.vocab_size = 257;
    c.hidden_size = 8;
    c.intermediate_size = 8;
    c.num_hidden_layers = 1;
    c.num_attention_heads = 2;
    c.num_key_value_heads = 1;
    c.head_dim = 4;
    c.max_position_embeddings = 128;
    Llama model(c);
    // Whatever it reads, it writes the digit 7: all tokens look alike, and one row of the head
    // agrees with what they look like.
    for_each_parameter(model, [](const std::string& name, Tensor& p) {
      raw::fill(p, name.find("norm") != std::string::npos || name.find("embed") != std::string::npos
                       ? 1
                       : 0);
      if (name == "lm_head.weight") raw::fill(raw::slice(p, 0, '7', '7' + 1), 1);
    });
    save_llama(at("m"), model);
    write_tokenizer(*test::byte_tokenizer(), at("m"));
  }
};

TEST_F(Written, LinesTakeTheFirstNumber) {
  write_whole_file(
      at("2_lines.jsonl"),
      "{\"prompt\": \"line a is <7>, line b is <77>; a?\", \"expected_number\": 7777}\n"
      "{\"prompt\": \"other\", \"expected_number\": 7}\n");
  const std::string lines = "eval_llama lines -m m --data . --lines 2 --threads 1 --json ";
  const auto four = result(lines + "--max-tokens 4 --output out");
  EXPECT_EQ(four["results"][0]["lines"], 2);
  EXPECT_EQ(four["results"][0]["n"], 2);
  EXPECT_EQ(four["results"][0]["accuracy"], 0.5);
  const auto file = nlohmann::json::parse(test::contents(at(four["file"].get<std::string>())));
  EXPECT_EQ(file["results"]["lines_2"]["accuracy,none"], 0.5);
  EXPECT_EQ(result(lines + "--max-tokens 1 --kv h2o --kv-budget 4 -b 2")["results"][0]["accuracy"],
            0.5);
  EXPECT_EQ(result(lines + "--max-tokens 2")["results"][0]["accuracy"], 0.0);
  refused(lines + "--max-tokens 100", 2, {"sample 0", "context is 128"});
  refused(lines + "--lines 3", 3, {"3_lines.jsonl"});
  write_whole_file(at("4_lines.jsonl"), "{\"prompt\": \"a\", \"expected_number\": -1}\n");
  refused(lines + "--lines 4", 3, {"4_lines.jsonl: line 1", "expected_number"});
}

TEST_F(Written, TopicsAreFoundInTheAnswer) {
  write_whole_file(at("5_topics.jsonl"),
                   "{\"prompt\": \"a\", \"topics\": [\"The 77!\", \"x\"]}\n"
                   "{\"prompt\": \"b\", \"topics\": [\"seven\"]}\n");
  const std::string topic = "eval_llama topic -m m --data . --topics 5 --threads 1 --json ";
  const auto found = result(topic + "--template vicuna");
  EXPECT_EQ(found["results"][0]["topics"], 5);
  EXPECT_EQ(found["results"][0]["accuracy"], 0.5);
  write_whole_file(at("1_topics.jsonl"), "{\"prompt\": \"a\", \"topics\": []}\n");
  refused("eval_llama topic -m m --data . --topics 1", 3, {"1_topics.jsonl: line 1", "topics"});
}

}  // namespace
}  // namespace mullion
