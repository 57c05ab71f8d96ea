// LLaMA configurations: both spellings of config.json, GGUF metadata, rope tables, and what is
// refused.
#include "models/llama/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tensor/io/json.h"
#include "tests/io_builders.h"
#include "tests/io_test_util.h"
#include "tests/shared_data.h"

namespace mullion {
namespace {

using Json = nlohmann::json;
using test::error_of;
using Kind = RopeScaling::Kind;

Json base_json() {
  return parse_json(
      R"({"model_type":"llama","vocab_size":100,"hidden_size":64,"intermediate_size":96,
    "num_hidden_layers":2,"num_attention_heads":4})",
      "c.json");
}
LlamaConfig parse(const Json& json) { return parse_llama_config(json, "c.json"); }
Json with(const std::string& key, const std::string& value) {
  Json json = base_json();
  json[key] = parse_json(value, "value");
  return json;
}
std::string refusal(const Json& json) {
  return error_of(Fault::bad_file, [&] { parse(json); });
}

TEST(LlamaConfig, AbsentFieldsHaveTheirDefaults) {
  const LlamaConfig config = parse(base_json());
  EXPECT_EQ(config.num_key_value_heads, 4);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.max_position_embeddings, 2048);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.rope_theta, 10000);
  EXPECT_EQ(config.rope_scaling.kind, Kind::none);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_FALSE(config.bos_token_id || config.pad_token_id);
  EXPECT_TRUE(config.eos_token_ids.empty());
}

TEST(LlamaConfig, ReadsBothSpellings) {
  EXPECT_EQ(parse(with("eos_token_id", "2")).eos_token_ids, std::vector<int64_t>{2});
  EXPECT_EQ(parse(with("eos_token_id", "[2,7]")).eos_token_ids, (std::vector<int64_t>{2, 7}));
  EXPECT_FALSE(parse(with("pad_token_id", "-1")).pad_token_id);
  EXPECT_EQ(parse(with("torch_dtype", "\"bfloat16\"")).dtype, DType::bf16);
  EXPECT_EQ(parse(with("dtype", "\"float16\"")).dtype, DType::f16);
  EXPECT_EQ(parse(with("head_dim", "32")).head_dim, 32);
}

TEST(LlamaConfig, RopeSpellingsGiveTheSameModel) {
  const LlamaConfig type = parse(with("rope_scaling", R"({"type":"linear","factor":4.0})"));
  EXPECT_EQ(type.rope_scaling.kind, Kind::linear);
  EXPECT_EQ(type.rope_scaling.factor, 4.0);
  EXPECT_EQ(type, parse(with("rope_scaling", R"({"rope_type":"linear","factor":4})")));
  EXPECT_EQ(type,
            parse(with("rope_scaling", R"({"type":"linear","rope_type":"linear","factor":4})")));
  EXPECT_EQ(type, parse(with("rope_parameters",
                             R"({"rope_type":"linear","factor":4.0,"rope_theta":10000.0})")));
  const LlamaConfig theta =
      parse(with("rope_parameters", R"({"rope_type":"default","rope_theta":5e5})"));
  EXPECT_EQ(theta, parse(with("rope_theta", "500000")));
  EXPECT_EQ(parse(with("rope_scaling", "null")), parse(base_json()));
  EXPECT_EQ(parse(with("rope_scaling", R"({"rope_type":"default"})")), parse(base_json()));
}

TEST(LlamaConfig, UnsupportedRopeIsRefusedByName) {
  for (const char* kind : {"dynamic", "yarn", "longrope", "su", "linaer"}) {
    const std::string message =
        refusal(with("rope_scaling", concat(R"({"type":")", kind, R"(","factor":2.0})")));
    EXPECT_NE(message.find(concat("\"", kind, "\"")), std::string::npos) << message;
  }
  for (const char* bad :
       {"{}", "[]", "4", R"({"factor":2.0})", R"({"type":"linear"})",
        R"({"type":"linear","factor":0})", R"({"type":"linear","factor":-2})",
        R"({"type":"linear","factor":0.5})", R"({"type":"linear","factor":"2"})",
        R"({"type":"linear","factor":1e300})",
        R"({"type":"linear","rope_type":"llama3","factor":2})",
        R"({"rope_type":"llama3","factor":8})",
        R"({"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4,
            "original_max_position_embeddings":8192})",
        R"({"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,
            "original_max_position_embeddings":0})"}) {
    refusal(with("rope_scaling", bad));
  }
  for (const char* left_out : {R"({"type":"linear","factor":4,"attention_factor":1.2})",
                               R"({"type":"linear","factor":4,"low_freq_factor":1})",
                               R"({"rope_type":"default","factor":4})",
                               R"({"rope_type":"default","partial_rotary_factor":0.5})"})
    refusal(with("rope_scaling", left_out));
  Json inside = with("rope_scaling", R"({"type":"linear","factor":4.0,"rope_theta":500.0})");
  inside["rope_theta"] = 10000.0;
  EXPECT_NE(refusal(inside).find("rope_theta is 10000 and 500"), std::string::npos);
  inside["rope_theta"] = 500.0;
  EXPECT_EQ(parse(inside).rope_theta, 500);
  inside.erase("rope_theta");
  EXPECT_EQ(parse(inside).rope_theta, 500);
  inside["rope_scaling"]["original_max_position_embeddings"] = 64;
  EXPECT_EQ(parse(inside).rope_scaling.original_max_position_embeddings, 64);
  Json both = with("rope_scaling", R"({"type":"linear","factor":4.0})");
  both["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 2.0}};
  refusal(both);
}

