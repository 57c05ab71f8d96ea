// What came out, beside the paper's figures.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/report/document.h"
#include "apps/reproduce/experiment.h"
#include "apps/reproduce/statistics.h"

namespace mullion {

struct Measured {
  Row row;
  std::vector<std::pair<size_t, double>> values;  // seed from 1, value
  std::optional<Spread> ours;                     // none: not measured
  // To the metric's reference arm at the same place, where both are there.
  std::optional<double> paper_ratio, our_ratio;
  std::string words;  // how our order compares with the paper's, and the row's own note
};

// Every row, in order.
std::vector<Measured> measure(const Plan& plan, const std::vector<Row>& rows,
                              const Answers& answers);

// A table for each metric, rows of a heat map left out. `at_paper_scale`: our figures are of the
// paper's model and data, so that ours / paper has a meaning; else only ratios within the paper
// and within ours have one.
std::vector<Table> result_tables(const Plan& plan, const std::vector<Measured>& rows,
                                 bool at_paper_scale);

nlohmann::json to_json(const Measured& row);

}  // namespace mullion
