// E1 and E2: how well the models classify, and what each strategy and each choice does.
#include "apps/reproduce/rows.h"
#include "apps/reproduce/tic.h"

namespace mullion {
namespace {

constexpr char kTop1[] = "top-1, %", kTop5[] = "top-5, %";
constexpr char kChoice[] = "reconstruction";

void add_metrics(Plan& plan) {
  for (const char* name : {kTop1, kTop5})
    plan.metrics[name] = {.lower_is_better = false, .digits = 2};
}

void tell_what_is_known(Plan& plan) {
  plan.notes.emplace_back(
      "Of the paper, its abstract and its operator are known, and no figure of its tables: the "
      "model around the operator is this project's reconstruction.");
  plan.notes.emplace_back(
      "Judged are the weights at the end of each training; its best ones are chosen on the images "
      "that stand here.");
}

Row accuracy_row(const TicArm& arm, const std::string& metric, const std::vector<std::string>& jobs,
                 const std::string& key) {
  Row row = answer_row(arm.label, metric, jobs, key);
  row.paper = unknown();
  row.mark = kChoice;
  return row;
}

void classification(Plan& plan, const World& world) {
  const TicSetting s = tic_setting(world);
  add_metrics(plan);
  std::vector<Row> fives;
  for (const TicTask& task : s.tasks) {
    TicArm arm{task.config.preset, "both", task.config};
    if (world.scale != Scale::paper) arm.label += " on " + task.name;
    const std::vector<std::string> jobs = judged_jobs(plan, s, task, arm);
    plan.rows.push_back(accuracy_row(arm, kTop1, jobs, "top1"));
    fives.push_back(accuracy_row(arm, kTop5, jobs, "top5"));
  }
  append(plan, fives);
  tell_what_is_known(plan);
  plan.notes.emplace_back(
      "The abstract claims to be comparable with the state of the art on ImageNet-1K. Top-1 there "
      "by their own READMEs: DeiT-Ti, -S, -B 72.2, 79.9, 81.8; Swin-T, -S, -B 81.2, 83.2, 83.5 "
      "(28, 50, 88 M parameters; 4.5, 8.7, 15.4 GFLOPs).");
}

// Each arm, and its points ahead of `reference`, which is one of them.
void compare(Plan& plan, const TicSetting& s, const std::vector<TicArm>& arms,
             const std::string& reference) {
  add_metrics(plan);
  const std::string ahead = "points ahead of " + reference;
  plan.metrics[ahead] = {.lower_is_better = false, .digits = 2, .is_difference = true};
  std::vector<Row> rows, differences;
  for (const TicArm& arm : arms)
    rows.push_back(accuracy_row(arm, kTop1, judged_jobs(plan, s, s.ablation, arm), "top1"));
  for (const Row& row : rows)
    for (const Row& other : rows)
      if (other.arm == reference && row.arm != reference) {
        differences.push_back(
            difference_row(row, other, ahead, [](double own, double its) { return own - its; }));
        differences.back().mark = kChoice;
      }
  append(plan, rows);
  append(plan, differences);
  tell_what_is_known(plan);
  plan.notes.emplace_back(
      "All arms have the same data, seeds and epochs; a difference is taken between arms of the "
      "same seed, and its interval is that of the mean over seeds. Fewer than three seeds show "
      "nothing.");
}

void strategies(Plan& plan, const World& world) {
  const TicSetting s = tic_setting(world);
  compare(plan, s, strategy_arms(s.ablation.config), "MSA-Conv alone");
  for (Row& row : plan.rows) {
    if (row.metric != kTop1) continue;
    if (row.arm == "MSA-Conv alone") row.rank = 2;
    if (row.arm == "+ both") row.rank = 1;
  }
  plan.notes.emplace_back(
      "In words the paper says that both strategies raise the model's capacity, and ablates each "
      "by itself.");
}

void variants(Plan& plan, const World& world) {
  const TicSetting s = tic_setting(world);
  const TicConfig& base = s.ablation.config;
  std::vector<TicArm> arms = {{"standard", "both", base}};
  const auto add = [&](const char* label, const char* tag, auto change) {
    arms.push_back({label, tag, base});
    change(arms.back().config);
  };
  add("dilated (2)", "dilated", [](TicConfig& c) {
    c.variant = TicConfig::Variant::dilated;
    c.dilation = 2;
  });
  add("depthwise", "depthwise", [](TicConfig& c) { c.variant = TicConfig::Variant::depthwise; });
  add("shift by layers", "per-layer", [](TicConfig& c) { c.shift = TicConfig::Shift::per_layer; });
  add("map rolled", "roll-map", [](TicConfig& c) { c.shift = TicConfig::Shift::roll_map; });
  add("keys pooled", "kv-pool", [](TicConfig& c) { c.pool = TicConfig::Pool::kv; });
  add("border masked", "masked", [](TicConfig& c) { c.border = MsaBorder::masked; });
  compare(plan, s, arms, "standard");
  plan.notes.emplace_back(
      "Standard: shift by groups of heads, pooling between stages, keys outside the map as zero "
      "vectors. Each other arm changes what its name says and nothing else; with the keys pooled, "
      "strided convolutions stand between stages. A sliding window does not care where the map "
      "begins, so that a rolled map, which Swin's fixed windows need, moves the border and the "
      "seam alone.");
}

}  // namespace

std::vector<Experiment> tic_ablations() {
  return {{"tic/classification", "TiC, E1", "top-1 and top-5", classification},
          {"tic/strategies", "TiC, E2", "MSA-Conv alone, with the shift, the pooling, and both",
           strategies},
          {"tic/variants", "TiC, E2", "kinds of MSA-Conv, of shift, of pooling and of border",
           variants}};
}

}  // namespace mullion
