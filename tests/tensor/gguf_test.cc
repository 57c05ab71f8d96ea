// GGUF: files of the reference package are read and dequantised to the same bits of f32, hostile
// ones are refused.
#include "tensor/io/gguf.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>

#include "tests/io_builders.h"
#include "tests/io_test_util.h"
#include "tests/shared_data.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

using test::append;
using test::error_of;
using test::floats_of;
using test::GgufText;
using test::view;

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(test::source_dir) / "tests" / "golden" / "io" / name;
}

std::string bytes_of(const std::filesystem::path& path) {
  return read_whole_file(path, uint64_t{1} << 30);
}

std::string f32_bytes(size_t n) { return std::string(4 * n, '\0'); }

std::string refusal(const std::string& bytes) {
  return error_of(Fault::bad_file, [&] { GgufFile file(view(bytes)); });
}
std::string refusal(const GgufText& text) { return refusal(text.bytes()); }

TEST(Gguf, ReadsMetadataOfTheReferencePackage) {
  const GgufFile file(golden("blocks.gguf"));
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.get_string("general.architecture"), "test");
  EXPECT_EQ(file.get_uint("k.u8", 255), 200u);
  EXPECT_EQ(file.get_uint("k.u16", UINT64_MAX), 60000u);
  EXPECT_EQ(file.get_uint("k.u32", UINT64_MAX), 4000000000u);
  EXPECT_EQ(file.get_uint("k.u64", UINT64_MAX), uint64_t{1} << 63);
  EXPECT_EQ(file.get_number("k.f32"), 0.5);
  EXPECT_EQ(file.get_number("k.f64"), 1e-300);
  EXPECT_TRUE(file.get_bool("k.bool"));
  EXPECT_EQ(file.get_string("k.string"), "caf\xc3\xa9");
  EXPECT_EQ(file.get_strings("k.strings"), (std::vector<std::string>{"a", "",
                                                                     "\xe2\x96\x81"
                                                                     "b"}));
  EXPECT_EQ(file.get_floats("k.floats"), (std::vector<float>{0.5f, -1.5f}));
  EXPECT_EQ(file.get_ints("k.ints"), (std::vector<int32_t>{1, -2, 3}));
  EXPECT_FALSE(file.find_uint("absent", 1).has_value());
  for (const char* key : {"k.i8", "k.i32", "k.i64"}) {
    error_of(Fault::bad_file, [&] { file.get_uint(key, UINT64_MAX); });
  }
  error_of(Fault::bad_file, [&] { file.get_uint("k.u32", 3999999999u); });
  error_of(Fault::bad_file, [&] { file.get_uint("absent", 1); });
}

// F8: each accessor takes its own type and no other.
TEST(Gguf, AccessorsRefuseOtherTypes) {
  const GgufFile file(golden("blocks.gguf"));
  const std::vector<std::pair<std::string, std::function<void(const std::string&)>>> accessors = {
      {"k.u8 k.i8 k.u16 k.i32 k.u32 k.u64 k.i64", [&](auto& k) { file.get_uint(k, UINT64_MAX); }},
      {"k.f32 k.f64", [&](auto& k) { file.get_number(k); }},
      {"k.bool", [&](auto& k) { file.get_bool(k); }},
      {"k.string", [&](auto& k) { file.get_string(k); }},
      {"k.strings", [&](auto& k) { file.get_strings(k); }},
      {"k.floats", [&](auto& k) { file.get_floats(k); }},
      {"k.ints", [&](auto& k) { file.get_ints(k); }},
  };
  for (const auto& [own, call] : accessors) {
    for (const std::string& key : file.keys()) {
      if (!key.starts_with("k.") || (own + " ").find(key + " ") != std::string::npos) continue;
      const std::string message = error_of(Fault::bad_file, [&] { call(key); });
      EXPECT_NE(message.find(key), std::string::npos);
    }
  }
}

// Every type of blocks, in one file: each has its scale in f16 at a place of its own.
TEST(Gguf, ScalesThatAreNotFiniteAreRefused) {
  struct Kind {
    uint32_t type;
    uint64_t block, bytes;
    std::vector<size_t> scales;
  };
  const std::vector<Kind> kinds = {
      {2, 32, 18, {0}},      {3, 32, 20, {0, 2}},    {6, 32, 22, {0}},
      {7, 32, 24, {0, 2}},   {8, 32, 34, {0}},       {10, 256, 84, {80, 82}},
      {11, 256, 110, {108}}, {12, 256, 144, {0, 2}}, {13, 256, 176, {0, 2}},
      {14, 256, 210, {208}}, {20, 32, 18, {0}},      {23, 256, 136, {0}}};
  for (const Kind& kind : kinds)
    for (const size_t at : kind.scales)
      for (const uint16_t bits : {0x7c00, 0xfc00, 0x7e01}) {
        std::string data(2 * kind.bytes, '\0');
        std::memcpy(data.data() + kind.bytes + at, &bits, 2);
        const std::string bytes = GgufText()
                                      .tensor("a", {2 * kind.block}, kind.type, data)
                                      .tensor("b", {1}, 0, f32_bytes(1))
                                      .bytes();
        const GgufFile file(view(bytes));
        EXPECT_EQ(floats_of(file, "b").size(), 1u);
        std::vector<float> values(2 * kind.block);
        const std::string message =
            error_of(Fault::bad_file, [&] { file.read_f32("a", values.data()); });
        EXPECT_NE(message.find("block 1 of " + std::string(name_of(file.at("a").type))),
                  std::string::npos)
            << message;
      }
}

