// safetensors: files of the reference package are read, ours round-trip, hostile ones are refused.
#include "tensor/io/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/io_builders.h"
#include "tests/io_test_util.h"
#include "tests/shared_data.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::entry_text;
using test::error_of;
using test::floats_of;
using test::safetensors_bytes;
using test::view;

fs::path golden(const std::string& name) {
  return fs::path(test::source_dir) / "tests" / "golden" / "io" / name;
}

std::string refusal(const std::string& bytes) {
  return error_of(Fault::bad_file, [&] { SafetensorsFile file(view(bytes)); });
}

std::string refused_header(const std::string& header, const std::string& data = "") {
  return refusal(safetensors_bytes(header, data));
}

TEST(Safetensors, ReadsAFileOfTheReferencePackage) {
  const SafetensorsFile file(golden("types.safetensors"));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.metadata().at("note"), "caf\xc3\xa9");
  ASSERT_EQ(file.entries().size(), 10u);
  const std::vector<float> values = {1.5f, -2.0f, 0.25f, 3.0f, 65504.0f, -6e-8f};
  EXPECT_EQ(file.at("f32").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(floats_of(file, "f32"), values);
  EXPECT_EQ(floats_of(file, "f64"), values);
  const auto half = floats_of(file, "f16"), brain = floats_of(file, "bf16");
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(half[i], static_cast<float>(f16(values[i])));
    EXPECT_NEAR(brain[i], values[i], std::abs(values[i]) / 128);
  }
  int64_t longs[2];
  file.read_raw("i64", std::as_writable_bytes(std::span(longs)));
  EXPECT_EQ(longs[0], -1);
  EXPECT_EQ(longs[1], int64_t{1} << 40);
  EXPECT_TRUE(file.at("scalar").shape.empty());
  EXPECT_EQ(floats_of(file, "scalar"), std::vector<float>{4.0f});
  EXPECT_EQ(file.at("empty").count, 0u);
  EXPECT_TRUE(floats_of(file, "empty").empty());
  EXPECT_EQ(file.at("bool").type, StoredType::boolean);
  error_of(Fault::bad_file, [&] { floats_of(file, "i64"); });
  error_of(Fault::bad_file, [&] { file.at("absent"); });
}

TEST(Safetensors, Bf16IsReadAsItIsStored) {
  const SafetensorsFile file(golden("types.safetensors"));
  std::vector<uint16_t> raw(6);
  std::vector<bf16> read(6);
  file.read_raw("bf16", std::as_writable_bytes(std::span(raw)));
  file.read_bf16("bf16", read.data());
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(read[i].bits, raw[i]);
}

TEST(Safetensors, ReadsTheSmallLlama) {
  REQUIRE_SHARED("data/weights/stories260K-hf/model.safetensors");
  const auto model = open_safetensors(test::shared_path("data/weights/stories260K-hf"));
  EXPECT_EQ(model->entries().size(), 5u * 9 + 2);
  EXPECT_EQ(model->at("model.embed_tokens.weight").shape, (std::vector<int64_t>{512, 64}));
  for (const TensorEntry& entry : model->entries()) floats_of(*model, entry.name);
}

std::vector<TensorSpec> some_specs() {
  return {{"b.half", DType::f16, {3}},
          {"a.byte", DType::u8, {5}},
          {"z.float", DType::f32, {2, 2}},
          {"none", DType::f32, {0}}};
}

void write_some(SafetensorsWriter& writer) {
  const float floats[] = {1, 2, 3, 4};
  const f16 halves[] = {f16(1), f16(-2), f16(0.5f)};
  writer.write("a.byte", std::as_bytes(std::span("abcd")));
  writer.write("z.float", std::as_bytes(std::span(floats)));
  writer.write("b.half", std::as_bytes(std::span(halves)));
  writer.write("none", {});
}

TEST(Safetensors, WrittenFilesRoundTrip) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "m.safetensors";
  SafetensorsWriter writer(path, some_specs(), {{"k", "v \"quoted\""}});
  write_some(writer);
  EXPECT_FALSE(fs::exists(path));
  writer.commit();
  EXPECT_EQ(folder.files(), std::vector<std::string>{"m.safetensors"});
  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata(),
            (std::map<std::string, std::string>{{"format", "pt"}, {"k", "v \"quoted\""}}));
  EXPECT_EQ(file.names(), (std::vector<std::string>{"none", "z.float", "b.half", "a.byte"}));
  EXPECT_EQ(file.at("none").offset % 8, 0u);
  EXPECT_EQ(floats_of(file, "z.float"), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(floats_of(file, "b.half"), (std::vector<float>{1, -2, 0.5f}));
}

