// Checkpoints: names of both worlds, the order of q and k rows, folders and GGUF files as one
// source, and the files of PEFT adapters.
#include "models/llama/checkpoint.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "models/llama/checkpoint_names.h"
#include "models/llama/model.h"
#include "models/llama/peft.h"
#include "tensor/io/json.h"
#include "tests/io_builders.h"
#include "tests/io_test_util.h"
#include "tests/models/llama_gguf.h"
#include "tests/shared_data.h"
#include "tests/small_llama_config.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::floats_of;

LlamaConfig small_config() { return test::small_llama_config(4, 10); }

TEST(LlamaNames, TranslateBothWays) {
  EXPECT_EQ(gguf_name_of("model.layers.12.self_attn.q_proj.weight"), "blk.12.attn_q.weight");
  EXPECT_EQ(gguf_name_of("model.layers.0.post_attention_layernorm.weight"),
            "blk.0.ffn_norm.weight");
  EXPECT_EQ(hf_name_of("output.weight"), "lm_head.weight");
  for (const auto& [name, shape] : llama_tensors(small_config())) {
    const auto gguf = gguf_name_of(name);
    ASSERT_TRUE(gguf) << name;
    EXPECT_EQ(hf_name_of(*gguf), name);
  }
  for (const char* name : {"", "blk", "blk.", "blk.0", "blk..attn_q.weight", "blk.x.attn_q.weight",
                           "blk.01.attn_q.weight", "blk.-1.attn_q.weight", "blk.0.attn_q.bias",
                           "blk.0.attn_q.weight.x", "blk.999999.attn_q.weight", "attn_q.weight"}) {
    EXPECT_FALSE(hf_name_of(name)) << name;
  }
}

// A file's list of tensors is made without a model, and is the model's.
TEST(LlamaNames, AreThoseOfTheModel) {
  for (const bool tied : {false, true}) {
    LlamaConfig config = small_config();
    config.tie_word_embeddings = tied;
    Llama model(config);
    std::map<std::string, std::vector<int64_t>> of_model, of_file;
    for (const NamedParameter& p : named_parameters(model))
      of_model[p.name] = {p.value.shape().begin(), p.value.shape().end()};
    for (const auto& [name, shape] : llama_tensors(config)) of_file[name] = shape;
    EXPECT_EQ(of_model, of_file);
    std::vector<std::string> projections;
    for_each_module<Linear>(model, [&](const std::string& path, Linear&) {
      projections.push_back(path.substr(path.rfind('.') + 1));
    });
    projections.resize(projections.size() / 2);  // of one of two layers
    EXPECT_EQ(projections, llama_projections());
  }
}

TEST(LlamaNames, RowsAreReorderedAsTheConverterDoes) {
  const SafetensorsFile file(fs::path(test::source_dir) / "tests/golden/io/permute.safetensors");
  const auto half = floats_of(file, "half_split"), interleaved = floats_of(file, "interleaved");
  auto rows = interleaved;
  const size_t head = 8 * 4;  // values of one head
  for (size_t h = 0; h < 3; ++h) {
    const auto bytes = std::as_writable_bytes(std::span(rows).subspan(h * head, head));
    interleaved_to_half_split(bytes, 8);
  }
  EXPECT_EQ(rows, half);
  for (size_t h = 0; h < 3; ++h) {
    const auto bytes = std::as_writable_bytes(std::span(rows).subspan(h * head, head));
    half_split_to_interleaved(bytes, 8);
  }
  EXPECT_EQ(rows, interleaved);
}

// Weights of the small model: every value differs.
std::vector<float> values_of(size_t tensor, uint64_t count) {
  std::vector<float> values(count);
  for (uint64_t i = 0; i < count; ++i) values[i] = static_cast<float>(1000 * tensor + i);
  return values;
}

void write_folder(const fs::path& folder, const LlamaConfig& config) {
  write_json_file(folder / "config.json", to_json(config));
  std::vector<TensorSpec> specs;
  for (const auto& [name, shape] : llama_tensors(config))
    specs.push_back({name, DType::f32, shape});
  SafetensorsWriter writer(folder / "model.safetensors", specs);
  for (size_t i = 0; i < specs.size(); ++i) {
    uint64_t count = 1;
    for (const int64_t size : specs[i].shape) count *= static_cast<uint64_t>(size);
    const std::vector<float> values = values_of(i, count);
    writer.write(specs[i].name, std::as_bytes(std::span(values)));
  }
  writer.commit();
}

