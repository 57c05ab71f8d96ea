// Tables 1, 2, 3, 7, 8 and 9: contexts extended under one attention or another, perplexity always
// under full attention.
#include <cmath>

#include "apps/reproduce/rows.h"

namespace mullion {
namespace {

const Arm kFull{"Full", "full"}, kS2{"S2", "s2"}, kSf{"SF", "sf"};
const Arm kGlobal{"S2 + global", "s2-global"}, kReassembled{"S2 + S&R", "s2-sr"};
constexpr char kChoice[] = "reconstruction";

// The attention of the paper's own is built from its prose (docs/papers.md).
void mark_choices(Plan& plan) {
  for (Row& row : plan.rows)
    if (row.arm.find("SF") == 0 || row.arm.find("S&R") != std::string::npos ||
        row.arm.find("only") != std::string::npos)
      row.mark = kChoice;
  plan.notes.emplace_back(
      "SF and S&R are reconstructed from the paper's prose (a quarter of the heads is shifted, 4 "
      "sinks); no code of them was published.");
}

// The part of full attention's gain over the untrained base that an arm keeps, in percent.
Row gain_row(const std::string& arm, const Row& base, const Row& full, const Row& own) {
  Row row{.arm = arm, .metric = "of full attention's gain, %", .x = own.x, .jobs = own.jobs};
  row.jobs.insert(row.jobs.end(), full.jobs.begin(), full.jobs.end());
  row.jobs.insert(row.jobs.end(), base.jobs.begin(), base.jobs.end());
  row.value = [=](const Answers& answers, size_t seed) -> std::optional<double> {
    const auto before = base.value(answers, 0), best = full.value(answers, seed),
               reached = own.value(answers, seed);
    if (!before || !best || !reached || *before <= *best) return std::nullopt;
    return 100 * (*before - *reached) / (*before - *best);
  };
  return row;
}

void pilot(Plan& plan, const World& world) {
  const Setting s = sinklora_setting(world);
  plan.metrics["perplexity"].reference = "Full";
  plan.metrics["of full attention's gain, %"] = {.lower_is_better = false, .digits = 1};
  std::vector<Row> gains;
  for (const int64_t context : s.pilot) {
    const Row base = base_rows(plan, s, context, {context})[0];
    Row full = perplexity_rows(plan, s, kFull, context, {context})[0];
    Row s2 = perplexity_rows(plan, s, kS2, context, {context})[0];
    Row sf = perplexity_rows(plan, s, kSf, context, {context})[0];
    full.paper = s2.paper = sf.paper = unknown();
    sf.rank = 1;  // "clearly better than S2"
    s2.rank = 2;
    Row s2_gain = gain_row("S2", base, full, s2), sf_gain = gain_row("SF", base, full, sf);
    s2_gain.paper = in_paper(39);
    sf_gain.paper = in_paper(92);
    append(plan, {base, full, s2, sf});
    gains.push_back(s2_gain);
    gains.push_back(sf_gain);
  }
  append(plan, gains);
  mark_choices(plan);
  plan.patterns = {"full", "s2", "sf"};
  plan.notes.emplace_back(
      "The gain is (base - arm) / (base - full), the base interpolated and untrained; the paper "
      "claims 39 % for S2 and 92 % for SF without saying at which context.");
}

void perplexity_table(Plan& plan, const World& world) {
  const Setting s = sinklora_setting(world);
  plan.metrics["perplexity"].reference = "Full";
  const double figures[] = {8.60, 8.17, 7.85};
  for (const Arm& arm : {kFull, kS2, kSf}) {
    std::vector<Row> rows = perplexity_rows(plan, s, arm, s.longest, s.longest_lengths);
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i].paper = arm.label == "SF" ? in_paper(figures[i]) : unknown();
      rows[i].rank = arm.label == "SF" ? 1 : 2;
    }
    append(plan, rows);
  }
  mark_choices(plan);
  plan.notes.emplace_back(
      "The paper's figures are those of Llama-2-7B trained at 8,192 and evaluated at 4,096, 6,144 "
      "and 8,192 tokens; of Llama-3-8B it has 5.11, 4.86 and 4.66. It names proof-pile, but the "
      "magnitudes are those of PG-19. It says that SF is the best everywhere.");
}

void max_context(Plan& plan, const World& world) {
  const Setting s = sinklora_setting(world);
  const double figures[] = {8.73, 8.55, 8.30, 8.13, 8.05};
  std::vector<Row> rows = perplexity_rows(plan, s, kSf, s.most, s.most_lengths);
  for (size_t i = 0; i < rows.size(); ++i) rows[i].paper = in_paper(figures[i]);
  append(plan, rows);
  std::vector<std::string> runs;
  for (size_t seed = 1; seed <= plan.seeds; ++seed)
    runs.push_back(extend(plan, s, kSf, s.most, seed));
  plan.rows.push_back(answer_row("SF", "memory of the training, GiB", runs, "mem_gib"));
  plan.rows.back().paper = unknown();
  mark_choices(plan);
  plan.notes.emplace_back(
      "The paper's figures are those of Llama-2-7B at 2,048, 4,096, 8,192, 12,288 and 16,384 "
      "tokens; of Llama-3-8B it has 5.11, 5.02, 4.89, 4.77 and 4.72.");
}

