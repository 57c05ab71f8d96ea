// A row's value from the answers of its jobs, by name and key.
#include "apps/reproduce/rows.h"

#include "tensor/check.h"

namespace mullion {
namespace {

std::vector<Row> length_rows(const std::string& arm, const std::vector<std::string>& jobs,
                             const std::vector<int64_t>& lengths, const std::string& where) {
  std::vector<Row> rows;
  for (const int64_t length : lengths) {
    rows.push_back(result_row(arm, "perplexity" + where, jobs, "ctx_size", length, "perplexity"));
    rows.back().x = static_cast<double>(length);
  }
  return rows;
}

}  // namespace

std::optional<double> number_of(const Answers& answers, const std::string& job,
                                const std::string& key) {
  const auto found = answers.find(job);
  if (found == answers.end() || !found->second.contains(key)) return std::nullopt;
  const nlohmann::json& value = found->second.at(key);
  return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
}

std::optional<double> result_of(const Answers& answers, const std::string& job,
                                const std::string& field, const nlohmann::json& equal,
                                const std::string& key) {
  const auto found = answers.find(job);
  if (found == answers.end()) return std::nullopt;
  // A program that was asked for one result answers with it alone.
  const nlohmann::json alone = nlohmann::json::array({found->second});
  const nlohmann::json& results =
      found->second.contains("results") ? found->second.at("results") : alone;
  for (const nlohmann::json& result : results)
    if (result.contains(field) && result.at(field) == equal && result.contains(key) &&
        result.at(key).is_number())
      return result.at(key).get<double>();
  return std::nullopt;
}

Row answer_row(const std::string& arm, const std::string& metric,
               const std::vector<std::string>& jobs, const std::string& key) {
  return {.arm = arm,
          .metric = metric,
          .jobs = jobs,
          .value = [jobs, key](const Answers& answers, size_t seed) {
            return seed < jobs.size() ? number_of(answers, jobs[seed], key) : std::nullopt;
          }};
}

Row result_row(const std::string& arm, const std::string& metric,
               const std::vector<std::string>& jobs, const std::string& field,
               const nlohmann::json& equal, const std::string& key) {
  return {.arm = arm,
          .metric = metric,
          .jobs = jobs,
          .value = [=](const Answers& answers, size_t seed) {
            return seed < jobs.size() ? result_of(answers, jobs[seed], field, equal, key)
                                      : std::nullopt;
          }};
}

std::vector<Row> perplexity_rows(Plan& plan, const Setting& s, const Arm& arm, int64_t context,
                                 const std::vector<int64_t>& lengths, const std::string& where) {
  std::vector<std::string> jobs;
  for (size_t seed = 1; seed <= plan.seeds; ++seed)
    jobs.push_back(
        perplexity(plan, s, extend(plan, s, arm, context, seed), arm.full, context, lengths));
  return length_rows(arm.label, jobs, lengths, where);
}

std::vector<Row> base_rows(Plan& plan, const Setting& s, int64_t context,
                           const std::vector<int64_t>& lengths, const std::string& where) {
  return length_rows("base, interpolated, untrained",
                     {perplexity(plan, s, "", false, context, lengths)}, lengths, where);
}

Row difference_row(const Row& arm, const Row& other, const std::string& metric,
                   double (*difference)(double own, double its)) {
  Row row{.arm = arm.arm, .metric = metric, .x = arm.x, .jobs = arm.jobs};
  row.jobs.insert(row.jobs.end(), other.jobs.begin(), other.jobs.end());
  row.value = [=](const Answers& answers, size_t seed) -> std::optional<double> {
    const auto own = arm.value(answers, seed), its = other.value(answers, seed);
    if (!own || !its) return std::nullopt;
    return difference(*own, *its);
  };
  return row;
}

void append(Plan& plan, std::vector<Row> rows) {
  for (Row& row : rows) plan.rows.push_back(std::move(row));
}

}  // namespace mullion
