// Documents from text, JSON and JSONL: what counts as one, and how much dirt is borne.
#include "data/text_documents.h"

#include <gtest/gtest.h>

#include "tensor/check.h"
#include "tensor/io/file.h"

namespace mullion {
namespace {

class TextDocuments : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    folder_ = std::filesystem::temp_directory_path() /
              ("mullion_documents_" + name + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::vector<std::string> read(const std::string& name, const std::string& content,
                                DocumentOptions options = {}) {
    write_whole_file(folder_ / name, content);
    std::vector<std::string> texts;
    counts_ = read_documents({folder_ / name}, options, [&](const std::string& text) {
      texts.push_back(text);
      return true;
    });
    return texts;
  }

  using Texts = std::vector<std::string>;
  std::filesystem::path folder_;
  DocumentCounts counts_;
};

TEST_F(TextDocuments, ATextFileIsOneDocument) {
  EXPECT_EQ(read("a.txt", "one\r\ntwo"), (Texts{"one\r\ntwo"}));
  EXPECT_EQ(read("a.md", "\xEF\xBB\xBF# one"), (Texts{"# one"}));
  EXPECT_EQ(read("a.txt", ""), Texts{});
  EXPECT_EQ(counts_.empty, 1u);
}

TEST_F(TextDocuments, LinesOfJson) {
  EXPECT_EQ(read("a.jsonl",
                 "\xEF\xBB\xBF{\"text\": \"a\"}\r\n\n  \n\"b\"\n{\"text\": \"\"}\n"
                 "{\"id\": 1, \"text\": \"c\\n\"}"),
            (Texts{"a", "b", "c\n"}));
  EXPECT_EQ(counts_.empty, 1u);
  EXPECT_EQ(counts_.documents, 3u);
  DocumentOptions options;
  options.field = "body";
  EXPECT_EQ(read("a.jsonl", "{\"body\": \"x\", \"text\": \"y\"}", options), Texts{"x"});
  std::string huge = "{\"text\": \"" + std::string(3 << 20, 'x') + "\"}\n";
  EXPECT_EQ(read("a.jsonl", huge + huge).size(), 2u);
  options.max_line_bytes = 1 << 20;
  EXPECT_THROW(read("a.jsonl", huge, options), Error);
}

TEST_F(TextDocuments, FewBadLinesAreCountedManyStop) {
  std::string lines;
  for (int i = 0; i < 200; ++i) lines += "{\"text\": \"t\"}\n";
  EXPECT_EQ(read("a.jsonl", lines + "{\"text\": \"half").size(), 200u);
  EXPECT_EQ(counts_.bad, 1u);
  EXPECT_NE(counts_.first_bad.find("line 201"), std::string::npos) << counts_.first_bad;
  for (const char* bad :
       {"{", "{\"text\": 1}", "{\"instruction\": \"x\"}", "7", "{\"text\": \"a\"} x"}) {
    try {
      read("a.jsonl", std::string("{\"text\": \"a\"}\n") + bad);
      FAIL() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::bad_file);
      EXPECT_NE(std::string(error.what()).find("line 2"), std::string::npos) << error.what();
    }
  }
}

TEST_F(TextDocuments, AListOfJsonAndAFolder) {
  EXPECT_EQ(read("b.json", "[{\"text\": \"p\"}, \"q\"]"), (Texts{"p", "q"}));
  EXPECT_THROW(read("b.json", "{\"text\": \"p\"}"), Error);
  EXPECT_THROW(read("b.json", "[{\"instruction\": \"p\"}]"), Error);
}

TEST_F(TextDocuments, AFolderSaysWhatItLeavesOut) {
  for (const char* name : {"c.txt", "a.TXT", "notes.md", "d.jsonl", "x.webp", "y.heic", "z.webp"})
    write_whole_file(folder_ / name, "c");
  write_whole_file(folder_ / "LICENSE", "c");
  std::filesystem::create_directories(folder_ / "more");
  std::filesystem::create_symlink("nowhere", folder_ / "gone.txt");
  const DocumentFiles found = document_files({folder_});
  ASSERT_EQ(found.files.size(), 4u);
  EXPECT_EQ(found.files[0].filename(), "a.TXT");
  EXPECT_EQ(found.files[3].filename(), "notes.md");
  EXPECT_EQ(describe_left_out(found),
            "1 .heic, 2 .webp, 1 broken links, 1 folders, 1 no extension");
  EXPECT_THROW(document_files({folder_ / "none"}), Error);
  EXPECT_THROW(document_files({folder_ / "more"}), Error);
}

// The error of reading `content` names each of `words`.
class TextEncodings : public TextDocuments {
 protected:
  void refused(const std::string& name, const std::string& content,
               const std::vector<std::string>& words, DocumentOptions options = {}) {
    try {
      read(name, content, options);
      FAIL() << name << " was read";
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::bad_file);
      const std::string text = error.what() + error.hint();
      for (const std::string& word : words)
        EXPECT_NE(text.find(word), std::string::npos) << word << ": " << text;
    }
  }
  static std::string utf16(const std::u16string& text, bool big) {
    std::string bytes;
    for (char16_t unit : text) {
      const char high = static_cast<char>(unit >> 8), low = static_cast<char>(unit & 255);
      bytes += {big ? high : low, big ? low : high};
    }
    return bytes;
  }
};

