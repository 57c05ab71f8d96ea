// JSON from outside: what is valid is read exactly, everything else is refused with a position.
#include "tensor/io/json.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tensor/check.h"
#include "tests/io_test_util.h"

namespace mullion {
namespace {

using test::error_of;

std::string refusal(const std::string& text) {
  return error_of(Fault::bad_file, [&] { parse_json(text, "t.json"); });
}

TEST(Json, ReadsEveryKindOfValue) {
  const auto json = parse_json(
      " {\"a\": [1, -2, 2.5, 1e3, true, false, null], \"b\": {\"c\": "
      "\"x\\u00e9\\n\\ud83d\\ude00\"},"
      "\t\"e\": [], \"f\": {}, \"\": 18446744073709551615, \"n\": -9223372036854775808}\r\n",
      "t.json");
  EXPECT_EQ(json["a"].size(), 7u);
  EXPECT_EQ(json["a"][1].get<int>(), -2);
  EXPECT_DOUBLE_EQ(json["a"][3].get<double>(), 1000.0);
  EXPECT_EQ(json["b"]["c"].get<std::string>(), "x\xc3\xa9\n\xf0\x9f\x98\x80");
  EXPECT_EQ(json[""].get<uint64_t>(), UINT64_MAX);
  EXPECT_EQ(json["n"].get<int64_t>(), INT64_MIN);
  EXPECT_TRUE(json["e"].is_array() && json["f"].is_object());
  EXPECT_EQ(parse_json("7", "t.json").get<int>(), 7);
  EXPECT_EQ(parse_json("1e-400", "t.json").get<double>(), 0.0);
}

TEST(Json, DuplicateKeysAndEscapedTwinsAreRefused) {
  EXPECT_NE(refusal(R"({"a":1,"a":1})").find("duplicate key \"a\""), std::string::npos);
  EXPECT_NE(refusal(R"({"a":1,"\u0061":2})").find("duplicate key"), std::string::npos);
  EXPECT_NE(refusal(R"({"x":{"q":1,"\u0071":2}})").find("t.json: byte"), std::string::npos);
}

TEST(Json, DepthIsBounded) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_NO_THROW(parse_json(nested(64), "t.json"));
  EXPECT_NE(refusal(nested(65)).find("deeper than 64"), std::string::npos);
  refusal(std::string(1000000, '['));
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  refusal(objects);
}

TEST(Json, TextThatIsNotJsonIsRefused) {
  const std::string bad[] = {"",
                             " ",
                             "{",
                             "[",
                             "[1",
                             "[1,",
                             "[1,]",
                             "{\"a\"}",
                             "{\"a\":}",
                             "{\"a\":1,}",
                             "{a:1}",
                             "{'a':1}",
                             "[1 2]",
                             "1 2",
                             "{} x",
                             "[]]",
                             "nul",
                             "tru",
                             "NaN",
                             "Infinity",
                             "-Infinity",
                             "-",
                             "+1",
                             "01",
                             "-01",
                             "1.",
                             ".5",
                             "1e",
                             "1e+",
                             "0x10",
                             "1e999",
                             "-1e999",
                             "1_000",
                             "\"",
                             "\"\\",
                             "\"\\x\"",
                             "\"\\u12\"",
                             "\"\\u12g4\"",
                             "\"\\ud800\"",
                             "\"\\ud800x\"",
                             "\"\\ud800\\u0041\"",
                             "\"\\udc00\"",
                             "\"a\nb\"",
                             "\"a\tb\"",
                             "// c\n1",
                             "/* c */ 1",
                             "\xef\xbb\xbf{}",
                             "\"\xff\"",
                             "\"\xc0\x80\"",
                             "\"\xed\xa0\x80\"",
                             "\"\xf4\x90\x80\x80\"",
                             "\"\xe2\x82\"",
                             "\"\x80\"",
                             "\"\xf0\x8f\xbf\xbf\"",
                             std::string("{}\0", 3),
                             std::string("{}\0x", 4),
                             std::string("\"\0\"", 3),
                             std::string("\0", 1)};
  for (const std::string& text : bad) {
    const std::string message = refusal(text);
    EXPECT_NE(message.find("t.json: byte "), std::string::npos) << text << " gave " << message;
  }
}

TEST(Json, EveryPrefixOfAValidTextIsRefused) {
  const std::string text = R"({"a":[1,-2.5e1,"x\u0041"],"b":{"c":[true,null]}})";
  for (size_t n = 0; n < text.size(); ++n) refusal(text.substr(0, n));
}

TEST(Json, SizeIsBounded) {
  EXPECT_THROW(parse_json("[1,2,3]", "t.json", {.max_bytes = 6, .max_depth = 64}), Error);
}

TEST(Json, IntegersAreExactOrRefused) {
  const auto json = parse_json(
      R"({"ok":5,"zero":0,"neg":-1,"frac":1.5,"one":1.0,"exp":1e3,"mzero":-0,"big":18446744073709551616,
          "max":18446744073709551615,"str":"5","null":null,"list":["a","b"],"mixed":["a",1]})",
      "c.json");
  EXPECT_EQ(get_uint(json, "c.json", "ok", 5), 5u);
  EXPECT_EQ(get_uint(json, "c.json", "zero", 5), 0u);
  EXPECT_EQ(get_uint(json, "c.json", "max", UINT64_MAX), UINT64_MAX);
  EXPECT_EQ(get_uint_or(json, "c.json", "null", 9, 7), 7u);
  EXPECT_EQ(get_uint_or(json, "c.json", "absent", 9, 7), 7u);
  for (const char* key : {"neg", "frac", "one", "exp", "mzero", "big", "str", "null", "absent"}) {
    const std::string message =
        error_of(Fault::bad_file, [&] { get_uint(json, "c.json", key, UINT64_MAX); });
    EXPECT_NE(message.find(concat("c.json: \"", key, "\"")), std::string::npos) << message;
  }
  error_of(Fault::bad_file, [&] { get_uint(json, "c.json", "ok", 4); });
  error_of(Fault::bad_file, [&] { get_uint_or(json, "c.json", "neg", 9, 7); });
  EXPECT_EQ(get_strings(json, "c.json", "list"), (std::vector<std::string>{"a", "b"}));
  error_of(Fault::bad_file, [&] { get_strings(json, "c.json", "mixed"); });
  error_of(Fault::bad_file, [&] { get_string(json, "c.json", "ok"); });
  error_of(Fault::bad_file, [&] { get_bool(json, "c.json", "ok"); });
  error_of(Fault::bad_file, [&] { get_number(json, "c.json", "str"); });
  EXPECT_DOUBLE_EQ(get_number(json, "c.json", "frac"), 1.5);
  EXPECT_DOUBLE_EQ(get_number(json, "c.json", "ok"), 5.0);
  error_of(Fault::bad_file, [&] { get_uint(json["list"], "c.json", "ok", 4); });
}

TEST(Json, IntegersOfTreesBuiltInMemoryAreRead) {
  nlohmann::json json;
  json["a"] = 0;
  json["b"] = -3;
  EXPECT_EQ(get_uint(json, "memory", "a", 10), 0u);
  error_of(Fault::bad_file, [&] { get_uint(json, "memory", "b", 10); });
}

TEST(Json, FilesRoundTripAndFoldersAreRefused) {
  const test::TemporaryFolder folder;
  write_json_file(folder.path() / "a.json", {{"b", 1.0}, {"a", "x"}});
  EXPECT_EQ(read_whole_file(folder.path() / "a.json", 100),
            "{\n  \"a\": \"x\",\n  \"b\": 1.0\n}\n");
  EXPECT_EQ(read_json_file(folder.path() / "a.json")["a"], "x");
  error_of(Fault::bad_file, [&] { read_json_file(folder.path()); });
  error_of(Fault::bad_file, [&] { read_json_file(folder.path() / "absent.json"); });
  error_of(Fault::disk, [&] { write_json_file(folder.path() / "no" / "a.json", {}); });
  EXPECT_EQ(folder.files(), std::vector<std::string>{"a.json"}) << "a temporary file was left";
}

}  // namespace
}  // namespace mullion
