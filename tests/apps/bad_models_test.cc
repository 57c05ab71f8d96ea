// Damaged and hostile models, tokenizers, adapters and token files, given to the programs: exit
// code 3 with the file's name and what is wrong with it, and never memory that the file does not
// justify.
#include <sys/resource.h>

#include "models/llama/checkpoint_names.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"
#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"
#include "tests/data/tokenizer_samples.h"
#include "tests/io_builders.h"
#include "tests/models/llama_gguf.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::contents;

class BadModels : public test::Programs {
 protected:
  BadModels() : Programs({"eval_llama", "train_llama", "chat_llama", "data_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    test::write_tiny_llama(at("good"));
    test::write_lexicon_tokens(at("t.bin"), 6);
    fresh();
  }
  void TearDown() override {
    struct rusage use {};
    ::getrusage(RUSAGE_CHILDREN, &use);
    EXPECT_LT(use.ru_maxrss, 256 * 1024) << "KiB, the largest of the programs that ran";
  }
  void fresh() const {
    fs::remove_all(at("m"));
    fs::copy(at("good"), at("m"));
  }
  // The program either reads the model or refuses it by its file's name.
  void survives(const std::string& command, const std::string& file,
                const std::string& what) const {
    const test::Answer answer = run(command);
    EXPECT_TRUE(answer.code == 0 || answer.code == 3) << what << ": " << answer.log;
    if (answer.code == 3) {
      EXPECT_NE(answer.log.find(file), std::string::npos) << what << ": " << answer.log;
    }
  }
  const std::string ppl_ =
      "eval_llama ppl --data t.bin --ctx-size 32 --max-windows 1 --threads 1 -m ";
};

TEST_F(BadModels, CutAndFlippedSafetensors) {
  const std::string file = "m/model.safetensors", bytes = contents(at(file));
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  for (const size_t length : {size_t{0}, size_t{1}, size_t{7}, size_t{8}, size_t{9}, header / 2,
                              header + 7, header + 8, bytes.size() / 2, bytes.size() - 1}) {
    fs::resize_file(at(file), 0);
    write_whole_file(at(file), bytes.substr(0, length));
    refused(ppl_ + "m", 3, {file});
  }
  write_whole_file(at(file), bytes + "PK");
  refused(ppl_ + "m", 3, {file});
  for (size_t i = 0; i < 8 + header; i += 41) {
    std::string flipped = bytes;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << (i % 7)));
    write_whole_file(at(file), flipped);
    survives(ppl_ + "m", file, concat("byte ", i));
  }
}

TEST_F(BadModels, HostileSafetensors) {
  const std::string file = "m/model.safetensors";
  const auto header = [&](const std::string& text) {
    write_whole_file(at(file), test::safetensors_bytes(text, std::string(8, '\0')));
    refused(ppl_ + "m", 3, {file});
  };
  using test::entry_text;
  header("");
  header("[]");
  header("{" + entry_text("a", "F32", "[2]", "[0,8]") + "," +
         entry_text("a", "F32", "[2]", "[0,8]") + "}");
  header("{" + entry_text("a", "F32", "[2]", "[0,8]") + "," +
         entry_text("b", "F32", "[2]", "[0,8]") + "}");
  header("{" + entry_text("a", "F32", "[4611686018427387904,4]", "[0,8]") + "}");
  header("{" + entry_text("a", "F32", "[2]", "[8,0]") + "}");
  header("{" + entry_text("a", "F32", "[2]", "[0,18446744073709551615]") + "}");
  header("{" + entry_text("a", "F32", "[-2]", "[0,8]") + "}");
  header("{" + entry_text("a", "F31", "[2]", "[0,8]") + "}");
  header("{" + entry_text("../a", "F32", "[2]", "[0,8]") + "}");
  header(std::string(1000000, '['));
  for (const uint64_t length :
       {uint64_t{1} << 63, UINT64_MAX, uint64_t{1} << 40, uint64_t{100000001}}) {
    std::string bytes(16, '\0');
    std::memcpy(bytes.data(), &length, 8);
    write_whole_file(at(file), bytes);
    refused(ppl_ + "m", 3, {file});
  }
  // An index may not lead out of the folder.
  fs::remove(at(file));
  write_json_file(at("m/model.safetensors.index.json"),
                  {{"metadata", {{"total_size", 4}}},
                   {"weight_map", {{"model.norm.weight", "../good/model.safetensors"}}}});
  refused(ppl_ + "m", 3, {"../good/model.safetensors"});
}