// The check values of formats.md 3.3: Llama 3.1, theta 500000, heads of 128.
TEST(LlamaConfig, Llama3FrequenciesHaveTheKnownFactors) {
  LlamaConfig plain = parse(base_json());
  plain.rope_theta = 500000;
  plain.head_dim = 128;
  LlamaConfig scaled = plain;
  scaled.rope_scaling = {Kind::llama3, 8, 1, 4, 8192};
  const auto before = rope_inv_freq(plain), after = rope_inv_freq(scaled);
  ASSERT_EQ(before.size(), 64u);
  const double between[] = {1.2075, 1.5534, 2.0263, 2.6945, 3.6843, 5.2573};
  for (size_t i = 0; i < 64; ++i) {
    const double wanted = i < 29 ? 1 : i < 35 ? between[i - 29] : 8;
    EXPECT_NEAR(before[i] / after[i], wanted, 5e-5 * wanted) << i;
    EXPECT_NEAR(before[i], std::pow(500000.0, -static_cast<double>(i) / 64), 1e-7 * before[i]);
  }
}

TEST(LlamaConfig, LinearFrequenciesAreDivided) {
  LlamaConfig config = parse(base_json());
  const auto before = rope_inv_freq(config);
  config.rope_scaling = {Kind::linear, 4};
  const auto after = rope_inv_freq(config);
  EXPECT_EQ(before[0], 1.0f);
  for (size_t i = 0; i < before.size(); ++i) EXPECT_FLOAT_EQ(after[i], before[i] / 4);
}

LlamaConfig of_context(int64_t context) {
  LlamaConfig config = parse(base_json());
  config.max_position_embeddings = context;
  return config;
}

TEST(LlamaConfig, ExtendingTheContextComposes) {
  LlamaConfig config = of_context(4096);
  extend_context(config, 4096);
  EXPECT_EQ(config, of_context(4096));  // enough already
  extend_context(config, 16384);
  EXPECT_EQ(config.rope_scaling, (RopeScaling{Kind::linear, 4, 1, 4, 4096}));
  EXPECT_EQ(config.max_position_embeddings, 16384);
  extend_context(config, 32768);  // 4 * ceil(32768 / 16384)
  EXPECT_EQ(config.rope_scaling.factor, 8);
  EXPECT_EQ(config.max_position_embeddings, 32768);
  LlamaConfig wide = of_context(4096);
  extend_context(wide, 100000);  // a whole factor: ceil(24.4)
  EXPECT_EQ(wide.rope_scaling.factor, 25);
  // Scaled elsewhere, with max_position_embeddings left as it was.
  LlamaConfig foreign = of_context(4096);
  foreign.rope_scaling = {Kind::linear, 4};
  EXPECT_EQ(usable_context(foreign), 16384);
  extend_context(foreign, 32768);
  EXPECT_EQ(foreign.rope_scaling.factor, 8);
  EXPECT_EQ(foreign.max_position_embeddings, 32768);
  LlamaConfig llama3 = of_context(131072);
  llama3.rope_scaling = {Kind::llama3, 8, 1, 4, 8192};
  EXPECT_NO_THROW(extend_context(llama3, 131072));
  error_of(Fault::usage, [&] { extend_context(llama3, 131073); });
  error_of(Fault::usage, [&] { extend_context(config, 0); });
  error_of(Fault::usage, [&] { extend_context(config, -5); });
}

