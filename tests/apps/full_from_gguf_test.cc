// train_llama --full from a GGUF file leaves a folder that is a model by itself, with the tokenizer
// that the file carried; from a Hugging Face folder, with the files beside its weights.
#include "data/tokenizer_writer.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"
#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"
#include "tests/data/tokenizer_samples.h"
#include "tests/models/llama_gguf.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::Answer;
using test::contents;

// A model of the tokenizer's size as a GGUF file that carries it.
std::string gguf_with(const Tokenizer& tokenizer) {
  LlamaConfig config = test::tiny_config();
  config.vocab_size = tokenizer.vocab_size();
  uint32_t state = 1;
  test::GgufText text = test::gguf_of(config, [&](size_t, uint64_t count) {
    std::vector<float> values(count);
    for (float& v : values) {
      state = state * 1664525u + 1013904223u;
      v = static_cast<float>(static_cast<int32_t>(state)) / 2147483648.0f * 0.3f;
    }
    return values;
  });
  const TokenizerParts& parts = tokenizer.parts();
  const auto strings = [&](const char* key, const std::vector<std::string>& list) {
    std::string bytes;
    for (const std::string& item : list) bytes += test::GgufText::string(item);
    text.array(key, GgufType::string, list.size(), bytes);
  };
  text.text("tokenizer.ggml.model", parts.model);
  strings("tokenizer.ggml.tokens", parts.tokens);
  std::string types, scores;
  for (const TokenType type : parts.types) test::append(types, static_cast<int32_t>(type));
  for (const float score : parts.scores) test::append(scores, score);
  text.array("tokenizer.ggml.token_type", GgufType::i32, parts.types.size(), types);
  if (parts.model == "llama")
    text.array("tokenizer.ggml.scores", GgufType::f32, parts.scores.size(), scores);
  else
    strings("tokenizer.ggml.merges", parts.merges);
  if (!parts.pre.empty()) text.text("tokenizer.ggml.pre", parts.pre);
  if (parts.bos) text.u32("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(*parts.bos));
  if (parts.eos) text.u32("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(*parts.eos));
  if (parts.unk) text.u32("tokenizer.ggml.unknown_token_id", static_cast<uint32_t>(*parts.unk));
  text.text("tokenizer.chat_template", "{{ '<|im_start|>' }}");
  return text.bytes();
}

class FullFromGguf : public test::Programs {
 protected:
  FullFromGguf() : Programs({"train_llama", "chat_llama", "data_llama"}) {}
  const std::string train_ =
      "train_llama pretrain --ctx-size 16 --attn full --full --output runs --warmup-steps 0 --lr 0 "
      "--grad-accum-steps 1 --max-steps 1 --threads 1 ";

  void same_model(const Tokenizer& tokenizer) {
    write_whole_file(at("m.gguf"), gguf_with(tokenizer));
    write_whole_file(at("text.txt"),
                     std::string("the and the 12 \xC3\xA9 and\n\n  then") + std::string(200, 'a'));
    ASSERT_EQ(run("data_llama tokenize -m m.gguf --data text.txt -o t.bin").code, 0);
    const Answer trained = run(train_ + "-m m.gguf --data t.bin --name a");
    ASSERT_EQ(trained.code, 0) << trained.log;
    for (const char* text : {"the and", " lead", "12 the\n", "<s>x"}) {
      const auto show = [&](const std::string& model) {
        return result(concat("data_llama show --text '", text, "' --json -m ", model))["ids"];
      };
      EXPECT_EQ(show("m.gguf"), show("runs/a")) << text;
    }
    const auto said = [&](const std::string& model) {
      return result("chat_llama complete -p 'the' -n 8 --threads 1 --json -m " + model)["text"];
    };
    EXPECT_EQ(said("m.gguf"), said("runs/a"));
    EXPECT_EQ(load_tokenizer(at("runs/a/last/model"))->parts().chat_template,
              "{{ '<|im_start|>' }}");
    EXPECT_TRUE(fs::exists(at("runs/a/last/model/generation_config.json")));
  }
};

TEST_F(FullFromGguf, SentencePiece) {
  TokenizerParts parts = parse_sentencepiece_model(test::spm_sample().bytes(), "sample");
  same_model(*make_tokenizer(std::move(parts)));
  EXPECT_TRUE(fs::exists(at("runs/a/last/model/tokenizer.model")));
}

TEST_F(FullFromGguf, ByteLevel) {
  for (const char* pre : {"gpt-2", "smollm", "starcoder", "llama-bpe"}) {
    TokenizerParts parts = parse_tokenizer_json(test::json_sample().dump(), "sample");
    parts.pre = pre;
    parts.ignore_merges = parts.pre == "llama-bpe";  // as the GGUF reader has it
    parts.bos = parts.eos = static_cast<int32_t>(parts.tokens.size()) - 1;
    same_model(*make_tokenizer(std::move(parts)));
    EXPECT_TRUE(fs::exists(at("runs/a/last/model/tokenizer.json")));
    fs::remove_all(at("runs"));
  }
}

TEST_F(FullFromGguf, ATokenizerThatNoFolderCanHoldIsRefusedBeforeTraining) {
  TokenizerParts parts = parse_tokenizer_json(test::json_sample().dump(), "sample");
  parts.pre = "default";
  write_whole_file(at("m.gguf"), gguf_with(*make_tokenizer(std::move(parts))));
  test::write_lexicon_tokens(at("t.bin"), 6);
  refused(train_ + "-m m.gguf --data t.bin --name a", 3, {"pre-tokenizer", "default"});
  EXPECT_FALSE(fs::exists(at("runs")));
}

TEST_F(FullFromGguf, FilesBesideTheWeightsOfAFolderGoAlong) {
  test::write_tiny_llama(at("base"));
  test::write_lexicon_tokens(at("t.bin"), 6);
  for (const char* name : {"chat_template.jinja", "generation_config.json", "added_tokens.json",
                           "special_tokens_map.json"})
    write_whole_file(at("base") / name, "{}");
  const Answer trained = run(train_ + "-m base --data t.bin --name a");
  ASSERT_EQ(trained.code, 0) << trained.log;
  for (const char* name : {"chat_template.jinja", "generation_config.json", "added_tokens.json",
                           "special_tokens_map.json", "tokenizer.json"})
    EXPECT_EQ(contents(at("runs/a/last/model") / name), contents(at("base") / name)) << name;
}

}  // namespace
}  // namespace mullion