TEST_F(BadModels, Configurations) {
  const json good = read_json_file(at("good/config.json"));
  const std::string file = "m/config.json";
  const std::vector<std::pair<const char*, json>> fields = {
      {"vocab_size", 0},
      {"vocab_size", -1},
      {"vocab_size", 194.5},
      {"vocab_size", "194"},
      {"vocab_size", uint64_t{1} << 63},
      {"vocab_size", nullptr},
      {"hidden_size", 0},
      {"hidden_size", uint64_t{1} << 40},
      {"intermediate_size", -48},
      {"num_hidden_layers", 1000000000},
      {"num_attention_heads", 0},
      {"num_attention_heads", 3},
      {"num_key_value_heads", 3},
      {"head_dim", 7},
      {"max_position_embeddings", 0},
      {"rms_norm_eps", -1},
      {"rope_theta", 0},
      {"rope_scaling", {{"type", "yarn"}, {"factor", 4.0}}},
      {"rope_scaling", {{"type", "linear"}, {"factor", -4.0}}},
      {"rope_scaling", {{"type", "linear"}}},
      {"hidden_act", "gelu"},
      {"attention_bias", true},
      {"torch_dtype", "int8"},
      {"bos_token_id", 194},
      {"eos_token_id", {1, 400}},
      {"model_type", "mamba"}};
  for (const auto& [key, value] : fields) {
    json config = good;
    config[key] = value;
    write_whole_file(at(file), config.dump());
    refused(ppl_ + "m", 3, {file, key});
  }
  const std::string text = good.dump(),
                    scratch =
                        "train_llama pretrain --data t.bin --ctx-size 32 --model-config " + file;
  const std::vector<std::string> texts = {
      "",
      text.substr(0, text.size() / 2),
      text + "x",
      "\xEF\xBB\xBF" + text,
      std::string(1000000, '['),
      "{\"vocab_size\": 1, \"\\u0076ocab_size\": 2}",
      "{\"vocab_size\": NaN}",
      "{\"vocab_size\": 1,}",
      "[1]",
      std::string("{\"a\": \"\0\"}", 10),
  };
  for (const std::string& bad : texts) {
    write_whole_file(at(file), bad);
    refused(ppl_ + "m", 3, {file});
    refused(scratch, 3, {file});
  }
  json misspelt = good;
  misspelt["hiden_size"] = 32;
  write_whole_file(at(file), misspelt.dump());
  EXPECT_EQ(run(ppl_ + "m").code, 0);  // other programs' files have keys of their own
  refused(scratch, 2, {file, "hiden_size", "did you mean hidden_size?"});
  // Sizes that the weights contradict.
  for (const auto& [key, value] : {std::pair{"vocab_size", 195},
                                   {"hidden_size", 64},
                                   {"intermediate_size", 100000},
                                   {"num_hidden_layers", 3},
                                   {"num_hidden_layers", 500}}) {
    json config = good;
    config[key] = value;
    if (std::string(key) == "hidden_size") config["head_dim"] = 16;
    write_whole_file(at(file), config.dump());
    refused(ppl_ + "m", 3, {"m/model.safetensors"});
  }
  fs::remove(at(file));
  refused(ppl_ + "m", 3, {file});
}

