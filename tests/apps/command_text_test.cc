// Commands that a program prints for its user to paste into a shell.
#include "apps/program/command_text.h"

#include <gtest/gtest.h>

namespace mullion {
namespace {

TEST(CommandText, AVerbStandsApartFromItsProgramAndArgumentsAreQuoted) {
  const std::string text = command_text("train_llama sft", {"--resume", "my runs/it's"});
  const std::string end = R"(train_llama sft --resume 'my runs/it'\''s')";
  ASSERT_GE(text.size(), end.size()) << text;
  EXPECT_EQ(text.substr(text.size() - end.size()), end) << text;
  // What stands before is a folder, without a quote that the program's name would be inside of.
  const std::string folder = text.substr(0, text.size() - end.size());
  EXPECT_TRUE(folder.empty() || folder.back() == '/') << text;
  EXPECT_EQ(text.find("'train_llama"), std::string::npos) << text;
}

TEST(CommandText, APathIsNoOption) {
  EXPECT_EQ(path_argument("-runs/a"), "./-runs/a");
  EXPECT_EQ(path_argument("runs/-a"), "runs/-a");
}

}  // namespace
}  // namespace mullion