TEST(LlamaCheckpoint, FolderAndGgufAreTheSameSource) {
  const test::TemporaryFolder folder;
  const LlamaConfig config = small_config();
  write_folder(folder.path(), config);
  write_whole_file(folder.path() / "m.gguf", test::gguf_of(config, values_of).bytes());
  const LlamaCheckpoint hf = open_llama_checkpoint(folder.path());
  const LlamaCheckpoint gguf = open_llama_checkpoint(folder.path() / "m.gguf");
  EXPECT_EQ(hf.config, config);
  EXPECT_FALSE(hf.gguf);
  EXPECT_TRUE(gguf.gguf);
  EXPECT_EQ(gguf.config.hidden_size, config.hidden_size);
  size_t i = 0;
  for (const auto& [name, shape] : llama_tensors(config)) {
    const auto expected = values_of(i++, hf.weights->at(name).count);
    EXPECT_EQ(floats_of(*hf.weights, name), expected);
    EXPECT_EQ(floats_of(*gguf.weights, name), expected) << name;
    // Any range of bytes, across heads.
    const TensorEntry& entry = gguf.weights->at(name);
    for (uint64_t begin = 0; begin + 100 <= entry.bytes; begin += 37) {
      std::vector<std::byte> part(100);
      gguf.weights->read_bytes(entry, begin, part);
      ASSERT_EQ(
          std::memcmp(part.data(), reinterpret_cast<const char*>(expected.data()) + begin, 100), 0);
    }
  }
}

TEST(LlamaCheckpoint, TensorsMustFitTheConfiguration) {
  const test::TemporaryFolder folder;
  const LlamaConfig config = small_config();
  write_folder(folder.path(), config);
  const auto refusal = [&](const LlamaConfig& other) {
    write_json_file(folder.path() / "config.json", to_json(other));
    return error_of(Fault::bad_file, [&] { open_llama_checkpoint(folder.path()); });
  };
  LlamaConfig other = config;
  other.vocab_size = 11;
  EXPECT_NE(refusal(other).find("[10, 16] in the file, [11, 16] in the model"), std::string::npos);
  other = config;
  other.num_hidden_layers = 3;
  EXPECT_NE(refusal(other).find("model.layers.2."), std::string::npos);
  other.num_hidden_layers = 1;
  EXPECT_NE(refusal(other).find("is no tensor of this model"), std::string::npos);
  other = config;
  other.num_key_value_heads = 4;
  refusal(other);
  other = config;
  other.tie_word_embeddings = true;  // the output head that is there is not used
  write_json_file(folder.path() / "config.json", to_json(other));
  EXPECT_NO_THROW(open_llama_checkpoint(folder.path()));
  error_of(Fault::bad_file, [&] { open_llama_checkpoint(folder.path() / "config.json"); });
  error_of(Fault::bad_file, [&] { open_llama_checkpoint(folder.path() / "absent"); });
}

TEST(LlamaCheckpoint, OpensTheSmallLlama) {
  REQUIRE_SHARED("data/weights/stories260K-hf/config.json");
  const LlamaCheckpoint model =
      open_llama_checkpoint(test::shared_path("data/weights/stories260K-hf"));
  EXPECT_EQ(model.weights->entries().size(), llama_tensors(model.config).size());
}

TEST(LlamaCheckpoint, OpensSmolLM2) {
  REQUIRE_SMOLLM2();
  const LlamaCheckpoint model = open_llama_checkpoint(test::smollm2_path());
  EXPECT_EQ(model.config.num_hidden_layers, 30);
  EXPECT_EQ(model.config.num_attention_heads, 9);
  EXPECT_EQ(model.config.num_key_value_heads, 3);
  EXPECT_EQ(model.config.head_dim, 64);
  EXPECT_EQ(model.config.vocab_size, 49152);
  EXPECT_EQ(model.config.max_position_embeddings, 8192);
  EXPECT_EQ(model.config.rope_theta, 100000);
  EXPECT_TRUE(model.config.tie_word_embeddings);
  EXPECT_EQ(model.weights->at("model.embed_tokens.weight").type, StoredType::q8_0);
  EXPECT_EQ(model.weights->at("model.layers.29.mlp.down_proj.weight").type, StoredType::q4_1);
  EXPECT_EQ(floats_of(*model.weights, "model.norm.weight").size(), 576u);
}