TEST_F(BadModels, Gguf) {
  LlamaConfig c = test::tiny_config();
  const auto values = [](size_t, uint64_t count) { return std::vector<float>(count, 0.01f); };
  const std::string bytes = test::gguf_of(c, values).bytes();
  const auto give = [&](const std::string& content) { write_whole_file(at("m.gguf"), content); };
  give(bytes);
  EXPECT_EQ(run(ppl_ + "m.gguf").code, 0);
  for (const size_t length : {size_t{0}, size_t{3}, size_t{4}, size_t{8}, size_t{23}, size_t{24},
                              size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    give(bytes.substr(0, length));
    refused(ppl_ + "m.gguf", 3, {"m.gguf"});
  }
  const size_t head = bytes.size() - 4 * 25000;  // metadata and descriptions, and some data
  for (size_t i = 0; i < head; i += 211) {
    std::string flipped = bytes;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << (i % 8)));
    give(flipped);
    survives(ppl_ + "m.gguf", "m.gguf", concat("byte ", i));
  }
  for (const size_t at : {size_t{8}, size_t{16}})  // number of tensors, of pairs
    for (const uint64_t count : {uint64_t{1} << 62, UINT64_MAX, uint64_t{100000000}}) {
      std::string hostile = bytes;
      std::memcpy(hostile.data() + at, &count, 8);
      give(hostile);
      refused(ppl_ + "m.gguf", 3, {"m.gguf"});
    }
  const auto with = [&](const std::function<void(test::GgufText&)>& change,
                        const std::vector<std::string>& words) {
    test::GgufText text = test::gguf_of(c, values);
    change(text);
    give(text.bytes());
    std::vector<std::string> all = {"m.gguf"};
    all.insert(all.end(), words.begin(), words.end());
    refused(ppl_ + "m.gguf", 3, all);
  };
  with([](auto& t) { t.u32("llama.block_count", 2); }, {"llama.block_count"});  // a second time
  with([](auto& t) { t.u32("general.alignment", 3); }, {"general.alignment"});
  with([](auto& t) { t.array("x", GgufType::u64, uint64_t{1} << 61, ""); }, {});
  with([](auto& t) { t.array("x", GgufType::string, 1000000, ""); }, {});
  with([](auto& t) { t.describe("output_norm.weight", {32}, 0, 0); }, {"output_norm.weight"});
  with([](auto& t) { t.describe("y", {uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0); }, {"y"});
  test::GgufText small;
  small.text("general.architecture", "llama");
  for (const char* key : {"llama.context_length", "llama.embedding_length", "llama.block_count",
                          "llama.feed_forward_length", "llama.attention.head_count"})
    small.u32(key, 4000000000u);
  small.f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  small.tensor("token_embd.weight", {32, 194}, 0, std::string(4 * 32 * 194, '\0'));
  give(small.bytes());
  refused(ppl_ + "m.gguf", 3, {"m.gguf", "llama."});
}

TEST_F(BadModels, TokenFiles) {
  const std::string good = contents(at("t.bin"));
  const auto give = [&](const std::string& bytes) {
    fs::remove(at("x.bin.json"));
    write_whole_file(at("x.bin"), bytes);
  };
  const auto both = [&](const std::vector<std::string>& words) {
    const std::string how = " --ctx-size 32 --threads 1 ";
    refused("eval_llama ppl -m m --data x.bin" + how, 3, words);
    refused("train_llama pretrain -m m --output runs --data x.bin" + how, 3, words);
    refused("train_llama pretrain -m m --output runs --data t.bin --val-data x.bin" + how, 3,
            words);
  };
  const auto word = [&](size_t index, uint32_t value) {
    std::string bytes = good;
    std::memcpy(bytes.data() + 4 * index, &value, 4);
    give(bytes);
  };
  give("");
  both({"x.bin", "empty"});
  give(good.substr(0, 1000));
  both({"x.bin", "1000"});
  give(good.substr(0, good.size() - 1));
  both({"x.bin", "384"});
  give(good + "ab");
  both({"x.bin", "384"});
  give("abc");
  both({"x.bin", "no header", "--token-dtype"});
  word(1, 2);
  both({"x.bin", "version 2"});
  word(2, 383);
  both({"x.bin", "383", "384"});
  word(5, 0x7fffffff);
  both({"x.bin"});
  word(0, 0x88D83401u);  // the bytes of the magic number the other way round
  both({"x.bin", "big-endian"});
  for (const size_t token : {0, 100, 383}) {
    std::string bytes = good;
    const uint16_t id = kLexiconVocab;
    std::memcpy(bytes.data() + 1024 + 2 * token, &id, 2);
    give(bytes);
    both({"x.bin", concat("token ", token), "194"});
  }
  give(good);
  refused("eval_llama ppl -m m --data x.bin --ctx-size 32 --token-dtype u32", 3,
          {"x.bin", "u16", "u32"});
  write_whole_file(at("x.bin.json"), "{\"format\":\"mullion-tokens\",\"version\":1,\"tokens\":5}");
  both({"x.bin.json", "5", "384"});
  write_whole_file(at("x.bin.json"), "{");
  both({"x.bin.json"});
  give(good.substr(0, 1024 + 2 * 20));
  refused("train_llama pretrain -m m --output runs --data x.bin --token-dtype u16", 3, {"x.bin"});
  give(std::string(40, '\0'));
  refused(
      "train_llama pretrain -m m --output runs --data x.bin --ctx-size 32 "
      "--token-dtype u16",
      3, {"x.bin", "20", "32"});
  EXPECT_FALSE(fs::exists(at("runs")));
}

