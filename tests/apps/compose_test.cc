// data_llama compose as a user calls it.
#include <set>

#include "tensor/io/file.h"
#include "tests/apps/programs.h"

namespace mullion {
namespace {

using nlohmann::json;

class Compose : public test::Programs {
 protected:
  Compose() : Programs({"data_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    std::string a, book;
    for (int i = 0; i < 20; ++i) {
      const std::string n = std::to_string(i % 15);  // five repeat others
      a += R"({"instruction":"Question )" + n + R"(","input":"","output":"a)" + n + "\"}\n";
      book += "In paragraph " + std::to_string(i) +
              " of the book old Margaret looked out of the window. She thought of Margaret the "
              "younger, who was in the garden.\n\n";
    }
    write_whole_file(at("a.jsonl"), a);
    write_whole_file(at("book.txt"), book);
    write_recipe("rows = 16", "rows = 10");
  }
  void write_recipe(const std::string& all, const std::string& first) const {
    write_whole_file(at("r.toml"), "[recipe]\nname = \"r\"\n" + all +
                                       "\n[[source]]\nname = \"a\"\n" + first +
                                       "\nfiles = [\"a.jsonl\"]\nlicence = \"none\"\n"
                                       "[[source]]\nname = \"b\"\nrows = 6\ntask = \"retrieval\"\n"
                                       "files = [\"*.txt\"]\nlicence = \"public domain\"\n");
  }
};

TEST_F(Compose, DrawsWhatTheRecipeSays) {
  const json made = result("data_llama compose r.toml -o made.json --json");
  const json rows = json::parse(test::contents(at("made.json")));
  ASSERT_EQ(rows.size(), 16u);
  EXPECT_EQ(made["sources"][0]["rows"], 10);
  EXPECT_EQ(made["sources"][1]["rows"], 6);
  EXPECT_EQ(made["sources"][1]["licence"], "public domain");
  EXPECT_EQ(json::parse(test::contents(at("made.json.manifest.json")))["sha256"], made["sha256"]);
  std::set<std::string> questions;
  for (const json& row : rows) questions.insert(row["instruction"]);
  EXPECT_EQ(questions.size(), 16u);
  // The same seed gives the same file, another one another.
  EXPECT_EQ(result("data_llama compose r.toml -o again.json --json")["sha256"], made["sha256"]);
  EXPECT_NE(result("data_llama compose r.toml -o other.json --seed 7 --json")["sha256"],
            made["sha256"]);
  EXPECT_EQ(result("data_llama compose r.toml --rows 8 -o few.json --json")["sources"][0]["rows"],
            5);
}

TEST_F(Compose, RefusesByName) {
  write_recipe("rows = 22", "rows = 16");
  refused("data_llama compose r.toml -o made.json", 3, {"source a: 15 rows of the 16", "--rows"});
  write_recipe("rows = 20", "rows = 10");
  refused("data_llama compose r.toml -o made.json", 2, {"r.toml", "recipe.rows is 20", "16"});
  write_recipe("rows = 16\nmax_tokens = 5", "rows = 10");
  refused("data_llama compose r.toml -o made.json", 2, {"--model"});
  write_recipe("rows = 16", "rows = 10\nkind = 3");
  refused("data_llama compose r.toml -o made.json", 2, {"r.toml:7", "kind"});
  write_recipe("rows = \"x\"", "rows = 10");
  refused("data_llama compose r.toml -o made.json", 2, {"recipe.rows", "integer"});
  write_recipe("rows = 16",
               "rows = 4\nfiles = [\"a.jsonl\"]\nlicence = \"none\"\n"
               "[[source]]\nname = \"a\"\nrows = 6");
  refused("data_llama compose r.toml -o made.json", 2, {"r.toml:9", "source.name: a", "twice"});
  EXPECT_FALSE(std::filesystem::exists(at("made.json")));
}

}  // namespace
}  // namespace mullion
