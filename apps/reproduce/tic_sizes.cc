// E3 to E5: one set of weights at other sizes, what a size costs, and how far a model sees.
#include "apps/reproduce/rows.h"
#include "apps/reproduce/tic.h"

namespace mullion {
namespace {

constexpr char kChoice[] = "reconstruction";
constexpr char kTwin[] =
    "Global attention: the twin of the same width, depth and pooling, in which each pixel of a map "
    "attends to all, with learned positions, interpolated bicubically where the size is another.";

void resolution(Plan& plan, const World& world) {
  const TicSetting s = tic_setting(world);
  const TicTask& task = s.ablation;
  const TicArm own{"TiC", "both", task.config}, twin = twin_arm(task.config, task.side);
  const std::string own_size = concat("top-1 of that at ", task.side, ", %");
  for (const std::string& name : {std::string("top-1, %"), own_size})
    plan.metrics[name] = {.lower_is_better = false, .x_label = "pixels", .digits = 2};
  std::vector<Row> relative;
  for (const TicArm& arm : {own, twin}) {
    std::vector<std::string> jobs;
    for (size_t seed = 1; seed <= plan.seeds; ++seed)
      jobs.push_back(eval_tic(plan, s, task, arm, seed, s.sizes));
    const Row trained = result_row(arm.label, "", jobs, "img_size", task.side, "top1");
    for (const std::string& size : s.sizes) {
      const bool square = size.find('x') == size.npos;
      const nlohmann::json key = square ? nlohmann::json(std::stoll(size)) : nlohmann::json(size);
      Row row = result_row(square ? arm.label : arm.label + ", " + size, "top-1, %", jobs,
                           "img_size", key, "top1");
      if (square) row.x = std::stod(size);
      row.paper = unknown();
      if (arm.tag == own.tag) row.mark = kChoice;
      Row share = row;
      share.metric = own_size;
      share.value = [row, trained](const Answers& a, size_t seed) -> std::optional<double> {
        const auto here = row.value(a, seed), there = trained.value(a, seed);
        if (!here || !there || *there == 0) return std::nullopt;
        return 100 * *here / *there;
      };
      plan.rows.push_back(row);
      relative.push_back(share);
    }
  }
  append(plan, relative);
  plan.notes.emplace_back(
      "The abstract says that images of any size are taken without retraining or rescaling. Both "
      "models were trained at one size and are evaluated at the others without any change, with "
      "the weights at the end of the training.");
  plan.notes.emplace_back(kTwin);
}

std::string bench_job(Plan& plan, const TicSetting& s, const TicArm& arm, int64_t side,
                      bool train) {
  const std::string mode = train ? "train" : "infer";
  Job job{.name = concat("cost-", arm.config.name(), "-", side, "-", mode),
          .program = "tool_tic",
          .arguments = {"bench", "--model", arm.config.preset, "--img-size", std::to_string(side),
                        "--mode", mode, "--repeats", "1"}};
  append(job.arguments, architecture_flags(tic_preset(arm.config.preset), arm.config));
  append(job.arguments, s.device);
  const auto macs = static_cast<double>(tic_macs(arm.config, side, side));
  job.cost = {2 * (train ? 6.0 : 2.0) * macs / 1e12, 4};
  return plan.add(job);
}

void cost(Plan& plan, const World& world) {
  const TicSetting s = tic_setting(world);
  struct Measure {
    const char *key, *name;
    bool train;
  };
  const Measure measures[] = {
      {"gmacs", "GMACs an image", true},       {"step_s", "seconds a training step", true},
      {"mib", "MiB of a training step", true}, {"gmacs", "GMACs an image, forward alone", false},
      {"step_s", "seconds forward", false},    {"mib", "MiB forward", false}};
  for (const Measure& m : measures) {
    plan.metrics[m.name] = {.x_label = "pixels", .reference = "TiC", .digits = 2};
    for (const bool global : {false, true}) {
      const auto& forward = global ? s.twin_forward_sizes : s.forward_sizes;
      for (const int64_t side : m.train ? s.train_sizes : forward) {
        const TicArm arm = global ? twin_arm(s.measured, side) : TicArm{"TiC", "", s.measured};
        Row row = result_row(arm.label, m.name, {bench_job(plan, s, arm, side, m.train)},
                             "img_size", side, m.key);
        row.x = static_cast<double>(side);
        row.paper = unknown();
        row.rank = global ? 2 : 1;  // "cheaper than global attention"
        if (!global) row.mark = kChoice;
        plan.rows.push_back(row);
      }
    }
  }
  plan.notes.emplace_back(
      "One image a step. The abstract says that the cost is below that of global attention and "
      "linear in the number of pixels. MiB: the most that a step holds beyond weights and their "
      "gradients. The twin's attention runs block by block as well and keeps no matrix of scores, "
      "so that its memory grows with the pixels too, and its time with their square.");
  plan.notes.emplace_back(kTwin);
  if (s.twin_forward_sizes.empty())
    plan.notes.emplace_back(
        "The twin's forward pass at the largest size takes hours on a CPU and "
        "is left to --scale paper.");
}

void receptive_field(Plan& plan, const World& world) {
  const TicSetting s = tic_setting(world);
  const TicTask& task = s.ablation;
  const int64_t images = world.smoke ? 2 : 64;
  std::vector<Row> most;
  for (const TicArm& arm : strategy_arms(task.config)) {
    std::vector<std::string> jobs;
    for (size_t seed = 1; seed <= plan.seeds; ++seed) {
      const std::string run = train_tic(plan, s, task, arm, seed), name = "field-" + run;
      Job job{.name = name,
              .program = "tool_tic",
              .arguments = {"receptive-field", "--checkpoint", "@" + run + "/last", "--data-dir",
                            task.data, "--img-size", std::to_string(s.field_side), "--images",
                            std::to_string(images), "--output", "@" + name + "/field.png"}};
      if (!s.device.empty()) append(job.arguments, {"--device", "cuda"});
      const auto macs = static_cast<double>(tic_macs(arm.config, s.field_side, s.field_side));
      job.cost = {6 * macs * static_cast<double>(images) / 1e12, 2};
      jobs.push_back(plan.add(job));
    }
    plan.pictures.push_back({jobs[0], "field.png", arm.label});
    for (const auto& [key, name] : {std::pair{"radius_50", "radius with half of it, pixels"},
                                    {"radius_90", "radius with 90 % of it, pixels"}}) {
      plan.metrics[name] = {.lower_is_better = false, .reference = "MSA-Conv alone", .digits = 1};
      Row row = answer_row(arm.label, name, jobs, key);
      row.paper = unknown();
      row.mark = kChoice;
      if (arm.tag == "alone") row.rank = 2;
      if (arm.tag == "pooling" || arm.tag == "both") row.rank = 1;  // "larger receptive field"
      (std::string(key) == "radius_50" ? plan.rows : most).push_back(row);
    }
  }
  append(plan, most);
  plan.notes.push_back(concat("Trained at ", task.side, " pixels and looked into at ", s.field_side,
                              ", where the image does not end before the field."));
  plan.notes.emplace_back(
      "The gradient of the last map's centre token with respect to the input, its size averaged "
      "over images (Luo et al. 2016); the pictures show its root, from white to red. The paper "
      "says in words that pooling between stages makes the effective receptive field larger, and "
      "that the shift connects distant tokens.");
}

}  // namespace

std::vector<Experiment> tic_sizes() {
  return {
      {"tic/resolution", "TiC, E3", "one set of weights at six sizes and two shapes", resolution},
      {"tic/cost", "TiC, E4", "operations, time and memory by size, beside global attention", cost},
      {"tic/receptive-field", "TiC, E5", "how far the centre sees, by strategy", receptive_field}};
}

}  // namespace mullion