TEST(Gguf, DequantisesAsTheReferencePackage) {
  const GgufFile file(golden("blocks.gguf"));
  const SafetensorsFile expected(golden("blocks.safetensors"));
  ASSERT_EQ(file.entries().size(), expected.entries().size());
  for (const TensorEntry& entry : file.entries()) {
    EXPECT_EQ(entry.shape, expected.at(entry.name).shape) << entry.name;
    const auto found = floats_of(file, entry.name), wanted = floats_of(expected, entry.name);
    for (size_t i = 0; i < wanted.size(); ++i) {
      ASSERT_EQ(found[i], wanted[i]) << entry.name << " " << i;
    }
  }
}

TEST(Gguf, ReadsAVocabularyWithoutTensors) {
  REQUIRE_SHARED("data/tokenizer/ggml-vocab-llama-spm.gguf");
  const GgufFile file(test::shared_path("data/tokenizer/ggml-vocab-llama-spm.gguf"));
  EXPECT_EQ(file.get_strings("tokenizer.ggml.tokens").size(), 32000u);
  EXPECT_EQ(file.get_floats("tokenizer.ggml.scores").size(), 32000u);
  EXPECT_EQ(file.get_ints("tokenizer.ggml.token_type").size(), 32000u);
  EXPECT_TRUE(file.entries().empty());
}

TEST(Gguf, BuiltFilesAreRead) {
  GgufText text;
  text.text("general.architecture", "x")
      .tensor("a", {3}, 0, f32_bytes(3))
      .tensor("b", {2, 5}, 0, f32_bytes(10));
  const std::string bytes = text.bytes();
  const GgufFile file(view(bytes));
  EXPECT_EQ(file.at("b").shape, (std::vector<int64_t>{5, 2}));  // innermost first in the file
  EXPECT_EQ(file.at("b").offset - file.at("a").offset, 32u);
  std::string padded = bytes;
  padded.resize((padded.size() + 31) / 32 * 32);
  EXPECT_NO_THROW(GgufFile(view(padded)));  // the padding of the last tensor may be there
  text.version = 2;
  EXPECT_NO_THROW(GgufFile(view(text.bytes())));
  for (const uint32_t version : {0u, 1u, 4u, 0x03000000u}) {
    text.version = version;
    refusal(text);
  }
}

TEST(Gguf, HostileCountsAreRefused) {
  for (const uint64_t count : {uint64_t{1}, uint64_t{65536}, uint64_t{1} << 31, uint64_t{1} << 32,
                               uint64_t{1} << 62, uint64_t{1} << 63, UINT64_MAX}) {
    GgufText pairs, tensors;
    pairs.pair_count = count;
    tensors.tensor_count = count;
    refusal(pairs);
    refusal(tensors);
    refusal(GgufText().array("k", GgufType::f32, count, "abc"));
    refusal(GgufText().array("k", GgufType::string, count, "abc"));
    refusal(GgufText().array("k", GgufType::u8, count + 3, "abc"));
    std::string length;
    append(length, count + 3);
    refusal(GgufText().pair("k", GgufType::string, length + "abc"));
    GgufText key;
    key.pairs = length + "abc";
    key.pair_count = 1;
    refusal(key);
  }
}

TEST(Gguf, OddMetadataIsRefused) {
  refusal(GgufText().text("k", "a").text("k", "b"));
  refusal(GgufText().text("", "a"));
  refusal(GgufText().pair("k", static_cast<GgufType>(13), "xxxxxxxx"));
  refusal(GgufText().pair("k", static_cast<GgufType>(UINT32_MAX), "xxxxxxxx"));
  refusal(GgufText().array("k", GgufType::array, 1, std::string(12, '\0')));  // nested
  refusal(GgufText().array("k", static_cast<GgufType>(99), 1, "xxxxxxxx"));
  for (const uint32_t alignment : {0u, 1u, 3u, 4u, 24u, 1u << 21, 1u << 31}) {
    refusal(GgufText().u32("general.alignment", alignment));
  }
  refusal(GgufText().text("general.alignment", "32"));
  GgufText wide;
  wide.alignment = 64;
  wide.u32("general.alignment", 64)
      .tensor("a", {1}, 0, f32_bytes(1))
      .tensor("b", {1}, 0, f32_bytes(1));
  EXPECT_NO_THROW(GgufFile(view(wide.bytes())));
  std::string nan;
  append(nan, std::nanf(""));
  const std::string bytes = GgufText()
                                .pair("nan", GgufType::f32, nan)
                                .pair("two", GgufType::boolean, "\2")
                                .array("nans", GgufType::f32, 1, nan)
                                .bytes();
  const GgufFile file(view(bytes));
  error_of(Fault::bad_file, [&] { file.get_number("nan"); });
  error_of(Fault::bad_file, [&] { file.get_bool("two"); });
  error_of(Fault::bad_file, [&] { file.get_floats("nans"); });
}

