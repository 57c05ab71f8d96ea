// Cells with their intervals, and the words that compare orders with the paper's.
#include "apps/reproduce/table.h"

#include <algorithm>
#include <cmath>

#include "apps/report/chart.h"
#include "tensor/check.h"
#include "tensor/words.h"

namespace mullion {
namespace {

const Metric& metric_of(const Plan& plan, const std::string& name) {
  static const Metric kPlain;
  const auto found = plan.metrics.find(name);
  return found == plan.metrics.end() ? kPlain : found->second;
}

std::string number(double value, int digits) {
  if (std::abs(value) >= 10000) return short_number(std::round(value));
  char text[48];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

// Lower is better in both.
std::optional<double> paper_rank(const Row& row, bool lower_is_better) {
  if (row.rank) return row.rank;
  if (!row.paper.value) return std::nullopt;
  return lower_is_better ? *row.paper.value : -*row.paper.value;
}

bool same_place(const Row& a, const Row& b) {
  return a.metric == b.metric && a.x == b.x && a.depth == b.depth;
}

// Names every arm that the paper has on the other side of this one.
std::string order_words(const std::vector<Measured>& all, const Measured& own, const Metric& m) {
  const auto rank = paper_rank(own.row, m.lower_is_better);
  if (!rank || !own.ours) return "";
  std::string against;
  size_t compared = 0;
  for (const Measured& other : all) {
    // A metric's order is that of arms at one place; that of one arm over places is its curve.
    if (!same_place(own.row, other.row) || own.row.arm == other.row.arm || !other.ours) continue;
    const auto others = paper_rank(other.row, m.lower_is_better);
    if (!others || *others == *rank) continue;
    ++compared;
    const double sign = m.lower_is_better ? 1 : -1;
    const double ahead = sign * (other.ours->mean - own.ours->mean);
    if (ahead != 0 && (*others > *rank) == (ahead > 0)) continue;
    const bool better = *rank < *others;
    against += concat(against.empty() ? "" : "; ", "the paper has it ", better ? "better" : "worse",
                      " than ", other.row.arm, ", here it is ",
                      ahead == 0 ? "the same"
                      : better   ? "worse"
                                 : "better");
    if (own.ours->half && other.ours->half &&
        std::abs(ahead) <= *own.ours->half + *other.ours->half)
      against += " (the intervals overlap)";
    if (!own.ours->half) against += " (one seed)";
  }
  if (compared == 0) return "";
  return against.empty() ? "order as in the paper" : against;
}

std::string paper_cell(const Row& row, int digits) {
  if (row.paper.mark.empty()) return "";
  if (!row.paper.value) return "?";
  return number(*row.paper.value, digits) + " (" + row.paper.mark + ")";
}

std::string spread_cell(const Measured& m, int digits) {
  if (!m.ours) return "";
  if (!m.ours->half) return m.row.jobs.empty() ? "" : "one seed";
  return "± " + number(*m.ours->half, digits) + concat(" (", m.values.size(), " seeds)");
}

}  // namespace

std::vector<Measured> measure(const Plan& plan, const std::vector<Row>& rows,
                              const Answers& answers) {
  std::vector<Measured> all;
  for (const Row& row : rows) {
    Measured m{
        .row = row, .values = {}, .ours = {}, .paper_ratio = {}, .our_ratio = {}, .words = {}};
    std::vector<double> values;
    for (size_t seed = 0; seed < plan.seeds; ++seed) {
      const auto value = row.value(answers, seed);
      if (!value) continue;
      m.values.emplace_back(seed + 1, *value);
      values.push_back(*value);
    }
    if (!values.empty()) m.ours = spread_of(values);
    all.push_back(std::move(m));
  }
  for (Measured& m : all) {
    const Metric& metric = metric_of(plan, m.row.metric);
    const auto reference = std::find_if(all.begin(), all.end(), [&](const Measured& other) {
      const bool only = metric.x_label.starts_with("budget");  // a full cache has no budget
      return other.row.arm == metric.reference &&
             (only ? other.row.metric == m.row.metric : same_place(other.row, m.row));
    });
    if (reference != all.end()) {
      if (m.row.paper.value && reference->row.paper.value && *reference->row.paper.value != 0)
        m.paper_ratio = *m.row.paper.value / *reference->row.paper.value;
      if (m.ours && reference->ours && reference->ours->mean != 0)
        m.our_ratio = m.ours->mean / reference->ours->mean;
    }
    const bool none =
        metric.is_difference && m.ours && m.ours->half && std::abs(m.ours->mean) <= *m.ours->half;
    std::vector<std::string> remarks = {order_words(all, m, metric),
                                        none ? "the interval holds 0: no difference is shown" : "",
                                        m.row.mark, m.row.note};
    std::erase(remarks, "");
    m.words = joined(remarks, ". ");
  }
  return all;
}

std::vector<Table> result_tables(const Plan& plan, const std::vector<Measured>& rows,
                                 bool at_paper_scale) {
  std::vector<std::string> names;
  for (const Measured& m : rows)
    if (!m.row.depth && std::find(names.begin(), names.end(), m.row.metric) == names.end())
      names.push_back(m.row.metric);
  std::vector<Table> tables;
  for (const std::string& name : names) {
    const Metric& metric = metric_of(plan, name);
    Table table{.title = name, .columns = {"arm"}, .rows = {}, .note = {}};
    const bool has_x = std::any_of(rows.begin(), rows.end(), [&](const Measured& m) {
      return m.row.metric == name && m.row.x;
    });
    const bool relative = !metric.reference.empty();
    if (has_x) table.columns.push_back(metric.x_label);
    for (const char* column : {"paper", "ours", "95 % of the mean"})
      table.columns.push_back(column);
    if (at_paper_scale) table.columns.emplace_back("ours / paper");
    if (relative) {
      table.columns.push_back("paper: of " + metric.reference);
      table.columns.push_back("ours: of " + metric.reference);
    }
    table.columns.emplace_back("remarks");
    for (const Measured& m : rows) {
      if (m.row.metric != name || m.row.depth) continue;
      std::vector<std::string> cells = {m.row.arm};
      if (has_x) cells.push_back(m.row.x ? short_number(*m.row.x) : "");
      cells.push_back(paper_cell(m.row, metric.digits));
      cells.push_back(m.ours ? number(m.ours->mean, metric.digits) : "not run");
      cells.push_back(spread_cell(m, metric.digits));
      if (at_paper_scale)
        cells.push_back(m.ours && m.row.paper.value ? number(m.ours->mean / *m.row.paper.value, 3)
                                                    : "");
      if (relative) {
        cells.push_back(m.paper_ratio ? number(*m.paper_ratio, 3) : "");
        cells.push_back(m.our_ratio ? number(*m.our_ratio, 3) : "");
      }
      cells.push_back(m.words);
      table.rows.push_back(std::move(cells));
    }
    table.note = concat(metric.lower_is_better ? "Lower" : "Higher", " is better.",
                        at_paper_scale ? ""
                                       : " The paper's figures are of its own model and data; "
                                         "only ratios compare with ours.");
    tables.push_back(std::move(table));
  }
  return tables;
}

nlohmann::json to_json(const Measured& m) {
  nlohmann::json json = {{"arm", m.row.arm}, {"metric", m.row.metric}, {"jobs", m.row.jobs}};
  if (m.row.x) json["x"] = *m.row.x;
  if (m.row.depth) json["depth"] = *m.row.depth;
  if (!m.row.paper.mark.empty()) {
    json["paper"] = {{"mark", m.row.paper.mark}, {"value", nullptr}};
    if (m.row.paper.value) json["paper"]["value"] = *m.row.paper.value;
  }
  if (!m.row.mark.empty()) json["mark"] = m.row.mark;
  json["values"] = nlohmann::json::array();
  for (const auto& [seed, value] : m.values)
    json["values"].push_back({{"seed", seed}, {"value", value}});
  json["ours"] = nullptr;
  if (m.ours) {
    json["ours"] = {{"mean", m.ours->mean}, {"seeds", m.values.size()}, {"half_95", nullptr}};
    if (m.ours->half) json["ours"]["half_95"] = *m.ours->half;
  }
  if (m.paper_ratio) json["paper_ratio"] = *m.paper_ratio;
  if (m.our_ratio) json["our_ratio"] = *m.our_ratio;
  if (!m.words.empty()) json["remarks"] = m.words;
  return json;
}

}  // namespace mullion
