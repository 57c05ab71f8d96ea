// Tables 1, 2 and 6 of LongLoRA, whose method SinkLoRA changes. Its figures are remembered from the
// paper; "paper" marks those that a second published source has as well.
#include <cmath>

#include "apps/reproduce/rows.h"

namespace mullion {
namespace {

Published recalled_or_none(double figure) { return figure > 0 ? recalled(figure) : Published{}; }

// Table 1: every parameter trained, three contexts.
void contexts(Plan& plan, const Setting& s) {
  const std::string metric = "perplexity, all trained";
  plan.metrics[metric].reference = "Full";
  const bool is_paper = s.world.scale == Scale::paper;
  const std::vector<int64_t> lengths =
      is_paper ? std::vector<int64_t>{8192, 16384, 32768} : s.pilot;
  struct Line {
    Arm arm;
    double figures[3];
  };
  for (const Line& line :
       {Line{{"Full", "full", "full-all", {}, 0, "", true}, {8.02, 8.05, 8.04}},
        Line{{"Short, no shift", "s2", "short-all", {"--shift-heads", "0"}, 0, "", true},
             {8.29, 8.83, 9.47}},
        Line{{"S2", "s2", "s2-all", {}, 0, "", true}, {8.04, 8.03, 8.08}}})
    for (size_t i = 0; i < lengths.size(); ++i) {
      std::vector<Row> rows =
          perplexity_rows(plan, s, line.arm, lengths[i], {lengths[i]}, ", all trained");
      rows[0].paper = recalled(line.figures[i]);
      append(plan, rows);
    }
}

// Table 2: what is trained beside the pairs, under S2.
void trained_parts(Plan& plan, const Setting& s) {
  const int64_t context = s.world.scale == Scale::paper ? 32768 : s.ablation;
  const std::string where = ", S2 by what is trained";
  plan.metrics["perplexity" + where].reference = "LoRA, rank 8";
  const bool is_mini = s.world.scale == Scale::mini;
  const auto add = [&](const Arm& arm, double figure) {
    std::vector<Row> rows = perplexity_rows(plan, s, arm, context, {context}, where);
    rows[0].paper = recalled_or_none(figure);
    append(plan, rows);
  };
  add({"All", "s2", "s2-all", {}, 0, "", true}, 8.08);
  const std::vector<std::pair<int64_t, double>> ranks =
      is_mini ? std::vector<std::pair<int64_t, double>>{{8, 11.44}, {32, 11.92}}
              : std::vector<std::pair<int64_t, double>>{{8, 11.44},  {16, 11.82},  {32, 11.92},
                                                        {64, 11.96}, {128, 11.97}, {256, 11.98}};
  for (const auto& [rank, figure] : ranks)
    add({concat("LoRA, rank ", rank), "s2", concat("s2-r", rank, "-pairs"), {}, rank, "none"},
        figure);
  add({"LoRA and norms", "s2", "s2-norm", {}, 0, "norm"}, 10.49);
  add({"LoRA and embedding", "s2", "s2-embed", {}, 0, "embed"}, 8.29);
  add({"LoRA, norms and embedding", "s2"}, 8.12);
}

// Table 6: patterns, always tested with full attention.
void tested_with_full(Plan& plan, const Setting& s) {
  const int64_t context = s.world.scale == Scale::paper ? 32768 : s.ablation;
  const std::string where = ", by pattern";
  plan.metrics["perplexity" + where].reference = "S2 across heads";
  const auto add = [&](const Arm& arm, double figure) {
    std::vector<Row> rows = perplexity_rows(plan, s, arm, context, {context}, where);
    rows[0].paper = recalled(figure);
    append(plan, rows);
  };
  add({"S2 across heads", "s2"}, 8.12);
  add({"no head shifted", "s2", "s2-p1", {"--shift-heads", "0"}}, 8.39);
  add({"every head shifted", "s2", "s2-p2", {"--shift-heads", "1"}}, 9.81);
  Arm strided{"Strided", "strided"};
  add(strided, 24.03);
  plan.rows.back().mark = "reconstruction";
  plan.notes.emplace_back(
      "Table 6 also has S2 across layers (9.70), dilated (11.78) and block sparse attention "
      "(8.30), "
      "figures from memory; there is no such pattern here, so those rows are left out.");
}

void longlora(Plan& plan, const World& world) {
  Setting s = sinklora_setting(world);
  if (world.scale == Scale::paper) s.rows_a_step = 64;
  contexts(plan, s);
  trained_parts(plan, s);
  tested_with_full(plan, s);
  plan.notes.emplace_back(
      "The paper's figures are those of Llama-2-7B on PG-19, extended to 8,192, 16,384 and 32,768 "
      "tokens in Table 1 and to 32,768 in Tables 2 and 6, from memory. They are at the contexts of "
      "the paper; the rows here are at this scale's.");
}

}  // namespace

std::vector<Experiment> longlora_experiments() {
  return {{"sinklora/longlora", "LongLoRA, Tables 1, 2 and 6",
           "contexts, what is trained, patterns", longlora}};
}

}  // namespace mullion