TEST(Safetensors, AWriterThatDoesNotCommitLeavesNothing) {
  const test::TemporaryFolder folder;
  {
    SafetensorsWriter writer(folder.path() / "m.safetensors", some_specs());
    EXPECT_THROW(writer.write("absent", {}), Error);
    EXPECT_THROW(writer.write("a.byte", {}), Error);
    EXPECT_THROW(writer.commit(), Error);
  }
  EXPECT_TRUE(folder.files().empty());
  EXPECT_THROW(
      SafetensorsWriter(folder.path() / "m", {{"a", DType::f32, {1}}, {"a", DType::f32, {1}}}),
      Error);
}

// F1: header lengths.
TEST(Safetensors, HostileHeaderLengthsAreRefused) {
  for (const uint64_t length : {uint64_t{0}, uint64_t{1}, uint64_t{3}, uint64_t{100'000'001},
                                uint64_t{1} << 31, uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7}) {
    std::string bytes;
    test::append(bytes, length);
    refusal(bytes + "{}");
  }
  for (const char* bytes : {"", "1234567", "\2\0\0\0\0\0\0\0"}) refusal(bytes);
  refused_header("[]");
  refused_header(" {}");
  EXPECT_NO_THROW(SafetensorsFile(view(safetensors_bytes("{}   "))));
}

// F2: ranges.
TEST(Safetensors, RangesMustCoverTheDataExactly) {
  const auto two = [](const std::string& a, const std::string& b) {
    return concat("{", entry_text("a", "U8", "[4]", a), ",", entry_text("b", "U8", "[4]", b), "}");
  };
  const std::string eight(8, 'x');
  EXPECT_NO_THROW(SafetensorsFile(view(safetensors_bytes(two("[4,8]", "[0,4]"), eight))));
  EXPECT_NE(refused_header(two("[0,4]", "[3,7]"), eight).find("an overlap"), std::string::npos);
  EXPECT_NE(refused_header(two("[0,4]", "[5,9]"), eight + "x").find("a hole"), std::string::npos);
  refused_header(two("[0,4]", "[0,4]"), eight);             // the same bytes twice
  refused_header(two("[0,4]", "[8,4]"), eight);             // backwards
  refused_header(two("[0,4]", "[4,9]"), eight + "x");       // longer than its shape
  refused_header(two("[0,4]", "[4,8]"), eight + "PK\3\4");  // something appended
  refused_header(two("[0,4]", "[4,8]"), "1234567");         // cut
  refused_header(two("[1,5]", "[5,9]"), eight + "x");       // does not start at 0
  refused_header(two("[0,4]", "[4]"), eight);
  refused_header(two("[0,4]", "[4,8,8]"), eight);
  refused_header(two("[0,4]", "[18446744073709551612,0]"), eight);
  refused_header(two("[0,4]", "[18446744073709551615,3]"), eight);
}

// F3: products and sums at the edges of 32 and 64 bits.
TEST(Safetensors, OverflowingShapesAreRefused) {
  const std::string edges[] = {
      "2147483647",           "2147483648",           "4294967295",          "4294967296",
      "4294967297",           "9223372036854775807",  "9223372036854775808", "9223372036854775809",
      "18446744073709551615", "18446744073709551616", "4611686018427387904"};
  for (const std::string& edge : edges) {
    for (const char* dtype : {"F32", "F64", "U8"}) {
      for (const std::string& shape :
           {concat("[", edge, "]"), concat("[", edge, ",2]"), concat("[", edge, ",", edge, "]"),
            concat("[4,", edge, ",4294967296]")}) {
        refused_header(concat("{", entry_text("a", dtype, shape, "[0,8]"), "}"), "12345678");
      }
      refused_header(concat("{", entry_text("a", "F64", "[1]", concat("[", edge, ",8]")), "}"),
                     "12345678");
      refused_header(concat("{", entry_text("a", "F64", "[1]", concat("[0,", edge, "]")), "}"),
                     "12345678");
    }
  }
  // A zero dimension does not hide an overflow of the others: the product is taken as it stands.
  EXPECT_NO_THROW(SafetensorsFile(view(
      safetensors_bytes(concat("{", entry_text("a", "F32", "[0,4294967296]", "[0,0]"), "}")))));
}

// F4: integers that are none.
TEST(Safetensors, OnlyPlainIntegersAreSizes) {
  for (const char* number :
       {"-1", "-0", "1.0", "1e0", "1.5", "\"1\"", "null", "true", "[1]", "01"}) {
    refused_header(concat("{", entry_text("a", "U8", concat("[", number, "]"), "[0,1]"), "}"), "x");
    refused_header(concat("{", entry_text("a", "U8", "[1]", concat("[", number, ",1]")), "}"), "x");
  }
}