TEST_F(BadModels, Tokenizers) {
  const std::string chat = "chat_llama complete -m m -p x -n 1 --threads 1";
  const json good = read_json_file(at("good/tokenizer.json"));
  const std::string file = "m/tokenizer.json";
  const auto give = [&](const std::string& text) {
    write_whole_file(at(file), text);
    refused(chat, 3, {"m", "tokenizer"});
    refused("data_llama show --model m --text x", 3, {"m", "tokenizer"});
  };
  const std::string text = good.dump();
  give("");
  give(text.substr(0, text.size() / 2));
  give(std::string(1000000, '['));
  give("{\"model\":{\"type\":\"BPE\"},\"model\":{}}");
  json bad = good;
  bad["model"]["vocab"]["ba="] = 193;  // an id twice
  give(bad.dump());
  bad = good;
  bad["model"]["vocab"]["zz"] = uint64_t{1} << 40;
  give(bad.dump());
  bad = good;
  bad["model"]["vocab"]["zz"] = -1;
  give(bad.dump());
  bad = good;
  bad["model"]["merges"] = {"q q"};
  give(bad.dump());
  bad = good;
  bad["normalizer"] = {{"type", "NFC"}};
  give(bad.dump());
  bad = good;
  bad["model"]["type"] = "Unigram";
  give(bad.dump());
  // A vocabulary that the model does not have.
  write_json_file(at(file), test::json_sample());
  refused(chat, 3, {"m", "265", "194"});
  fs::remove(at(file));
  const std::string spm = test::spm_sample().bytes();
  for (const std::string& bytes : {std::string(), spm.substr(0, spm.size() / 2),
                                   std::string("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10)}) {
    write_whole_file(at("m/tokenizer.model"), bytes);
    refused(chat, 3, {"m/tokenizer.model"});
  }
}

TEST_F(BadModels, Adapters) {
  ASSERT_EQ(run("train_llama pretrain -m m --data t.bin --ctx-size 32 --output runs --name a "
                "--max-steps 1 --grad-accum-steps 1 --threads 1")
                .code,
            0);
  const std::string with = ppl_ + "m --adapter ad";
  const auto again = [&] {
    fs::remove_all(at("ad"));
    fs::copy(at("runs/a/last/adapter"), at("ad"));
  };
  const auto config = [&](const char* key, const json& value) {
    again();
    json c = read_json_file(at("ad/adapter_config.json"));
    c[key] = value;
    write_whole_file(at("ad/adapter_config.json"), c.dump());
    refused(with, 3, {"ad/"});
    refused(
        "train_llama pretrain -m m --data t.bin --ctx-size 32 --output runs --name b "
        "--initial-adapter ad",
        3, {"ad/"});
  };
  config("r", 0);
  config("r", uint64_t{1} << 40);
  config("r", 16);
  config("lora_alpha", "much");
  config("peft_type", "LOHA");
  config("use_dora", true);
  config("target_modules", json{"q_proj", "k_proj", "v_proj", "o_proj", "up_proj"});
  again();
  fs::resize_file(at("ad/adapter_model.safetensors"), 2000);
  refused(with, 3, {"ad/adapter_model.safetensors"});
  again();
  fs::remove(at("ad/adapter_model.safetensors"));
  refused(with, 3, {"ad"});
  again();
  write_whole_file(at("ad/longctx.json"), "{\"max_position_embeddings\": -1}");
  refused(with, 3, {"ad/longctx.json", "max_position_embeddings"});
  // An adapter of another model.
  LlamaConfig other = test::tiny_config();
  other.hidden_size = 64;
  other.head_dim = 16;
  test::write_tiny_llama(at("m"), other);
  again();
  refused(with, 3, {"ad/adapter_model.safetensors", "[194, 32]", "[194, 64]"});
  EXPECT_FALSE(fs::exists(at("runs/b")));
}

}  // namespace
}  // namespace mullion
