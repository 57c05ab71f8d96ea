// The rows of tests/real: files as other people's tools write them, and what they mean to those
// tools. FAMILY.json lists them, `file` is below tests/real/FAMILY/ (tests/real/README.md).
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tests/source_dir.h"

namespace mullion::test {

struct RealRow {
  std::string name;            // letters, digits and underscores: the test's name
  std::filesystem::path file;  // the file or folder that a tool has written
  nlohmann::json fields;       // the whole row
};

inline void PrintTo(const RealRow& row, std::ostream* out) { *out << row.file.string(); }

// All rows of a family; a family without rows is an error, since it would test nothing.
inline std::vector<RealRow> real_rows(const std::string& family) {
  const std::filesystem::path folder = std::string(test::source_dir) + "/tests/real";
  const nlohmann::json list = read_json_file(folder / (family + ".json"));
  std::vector<RealRow> rows;
  for (const auto& fields : list.at("rows"))
    rows.push_back(
        {fields.at("name"), folder / family / fields.at("file").get<std::string>(), fields});
  CHECK(!rows.empty(), "tests/real/", family, ".json has no rows");
  return rows;
}

// Calls `read`; where the row has `error` (a list of texts), it must fail with Error and name each.
// Returns whether the row was read, so that the caller compares what came out.
template <typename F>
bool read_as_expected(const RealRow& row, F read) {
  const auto error = row.fields.find("error");
  try {
    read();
  } catch (const Error& e) {
    if (error == row.fields.end()) {
      ADD_FAILURE() << row.name << ": " << e.what();
      return false;
    }
    for (const auto& text : *error)
      EXPECT_NE(std::string(e.what()).find(text.get<std::string>()), std::string::npos)
          << row.name << ": the error should name " << text << ": " << e.what();
    return false;
  }
  EXPECT_TRUE(error == row.fields.end())
      << row.name << " was read, and should be refused: " << *error;
  return error == row.fields.end();
}

}  // namespace mullion::test

// Gives a parametrised suite one test a row.
#define INSTANTIATE_REAL_ROWS(Suite, family)                              \
  INSTANTIATE_TEST_SUITE_P(                                               \
      Real, Suite, testing::ValuesIn(::mullion::test::real_rows(family)), \
      [](const testing::TestParamInfo<::mullion::test::RealRow>& row) { return row.param.name; })