// F5, F6, F7: keys, text, names, dtypes, ranks.
TEST(Safetensors, OddHeadersAreRefused) {
  const std::string a = entry_text("a", "U8", "[1]", "[0,1]");
  refused_header(concat("{", a, ",", a, "}"), "x");
  refused_header(concat("{", a, ",", entry_text("\\u0061", "U8", "[0]", "[1,1]"), "}"), "x");
  refused_header("{\"__metadata__\":{\"k\":\"1\",\"\\u006b\":\"2\"}}");
  refused_header("{\"__metadata__\":{},\"__metadata__\":{}}");
  refused_header("{\"__metadata__\":{\"k\":1}}");
  refused_header("{\"__metadata__\":[]}");
  refused_header(
      "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
  refused_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],\"more\":1}}");
  refused_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[0]}}");
  refused_header("{\"a\":{}}");
  refused_header("{\"a\":1}");
  refused_header(concat("{", a, "}x"), "x");
  refused_header(concat("{", a, ",}"), "x");
  refused_header(concat("{", std::string(100000, '[')));
  refused_header("{\"__metadata__\":" + std::string(1000000, '{'));
  for (const char* dtype : {"", "f32", "F8_E4M3", "Q4_0", "COMPLEX", "F32 "}) {
    refused_header(concat("{", entry_text("a", dtype, "[0]", "[0,0]"), "}"));
  }
  refused_header(concat("{", entry_text("a", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), "}"), "x");
  EXPECT_NO_THROW(SafetensorsFile(view(safetensors_bytes(
      concat("{", entry_text("a", "U8", "[1,1,1,1,1,1,1,1]", "[0,1]"), "}"), "x"))));
  for (const std::string& name :
       {std::string(65536, 'n'), std::string(""), std::string("../a"), std::string("a/b"),
        std::string(".."), std::string("a\\u0000b")}) {
    refused_header(concat("{", entry_text(name, "U8", "[0]", "[0,0]"), "}"));
  }
}