// ---- PEFT ----

TEST(Peft, KeysRoundTrip) {
  const AdapterKey keys[] = {{AdapterKey::Kind::lora_a, "model.layers.0.self_attn.q_proj"},
                             {AdapterKey::Kind::lora_b, "model.layers.11.mlp.down_proj"},
                             {AdapterKey::Kind::full, "model.embed_tokens"},
                             {AdapterKey::Kind::full, "model.layers.3.input_layernorm"}};
  for (const AdapterKey& key : keys) {
    EXPECT_EQ(parse_adapter_key(adapter_key_text(key), "a"), key);
  }
  EXPECT_EQ(adapter_key_text(keys[0]),
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
  EXPECT_EQ(adapter_key_text(keys[2]), "base_model.model.model.embed_tokens.weight");
  EXPECT_EQ(keys[2].weight(), "model.embed_tokens.weight");
}

TEST(Peft, KeysOfOtherWritersAreRead) {
  const std::string q = "base_model.model.model.layers.0.self_attn.q_proj";
  const AdapterKey a{AdapterKey::Kind::lora_a, "model.layers.0.self_attn.q_proj"};
  EXPECT_EQ(parse_adapter_key(q + ".lora_A.default.weight", "a"), a);
  const AdapterKey embed{AdapterKey::Kind::full, "model.embed_tokens"};
  for (const char* rest :
       {".weight", ".modules_to_save.weight", ".modules_to_save.default.weight"}) {
    EXPECT_EQ(parse_adapter_key(concat("base_model.model.model.embed_tokens", rest), "a"), embed);
  }
  for (const std::string& key :
       {std::string(""), std::string("model.embed_tokens.weight"), std::string("base_model.model."),
        std::string("base_model.model..weight"), q, q + ".bias", q + ".lora_C.weight",
        q + ".lora_A.other.weight", q + ".lora_magnitude_vector.weight", q + ".base_layer.weight",
        std::string("base_model.model.model.embed_tokens.original_module.weight"),
        std::string("base_model.model.model.embed_tokens.lora_embedding_A")}) {
    error_of(Fault::bad_file, [&] { parse_adapter_key(key, "a"); });
  }
}

TEST(Peft, ConfigurationRoundTrips) {
  const test::TemporaryFolder folder;
  AdapterConfig config;
  config.r = 16;
  config.lora_alpha = 32;
  config.lora_dropout = 0.1;
  config.target_modules = {"q_proj", "v_proj"};
  config.modules_to_save = {"embed_tokens", "norm"};
  config.base_model_name_or_path = "some/base";
  write_adapter_config(folder.path(), config);
  EXPECT_EQ(read_adapter_config(folder.path()), config);
  const auto json = read_json_file(folder.path() / "adapter_config.json");
  EXPECT_EQ(json["lora_alpha"].dump(), "32");
  EXPECT_EQ(json["peft_type"], "LORA");
  EXPECT_EQ(json.size(), 20u);
  EXPECT_EQ(config.scale(), 2.0);
  config.use_rslora = true;
  EXPECT_EQ(config.scale(), 8.0);
  EXPECT_TRUE(config.targets("model.layers.0.self_attn.q_proj"));
  EXPECT_FALSE(config.targets("model.layers.0.self_attn.k_proj"));
  EXPECT_TRUE(config.saves("model.norm"));
  EXPECT_FALSE(config.saves("model.layers.0.input_layernorm"));
}

TEST(Peft, ConfigurationsOfOtherWriters) {
  const auto parse = [](const std::string& text) {
    return parse_adapter_config(parse_json(text, "a.json"), "a.json");
  };
  const AdapterConfig bare = parse(R"({"peft_type":"LORA","target_modules":["q_proj"]})");
  EXPECT_EQ(bare.r, 8);
  EXPECT_EQ(bare.lora_alpha, 8);
  EXPECT_EQ(parse(R"({"peft_type":"LORA","target_modules":"all-linear","eva_config":null,
      "loftq_config":{},"new_key":[],"lora_bias":false,"exclude_modules":null})")
                .target_modules.size(),
            7u);
  for (const char* bad :
       {R"({})",
        R"({"peft_type":"LOHA"})",
        R"({"peft_type":"LORA","r":0})",
        R"({"peft_type":"LORA","r":-8})",
        R"({"peft_type":"LORA","r":8.5})",
        R"({"peft_type":"LORA","r":1000000000000})",
        R"({"peft_type":"LORA","lora_alpha":"16"})",
        R"({"peft_type":"LORA","lora_alpha":1e300})",
        R"({"peft_type":"LORA","lora_dropout":1.0})",
        R"({"peft_type":"LORA","use_dora":true})",
        R"({"peft_type":"LORA","bias":"all"})",
        R"({"peft_type":"LORA","fan_in_fan_out":true})",
        R"({"peft_type":"LORA"})",
        R"({"peft_type":"LORA","target_modules":["q_proj"],"new_key":[1]})",
        R"({"peft_type":"LORA","target_modules":["q_proj"],"rank_pattern":{"q_proj":0}})",
        R"({"peft_type":"LORA","target_modules":["q_proj"],"rank_pattern":{"(q|k)_proj":4}})",
        R"({"peft_type":"LORA","target_modules":["q_proj"],"alpha_pattern":{"q_proj":"4"}})",
        R"({"peft_type":"LORA","target_modules":["q_proj"],"alpha_pattern":[4]})",
        R"({"peft_type":"LORA","target_modules":["q_proj"],"layers_to_transform":[-1]})",
        R"({"peft_type":"LORA","target_modules":["q_proj"],"layers_pattern":"h"})",
        R"({"peft_type":"LORA","target_modules":["q_proj"],"exclude_modules":"q.*"})",
        R"({"peft_type":"LORA","target_modules":["q_proj"],"init_lora_weights":"pissa"})",
        R"({"peft_type":"LORA","target_modules":".*q_proj"})",
        R"({"peft_type":"LORA","target_modules":[1]})"}) {
    error_of(Fault::bad_file, [&] { parse(bad); });
  }
}