// Nats a token that each arm is ahead of each of the references among them, at the same length: the
// logarithm of the ratio of perplexities.
void compare_within_seeds(Plan& plan, const std::vector<Row>& arms,
                          const std::vector<std::string>& references) {
  for (const std::string& reference : references) {
    const std::string metric = "nats a token ahead of " + reference;
    plan.metrics[metric] = {.lower_is_better = false, .digits = 3, .is_difference = true};
    for (const Row& other : arms)
      for (const Row& arm : arms)
        if (other.arm == reference && arm.arm != reference && arm.x == other.x)
          plan.rows.push_back(difference_row(arm, other, metric, [](double own, double its) {
            return std::log(its) - std::log(own);
          }));
  }
  plan.notes.emplace_back(
      "Arms of one seed see the same rows of text in the same order: \"nats a token ahead\" is "
      "taken between them, and its interval is that of the mean over seeds. Fewer than three seeds "
      "show nothing.");
}

void ablation(Plan& plan, const World& world, const std::vector<std::pair<Arm, double>>& arms,
              const std::vector<std::string>& references) {
  const Setting s = sinklora_setting(world);
  plan.metrics["perplexity"].reference = references[0];
  std::vector<Row> all;
  append(plan, base_rows(plan, s, s.ablation, {s.ablation}));
  for (const auto& [arm, figure] : arms) {
    std::vector<Row> rows = perplexity_rows(plan, s, arm, s.ablation, {s.ablation});
    rows[0].paper = figure > 0 ? in_paper(figure) : Published{};
    append(plan, rows);
    all.push_back(rows[0]);
    plan.patterns.push_back(arm.attention);
  }
  compare_within_seeds(plan, all, references);
  mark_choices(plan);
}

void sinks_ablation(Plan& plan, const World& world) {
  // Full attention is not in the paper's table; it says how much there is to gain.
  ablation(plan, world,
           {{kFull, 0}, {kS2, 9.09}, {kGlobal, 8.91}, {kReassembled, 8.86}, {kSf, 8.64}},
           {"S2", "S2 + global", "S2 + S&R"});
}

void shift_ablation(Plan& plan, const World& world) {
  ablation(plan, world,
           {{kS2, 9.09},
            {{"S2, shift up only", "shift-up-only"}, 9.35},
            {{"S2, shift back only", "shift-back-only"}, 9.60345459},
            {kReassembled, 8.86}},
           {"S2", "S2 + S&R"});
  plan.notes.emplace_back(
      "One side alone moves a quarter of the heads' outputs by half a group; it has a meaning only "
      "where the shift wraps around, so that the first tokens see their future in training.");
}

// The paper has the names and an order in words: SF lowest, Fixed competitive, Strided and Random
// slightly worse, S2 slightly better than Full at long lengths.
void patterns(Plan& plan, const World& world) {
  const Setting s = sinklora_setting(world);
  plan.metrics["perplexity"].reference = "Full";
  const std::vector<std::pair<Arm, double>> arms = {{kFull, 0},
                                                    {kS2, 0},
                                                    {{"Sparse fixed", "fixed"}, 2},
                                                    {{"Strided", "strided"}, 3},
                                                    {{"Random", "random"}, 3},
                                                    {kSf, 1}};
  std::vector<Row> all;
  for (const auto& [arm, rank] : arms) {
    std::vector<Row> rows = perplexity_rows(plan, s, arm, s.longest, s.longest_lengths);
    for (Row& row : rows) {
      row.paper = unknown();
      if (rank > 0) row.rank = rank;
      if (rank >= 2) row.mark = kChoice;
    }
    append(plan, rows);
    all.insert(all.end(), rows.begin(), rows.end());
    plan.patterns.push_back(arm.attention);
  }
  compare_within_seeds(plan, all, {"S2"});
  mark_choices(plan);
  plan.notes.emplace_back(
      "The sizes of Fixed, Strided and Random are chosen here so that all heads together see about "
      "as many pairs as under S2; the paper has their names alone, and no figure that could be "
      "read.");
}

}  // namespace

std::vector<Experiment> extension_experiments() {
  return {{"sinklora/pilot", "SinkLoRA, Table 1", "full, S2 and SF attention over contexts", pilot},
          {"sinklora/perplexity", "SinkLoRA, Table 2",
           "trained at the longest context, evaluated at three", perplexity_table},
          {"sinklora/max-context", "SinkLoRA, Table 3",
           "SF at the longest context, perplexity by length, memory", max_context},
          {"sinklora/sinks-ablation", "SinkLoRA, Table 7", "sinks and S&R, each alone and both",
           sinks_ablation},
          {"sinklora/shift-ablation", "SinkLoRA, Table 8", "each side of the shift alone",
           shift_ablation},
          {"sinklora/patterns", "SinkLoRA, Table 9 and Figure 7",
           "six patterns of attention that see as much", patterns}};
}

}  // namespace mullion