TEST(Safetensors, EveryTruncationAndExtensionIsRefused) {
  std::ifstream stream(golden("types.safetensors"), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
  ASSERT_GT(bytes.size(), 700u);
  for (size_t n = 0; n < bytes.size(); ++n) refusal(bytes.substr(0, n));
  refusal(bytes + '\0');
}

// A flipped bit is refused or gives another readable file: never a crash, never a read outside.
TEST(Safetensors, FlippedBitsAreHarmless) {
  std::ifstream stream(golden("types.safetensors"), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
  int refused = 0;
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    try {
      const SafetensorsFile file(view(flipped));
      for (const TensorEntry& entry : file.entries()) {
        std::vector<std::byte> raw(entry.bytes);
        file.read_raw(entry.name, raw);
      }
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(Safetensors, WeightsThatAreNotFiniteAreRefused) {
  std::string data;
  test::append(data, 1.0f);
  test::append(data, std::numeric_limits<float>::quiet_NaN());
  const std::string bytes =
      safetensors_bytes(concat("{", entry_text("w", "F32", "[2]", "[0,8]"), "}"), data);
  const SafetensorsFile file(view(bytes));
  const std::string message = error_of(Fault::bad_file, [&] { floats_of(file, "w"); });
  EXPECT_NE(message.find("t: w: element 1 is "), std::string::npos) << message;
}

// F13: the file is cut while it is open.
TEST(Safetensors, AFileThatChangesWhileReadIsRefused) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "m.safetensors";
  fs::copy_file(golden("types.safetensors"), path);
  const SafetensorsFile file(path);
  fs::resize_file(path, 300);
  error_of(Fault::bad_file, [&] { floats_of(file, "f32"); });
}

// ---- sharded folders (F10) ----

class Sharded : public ::testing::Test {
 protected:
  void write(const std::string& file, const std::vector<std::string>& tensors) {
    std::vector<TensorSpec> specs;
    for (const std::string& name : tensors) specs.push_back({name, DType::f32, {2}});
    SafetensorsWriter writer(folder_.path() / file, specs);
    for (const std::string& name : tensors) {
      const float values[] = {static_cast<float>(name.back()), 1};
      writer.write(name, std::as_bytes(std::span(values)));
    }
    writer.commit();
  }
  void index(const std::string& map) {
    write_whole_file(folder_.path() / "model.safetensors.index.json",
                     "{\"metadata\":{\"total_size\":24},\"weight_map\":{" + map + "}}");
  }
  std::string refusal() {
    return error_of(Fault::bad_file, [&] { open_safetensors(folder_.path()); });
  }
  void two_shards() {
    write("model-00001-of-00002.safetensors", {"a", "b"});
    write("model-00002-of-00002.safetensors", {"c"});
  }
  static constexpr const char* kGood =
      R"("a":"model-00001-of-00002.safetensors","b":"model-00001-of-00002.safetensors",
         "c":"model-00002-of-00002.safetensors")";
  test::TemporaryFolder folder_;
};

TEST_F(Sharded, ReadsAsOneSource) {
  two_shards();
  index(kGood);
  const auto source = open_safetensors(folder_.path());
  EXPECT_EQ(source->names(), (std::vector<std::string>{"a", "b", "c"}));
  for (const char* name : {"a", "b", "c"}) {
    EXPECT_EQ(floats_of(*source, name), (std::vector<float>{static_cast<float>(name[0]), 1}));
  }
}

TEST_F(Sharded, IndexAndShardsMustAgree) {
  two_shards();
  index(R"("a":"model-00001-of-00002.safetensors","c":"model-00002-of-00002.safetensors")");
  EXPECT_NE(refusal().find("b"), std::string::npos);
  index(std::string(kGood) + R"(,"d":"model-00002-of-00002.safetensors")");
  EXPECT_NE(refusal().find("d should be in"), std::string::npos);
  index(R"("a":"model-00002-of-00002.safetensors","b":"model-00001-of-00002.safetensors",
           "c":"model-00001-of-00002.safetensors")");
  refusal();
  index(R"("a":"model-00001-of-00002.safetensors","b":"model-00001-of-00002.safetensors")");
  EXPECT_NE(refusal().find("is not in the index"), std::string::npos);
  index(std::string(kGood) + R"(,"\u0061":"model-00002-of-00002.safetensors")");
  EXPECT_NE(refusal().find("duplicate key"), std::string::npos);
  write("model-00002-of-00002.safetensors", {"a", "c"});
  index(kGood);
  EXPECT_NE(refusal().find("has a, which the index does not give it"), std::string::npos);
}

TEST_F(Sharded, ShardNamesAreNeverPaths) {
  two_shards();
  fs::create_directory(folder_.path() / "sub");
  fs::copy_file(folder_.path() / "model-00002-of-00002.safetensors", folder_.path() / "sub" / "s");
  fs::create_symlink("model-00001-of-00002.safetensors", folder_.path() / "link");
  ASSERT_EQ(::mkfifo((folder_.path() / "pipe").c_str(), 0600), 0);
  for (const char* name : {"../x", "/etc/passwd", "sub/s", "sub", "link", "pipe", ".", "..", "",
                           "CON", "missing.safetensors", "a\\\\b", "a\\u0000b"}) {
    index(concat(kGood, ",\"d\":\"", name, "\""));
    refusal();
  }
  index(R"("a":1)");
  refusal();
  index("");
  refusal();
  write_whole_file(folder_.path() / "model.safetensors.index.json", "{\"weight_map\":[]}");
  refusal();
}

// As huggingface_hub lays a repository out: a snapshot's files are links to blobs beside it.
TEST_F(Sharded, LinksOfACacheLeadToItsOwnBlobsAlone) {
  two_shards();
  const fs::path root = folder_.path(), snapshot = root / "models--a--b/snapshots/0123";
  fs::create_directories(snapshot);
  fs::create_directories(root / "models--a--b/blobs");
  fs::create_directories(root / "models--c--d/blobs");
  index(kGood);
  fs::rename(root / "model.safetensors.index.json", snapshot / "model.safetensors.index.json");
  const char* names[] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
  for (const char* name : names) {
    fs::rename(root / name, root / "models--a--b/blobs" / name);
    fs::create_symlink(fs::path("../../blobs") / name, snapshot / name);
  }
  EXPECT_EQ(floats_of(*open_safetensors(snapshot), "c"), (std::vector<float>{'c', 1}));
  // Of another repository, or of no cache.
  for (const char* elsewhere : {"models--c--d/blobs", "models--a--b"}) {
    fs::copy(root / "models--a--b/blobs" / names[1], root / elsewhere / names[1]);
    fs::remove(snapshot / names[1]);
    fs::create_symlink(root / elsewhere / names[1], snapshot / names[1]);
    EXPECT_NE(error_of(Fault::bad_file, [&] { open_safetensors(snapshot); }).find("symbolic link"),
              std::string::npos);
  }
}

TEST_F(Sharded, AFolderHasOneModel) {
  refusal();
  two_shards();
  index(kGood);
  write("model.safetensors", {"a"});
  EXPECT_NE(refusal().find("both"), std::string::npos);
}

}  // namespace
}  // namespace mullion
