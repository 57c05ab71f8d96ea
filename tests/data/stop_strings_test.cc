// Texts that end at one of several strings, in whatever pieces they come.
#include "data/stop_strings.h"

#include <gtest/gtest.h>

#include "tensor/check.h"

namespace mullion {
namespace {

TEST(StopStrings, EndTheTextHoweverItIsCut) {
  const std::string text = "one stone, a stop. and more";
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    StopStrings stops({"stop.", "tone!", ", a stop. and less"});
    std::string told;
    for (size_t at = 0; at < text.size() && !stops.found(); at += piece)
      told += stops.push(text.substr(at, piece));
    EXPECT_TRUE(stops.found());
    EXPECT_EQ(told + stops.finish(), "one stone, a ") << piece;
    EXPECT_EQ(stops.push("after"), "");
  }
}

TEST(StopStrings, WhatOnlyBeginsOneIsTold) {
  StopStrings stops({"aab"});
  EXPECT_EQ(stops.push("aa"), "");
  EXPECT_EQ(stops.push("aac"), "aaaac");
  EXPECT_EQ(stops.push("xa"), "x");
  EXPECT_EQ(stops.finish(), "a");
  EXPECT_FALSE(stops.found());
  StopStrings none({});
  EXPECT_EQ(none.push("all"), "all");
  EXPECT_THROW(StopStrings({""}), Error);
}

}  // namespace
}  // namespace mullion
