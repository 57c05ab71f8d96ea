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
  EXPECT_EQ(read("a.txt", "one\r\n\xFFtwo"), (Texts{"one\r\n\xFFtwo"}));
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
  write_whole_file(folder_ / "c.txt", "c");
  write_whole_file(folder_ / "a.txt", "a");
  write_whole_file(folder_ / "notes.md", "m");
  auto files = document_files({folder_});
  ASSERT_EQ(files.size(), 3u);
  EXPECT_EQ(files[0].filename(), "a.txt");
  EXPECT_THROW(document_files({folder_ / "none"}), Error);
}

}  // namespace
}  // namespace mullion