TEST(LlamaConfig, WritesTheLegacyFormAndReadsItBack) {
  LlamaConfig config = of_context(4096);
  config.eos_token_ids = {2, 3};
  config.bos_token_id = 1;
  config.dtype = DType::bf16;
  config.tie_word_embeddings = true;
  extend_context(config, 16384);
  const Json json = parse_json(to_json(config).dump(), "again");
  EXPECT_EQ(json["rope_scaling"].dump(), R"({"factor":4.0,"type":"linear"})");
  EXPECT_TRUE(json["rope_theta"].is_number());
  EXPECT_FALSE(json.contains("rope_parameters"));
  EXPECT_EQ(parse(json), config);
  config.rope_scaling = {Kind::llama3, 8, 1, 4, 8192};
  config.eos_token_ids = {2};
  const Json llama3 = parse_json(to_json(config).dump(), "again");
  EXPECT_EQ(llama3["eos_token_id"], 2);
  EXPECT_EQ(parse(llama3), config);
  config.rope_scaling = {};
  EXPECT_TRUE(to_json(config)["rope_scaling"].is_null());
  EXPECT_TRUE(unknown_llama_config_keys(to_json(config)).empty());
  EXPECT_EQ(unknown_llama_config_keys({{"hiden_size", 1}}), std::vector<std::string>{"hiden_size"});
}

TEST(LlamaConfig, EverySizeIsChecked) {
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                          "num_attention_heads"}) {
    Json absent = base_json();
    absent.erase(key);
    EXPECT_NE(refusal(absent).find(key), std::string::npos);
    for (const char* bad :
         {"0", "-1", "1.5", "64.0", "1e2", "-0", "18446744073709551616", "4294967297",
          "9223372036854775807", "\"64\"", "null", "true", "[64]"}) {
      const std::string message = refusal(with(key, bad));
      EXPECT_NE(message.find("c.json"), std::string::npos) << message;
    }
  }
  for (const char* key : {"num_key_value_heads", "head_dim", "max_position_embeddings"}) {
    for (const char* bad : {"0", "-1", "1.5", "18446744073709551615"}) refusal(with(key, bad));
  }
  refusal(with("num_key_value_heads", "3"));
  refusal(with("num_attention_heads", "3"));   // 64 is no multiple
  refusal(with("num_attention_heads", "64"));  // heads of 1: odd
  refusal(with("head_dim", "15"));
  refusal(with("rms_norm_eps", "0"));
  refusal(with("rope_theta", "0"));
  refusal(with("rope_theta", "-10000"));
  refusal(with("bos_token_id", "100"));
  refusal(with("eos_token_id", "[2,100]"));
  refusal(with("attention_bias", "true"));
  refusal(with("mlp_bias", "true"));
  refusal(with("attention_bias", "1"));
  refusal(with("hidden_act", "\"gelu\""));
  refusal(with("model_type", "\"mistral\""));
  refusal(with("torch_dtype", "\"int8\""));
  refusal(with("quantization_config", R"({"bits":4})"));
  refusal(Json::array());
}

TEST(LlamaConfig, ReadsTheSmallModelOnDisk) {
  REQUIRE_SHARED("data/weights/stories260K-hf/config.json");
  const LlamaConfig config =
      read_llama_config(test::shared_path("data/weights/stories260K-hf/config.json"));
  EXPECT_EQ(config.vocab_size, 512);
  EXPECT_EQ(config.num_key_value_heads, 4);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_TRUE(config.tie_word_embeddings);
}

// ---- GGUF ----

test::GgufText gguf_text() {
  test::GgufText text;
  text.text("general.architecture", "llama")
      .u32("llama.context_length", 256)
      .u32("llama.embedding_length", 8)
      .u32("llama.block_count", 1)
      .u32("llama.feed_forward_length", 12)
      .u32("llama.attention.head_count", 2)
      .u32("llama.attention.head_count_kv", 1)
      .f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  return text;
}
test::GgufText& finish(test::GgufText& text) {
  return text.tensor("token_embd.weight", {8, 10}, 0, std::string(320, '\0'));
}
LlamaConfig config_of(test::GgufText text) {
  const std::string bytes = finish(text).bytes();
  return llama_config_of(GgufFile(test::view(bytes)));
}
std::string gguf_refusal(const test::GgufText& text) {
  return error_of(Fault::bad_file, [&] { config_of(text); });
}