TEST(Gguf, OddTensorsAreRefused) {
  const auto one = [](const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset, size_t n) {
    GgufText text;
    text.describe("a", dims, type, offset);
    text.data = std::string(n, '\0');
    return text;
  };
  EXPECT_NO_THROW(GgufFile(view(one({4}, 0, 0, 16).bytes())));
  refusal(one({}, 0, 0, 4));
  refusal(one({1, 1, 1, 1, 1}, 0, 0, 4));
  refusal(one({4}, 0, 32, 48));  // does not start at 0
  refusal(one({4}, 0, 1, 17));   // not aligned
  refusal(one({4}, 0, 0, 15));   // cut
  refusal(one({4}, 0, 0, 33));   // bytes after the padding
  refusal(one({31}, 8, 0, 34));  // no whole block
  refusal(one({16, 2}, 8, 0, 34));
  for (const uint32_t type : {4u, 5u, 9u, 15u, 16u, 40u, UINT32_MAX})
    refusal(one({256}, type, 0, 144));
  const std::string unknown = refusal(one({256}, 19, 0, 144));  // named, with what is read
  for (const char* name : {"IQ1_S", "F32", "Q8_0", "Q4_K", "Q6_K"})
    EXPECT_NE(unknown.find(name), std::string::npos) << unknown;
  EXPECT_NO_THROW(GgufFile(view(one({256}, 12, 0, 144).bytes())));
  refusal(one({256}, 12, 0, 143));  // a cut block
  const std::string narrow = refusal(one({320}, 12, 0, 288));
  EXPECT_NE(narrow.find("320"), std::string::npos) << narrow;
  EXPECT_NE(narrow.find("256"), std::string::npos) << narrow;
  for (const uint64_t edge : {(uint64_t{1} << 31) - 1, uint64_t{1} << 31, (uint64_t{1} << 31) + 1,
                              (uint64_t{1} << 32) - 1, uint64_t{1} << 32, (uint64_t{1} << 32) + 1,
                              (uint64_t{1} << 63) - 1, uint64_t{1} << 63, (uint64_t{1} << 63) + 1,
                              UINT64_MAX, UINT64_MAX - 31, uint64_t{1} << 62, uint64_t{1} << 61}) {
    for (const uint32_t type : {0u, 1u, 2u, 8u, 28u}) {
      refusal(one({edge}, type, 0, 64));
      refusal(one({32, edge}, type, 0, 64));
      refusal(one({edge, edge}, type, 0, 64));
      refusal(one({32, edge, 4, 4294967296}, type, 0, 64));
      refusal(one({4}, type, edge, 64));
    }
  }
  GgufText twice;
  twice.tensor("a", {1}, 0, f32_bytes(1)).tensor("a", {1}, 0, f32_bytes(1));
  refusal(twice);
  GgufText overlap;
  overlap.describe("a", {4}, 0, 0).describe("b", {4}, 0, 0);
  overlap.data = std::string(64, '\0');
  refusal(overlap);
  refusal(GgufText().tensor(std::string(65, 'n'), {1}, 0, f32_bytes(1)));
  refusal(GgufText().tensor("", {1}, 0, f32_bytes(1)));
  refusal(GgufText().tensor(std::string("a\0b", 3), {1}, 0, f32_bytes(1)));
  GgufText ranks;
  ranks.tensors = GgufText::string("a");
  append<uint32_t>(ranks.tensors, UINT32_MAX);
  ranks.tensors += std::string(64, '\1');
  ranks.tensor_count = 1;
  refusal(ranks);
}

TEST(Gguf, EveryTruncationIsRefused) {
  const std::string bytes = bytes_of(golden("blocks.gguf"));
  size_t last = 0;  // the bytes that may be missing are the padding of the last tensor
  {
    const GgufFile file(view(bytes));
    last = file.entries().back().offset + file.entries().back().bytes;
  }
  for (size_t n = 0; n < last; ++n) refusal(bytes.substr(0, n));
  refusal(bytes + std::string(32, '\0'));
}

TEST(Gguf, FlippedBitsOfTheHeaderAreHarmless) {
  const std::string bytes = bytes_of(golden("blocks.gguf"));
  for (size_t bit = 0; bit < 1600 * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    try {
      const GgufFile file(view(flipped));
      for (const TensorEntry& entry : file.entries()) {
        ASSERT_LE(entry.bytes, bytes.size());
        std::vector<std::byte> raw(entry.bytes);
        file.read_raw(entry.name, raw);
      }
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace mullion