TEST_F(TextEncodings, WhatIsNoUtf8IsRefusedWithItsPlace) {
  refused("a.txt", "caf\xE9 au lait", {"a.txt", "byte 3", "0xE9", "--encoding latin1"});
  refused("a.txt", std::string("ab\0cd", 5), {"a.txt", "byte 2", "NUL", "UTF-8 without NUL"});
  refused("a.txt", "%PDF-1.7\n", {"a.txt", "PDF"});
  refused("a.txt", std::string("PK\x03\x04", 4), {"a.txt", "ZIP"});
  refused("a.md", "\xED\xA0\x80", {"a.md", "byte 0"});  // a surrogate
  refused("a.jsonl", "\"a\"\n\"caf\xE9\"\n", {"a.jsonl", "byte 8", "--encoding latin1"});
  refused("a.json", "[\"caf\xE9\"]", {"a.json", "byte 5"});
  refused("a.txt", "\xFF\xFEh\0i\0", {"a.txt", "UTF-16", "--encoding utf-16"});
  refused("a.txt", std::string("\xFF\xFE\0\0h\0\0\0", 8), {"a.txt", "UTF-32"});
}

// The same for every file that is read, models and images too: tensor/io/file.cc looks.
TEST_F(TextEncodings, AGitLfsPointerIsNamed) {
  refused("a.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 499723\n",
          {"a.txt", "Git LFS pointer", "499723 bytes", "git lfs pull"});
}

TEST_F(TextEncodings, OtherEncodingsWhereTheyAreNamed) {
  DocumentOptions options;
  options.encoding = TextEncoding::latin1;
  EXPECT_EQ(read("a.txt", "caf\xE9", options), Texts{"café"});
  EXPECT_EQ(read("a.jsonl", "\"caf\xE9\"\n\"\xFC\"", options), (Texts{"café", "ü"}));
  EXPECT_EQ(read("a.json", "[\"caf\xE9\"]", options), Texts{"café"});
  refused("a.txt", "\xEF\xBB\xBFx", {"UTF-8"}, options);
  refused("a.txt", "\xFF\xFEx", {"UTF-16"}, options);
  const std::u16string text = u"é 😀";
  options.encoding = TextEncoding::utf16;
  EXPECT_EQ(read("a.txt", "\xFF\xFE" + utf16(text, false), options), Texts{"é 😀"});
  EXPECT_EQ(read("a.txt", "\xFE\xFF" + utf16(text, true), options), Texts{"é 😀"});
  EXPECT_EQ(read("a.jsonl", "\xFF\xFE" + utf16(u"\"a\"\n\"b\"\n", false), options),
            (Texts{"a", "b"}));
  refused("a.txt", utf16(text, false), {"byte-order mark", "utf-16le"}, options);
  refused("a.txt", "\xFF\xFE" + utf16(u"\xD800x", false), {"byte 2", "surrogate"}, options);
  refused("a.txt", "\xFF\xFE" + utf16(u"\xDC00x", false), {"byte 2", "surrogate"}, options);
  refused("a.txt", "\xFF\xFEx", {"byte 2", "half"}, options);
  options.encoding = TextEncoding::utf16be;
  EXPECT_EQ(read("a.txt", utf16(text, true), options), Texts{"é 😀"});
  refused("a.txt", "\xFF\xFE" + utf16(text, false), {"little-endian"}, options);
}

}  // namespace
}  // namespace mullion