TEST(LlamaConfig, ReadsGgufMetadata) {
  test::GgufText text = gguf_text();
  text.f32("llama.rope.freq_base", 5e5f)
      .text("llama.rope.scaling.type", "linear")
      .f32("llama.rope.scaling.factor", 4)
      .u32("tokenizer.ggml.bos_token_id", 1)
      .u32("tokenizer.ggml.eos_token_id", 2);
  const LlamaConfig config = config_of(text);
  EXPECT_EQ(config.vocab_size, 10);
  EXPECT_EQ(config.head_dim, 4);
  EXPECT_EQ(config.num_key_value_heads, 1);
  EXPECT_EQ(config.max_position_embeddings, 256);
  EXPECT_EQ(config.rope_theta, 5e5);
  EXPECT_EQ(config.rope_scaling.kind, Kind::linear);
  EXPECT_EQ(config.rope_scaling.factor, 4);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.eos_token_ids, std::vector<int64_t>{2});
}

TEST(LlamaConfig, RopeFactorsOfGgufAreLlama3Scaling) {
  LlamaConfig plain;
  plain.head_dim = 4;
  plain.rope_theta = 1e8;
  LlamaConfig scaled = plain;
  scaled.rope_scaling = {Kind::llama3, 8, 1, 4, 8192};
  const auto a = rope_inv_freq(plain), b = rope_inv_freq(scaled);
  std::string factors;
  for (size_t i = 0; i < 2; ++i) test::append(factors, a[i] / b[i]);
  test::GgufText text = gguf_text();
  text.f32("llama.rope.freq_base", 1e8f).u32("llama.vocab_size", 10);
  test::GgufText other = text;
  text.tensor("rope_freqs.weight", {2}, 0, factors);
  EXPECT_EQ(config_of(text).rope_scaling.kind, Kind::llama3);
  EXPECT_NEAR(config_of(text).rope_scaling.factor, 8, 1e-5);
  std::string odd;
  test::append(odd, 3.0f);
  test::append(odd, 8.0f);
  gguf_refusal(other.tensor("rope_freqs.weight", {2}, 0, odd));
}

// A factor of 0 would be consistent with itself: theta / 0 is infinite, and theta over that is 0.
TEST(LlamaConfig, RopeFactorsOutOfRangeAreRefused) {
  const auto with_last = [](float last) {
    std::string factors;
    test::append(factors, 1.0f);
    test::append(factors, last);
    test::GgufText text = gguf_text();
    return text.f32("llama.rope.freq_base", 1e8f).tensor("rope_freqs.weight", {2}, 0, factors);
  };
  EXPECT_EQ(config_of(with_last(8)).rope_scaling.factor, 8);
  for (const float last : {0.0f, -8.0f, 0.5f, 2e6f}) {
    EXPECT_NE(gguf_refusal(with_last(last)).find("its last factor"), std::string::npos) << last;
  }
  const char* key = "llama.rope.scaling.original_context_length";
  EXPECT_NE(gguf_refusal(with_last(8).u32(key, 0)).find(key), std::string::npos);
}

TEST(LlamaConfig, HostileGgufMetadataIsRefused) {
  const std::vector<std::string> sizes = {
      "llama.context_length",      "llama.embedding_length",     "llama.block_count",
      "llama.feed_forward_length", "llama.attention.head_count", "llama.attention.head_count_kv"};
  for (const std::string& key : sizes) {
    for (const uint32_t value : {0u, UINT32_MAX}) {
      test::GgufText text;
      text.text("general.architecture", "llama")
          .f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
      for (const std::string& other : sizes) text.u32(other, other == key ? value : 2);
      gguf_refusal(text);
    }
    test::GgufText wrong;
    wrong.text("general.architecture", "llama")
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    for (const std::string& other : sizes) {
      other == key ? wrong.array(other, GgufType::u32, 1, std::string(4, '\2'))
                   : wrong.u32(other, 2);
    }
    gguf_refusal(wrong);
  }
  gguf_refusal(test::GgufText().text("general.architecture", "gpt2"));
  gguf_refusal(gguf_text().u32("llama.vocab_size", 11));
  gguf_refusal(gguf_text().u32("tokenizer.ggml.bos_token_id", 10));
  gguf_refusal(gguf_text().u32("tokenizer.ggml.padding_token_id", 0x80000001));
  gguf_refusal(gguf_text().u32("llama.rope.dimension_count", 2));
  gguf_refusal(gguf_text().u32("llama.attention.value_length", 8));
  gguf_refusal(gguf_text().text("llama.rope.scaling.type", "yarn"));
  gguf_refusal(gguf_text().text("llama.rope.scaling.type", "linear"));
  gguf_refusal(
      gguf_text().array("tokenizer.ggml.tokens", GgufType::string, 1, test::GgufText::string("a")));
  const std::string none = gguf_text().bytes();
  error_of(Fault::bad_file, [&] { llama_config_of(GgufFile(test::view(none))); });
}

}  // namespace
}  // namespace mullion