TEST(Peft, PatternsGiveModulesRanksAndScales) {
  AdapterConfig config;
  config.lora_alpha = 16;
  config.target_modules = {"q_proj", "v_proj"};
  config.rank_pattern = {{"layers.1.self_attn.q_proj", 4}, {"^model.layers.0.self_attn.v_proj", 2}};
  config.alpha_pattern = {{"v_proj", 32}};
  config.layers_to_transform = {0, 1};
  config.exclude_modules = {"layers.1.self_attn.v_proj"};
  config.revision = "v2";
  EXPECT_EQ(parse_adapter_config(to_json(config), "a"), config);
  EXPECT_FALSE(config.is_plain());
  EXPECT_EQ(config.rank("model.layers.1.self_attn.q_proj"), 4);
  EXPECT_EQ(config.rank("model.layers.11.self_attn.q_proj"), 8);
  EXPECT_EQ(config.scale("model.layers.0.self_attn.v_proj"), 16);
  EXPECT_EQ(config.scale("model.layers.0.self_attn.q_proj"), 2);
  EXPECT_TRUE(config.targets("model.layers.1.self_attn.q_proj"));
  EXPECT_FALSE(config.targets("model.layers.1.self_attn.v_proj"));
  EXPECT_FALSE(config.targets("model.layers.2.self_attn.q_proj"));
  EXPECT_FALSE(config.targets("model.layers.12.self_attn.q_proj"));
  config.rank_pattern["q_proj"] = 5;  // which of the two counts is up to the order in the file
  error_of(Fault::bad_file, [&] { config.rank("model.layers.1.self_attn.q_proj"); });
}

TEST(Peft, TheSideFileRoundTrips) {
  const test::TemporaryFolder folder;
  EXPECT_FALSE(read_longctx(folder.path()));
  LongContextNote note;
  note.rope_scaling = {RopeScaling::Kind::linear, 4, 1, 4, 2048};
  note.max_position_embeddings = 8192;
  note.attention_preset = "sf";
  note.group = 2048;
  note.sinks = 4;
  note.tokenizer_sha256 = std::string(64, 'a');
  note.base_sha256 = std::string(64, 'b');
  note.base_path = "/models/base";
  note.trained = {"lora", "embed", "norm"};
  write_longctx(folder.path(), note);
  EXPECT_EQ(read_longctx(folder.path()), note);
  write_whole_file(folder.path() / "longctx.json", "{\"max_position_embeddings\":-1}");
  error_of(Fault::bad_file, [&] { read_longctx(folder.path()); });
}

}  // namespace
}  // namespace mullion
