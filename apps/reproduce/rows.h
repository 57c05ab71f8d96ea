// Rows that several experiments make.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "apps/reproduce/sinklora.h"

namespace mullion {

// A number of a job's answer: of `key`, or of `key` in the entry of "results" whose `field` is
// `equal`.
std::optional<double> number_of(const Answers& answers, const std::string& job,
                                const std::string& key);
std::optional<double> result_of(const Answers& answers, const std::string& job,
                                const std::string& field, const nlohmann::json& equal,
                                const std::string& key);

// Of one job a seed.
Row answer_row(const std::string& arm, const std::string& metric,
               const std::vector<std::string>& jobs, const std::string& key);
Row result_row(const std::string& arm, const std::string& metric,
               const std::vector<std::string>& jobs, const std::string& field,
               const nlohmann::json& equal, const std::string& key);

// Trains `arm` at `context` with every seed and measures perplexity under full attention at
// `lengths`: a row each, over the length, in the order of `lengths`; the metric is "perplexity"
// with `where` behind it.
std::vector<Row> perplexity_rows(Plan& plan, const Setting& s, const Arm& arm, int64_t context,
                                 const std::vector<int64_t>& lengths,
                                 const std::string& where = "");
// The same of the base, its positions interpolated for `context`, which no seed changes.
std::vector<Row> base_rows(Plan& plan, const Setting& s, int64_t context,
                           const std::vector<int64_t>& lengths, const std::string& where = "");

// What `arm` and `other` come to together, within each seed. Where all else is the same, arms of
// one seed see the same data, so that this varies far less over seeds than either of them.
Row difference_row(const Row& arm, const Row& other, const std::string& metric,
                   double (*difference)(double own, double its));

void append(Plan& plan, std::vector<Row> rows);

}  // namespace mullion
