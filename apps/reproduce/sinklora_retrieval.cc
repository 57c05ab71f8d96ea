// Table 4 and Figure 5: what a model still finds in a long text.
#include <algorithm>
#include <cmath>

#include "apps/llama/evaluation/longbench_sets.h"
#include "apps/llama/passkey.h"
#include "apps/program/json_object.h"
#include "apps/reproduce/rows.h"

namespace mullion {
namespace {

const Arm kSf{"SF", "sf"};
// A pair of the made-up language is two tokens; behind the pairs comes the key that is asked for.
constexpr int64_t kPairTokens = 2;

// Questions of the made-up language in `format`, a file for each number of pairs.
std::string lookups(Plan& plan, const std::string& name, const std::string& format,
                    const std::vector<int64_t>& pairs, int64_t count, int64_t first,
                    const std::vector<std::string>& more = {}) {
  Job job{.name = name,
          .program = "data_llama",
          .arguments = {"lookups", "--model", "@base-text/model", "--output", "@" + name + "/rows",
                        "--format", format, "--pairs", list_of(pairs), "--count",
                        std::to_string(count), "--first-row", std::to_string(first)}};
  append(job.arguments, more);
  return plan.add(job);
}

std::string topic_job(Plan& plan, const Setting& s, const std::string& name,
                      const std::vector<std::string>& model, const std::string& data,
                      const std::vector<int64_t>& topics, double tokens) {
  const bool is_mini = s.world.scale == Scale::mini;
  Job job{.name = limited_name(s.world, name),
          .program = "eval_llama",
          .arguments = {"topic"},
          .cost = reading_cost(s.config, tokens, is_mini ? s.longest : s.most)};
  append(job.arguments, model);
  append(job.arguments, {"--data", data, "--topics", list_of(topics)});
  // A value of the language is one token; of an English topic the task's 50 are read.
  if (is_mini) append(job.arguments, {"--max-tokens", "1"});
  if (s.world.scale == Scale::small) append(job.arguments, {"--template", "chatml"});
  if (s.world.scale == Scale::paper) append(job.arguments, {"--template", "llama2"});
  append(job.arguments, limit_flags(s.world));
  append(job.arguments, {"--output", "@" + job.name + "/samples"});
  return plan.add(job);
}

// Tunes an extended model on questions with answers.
std::string tune(Plan& plan, const Setting& s, const std::string& extended, int64_t context,
                 size_t seed) {
  const int64_t steps = s.world.scale == Scale::paper && !s.world.smoke ? 3000 : s.steps;
  // About a step of the extension each; rows are shorter than the context, if not by much.
  Cost cost;
  for (const Job& before : plan.jobs)
    if (before.name == extended) cost = before.cost;
  cost.tflop *= static_cast<double>(steps) / static_cast<double>(s.steps);
  Job job{.name = concat("tune-", extended),
          .program = "train_llama",
          .arguments = {"sft", "--model", s.base, "--initial-adapter",
                        "@" + extended + "/last/adapter"},
          .cost = cost,
          .seed = static_cast<int64_t>(seed),
          .trains = true,
          .arm = "tuned"};
  switch (s.world.scale) {
    case Scale::mini:
      append(
          job.arguments,
          {"--data",
           "@" +
               lookups(plan, concat("tune-text-s", seed), "prompts", {20, 100, 230},
                       s.world.smoke ? 8 : 160, 6'000'000 + static_cast<int64_t>(seed) * 1000) +
               "/rows/*.jsonl",
           "--template", "none", "--batch-size", "8", "--grad-accum-steps", "1", "--lr", "1e-3"});
      break;
    case Scale::small:
      plan.add({.name = "tune-text",
                .program = "data_llama",
                .arguments = {"compose", "recipes/longalpaca-plus-open.toml", "--model", s.base,
                              "--sources", (s.world.data / "text/tuning").string(), "--output",
                              "@tune-text/rows.json"}});
      append(job.arguments, {"--data", "@tune-text/rows.json", "--template", "chatml",
                             "--grad-accum-steps", "4", "--lr", "1e-4"});
      break;
    case Scale::paper:
      append(job.arguments,
             {"--data", (s.world.data / "LongAlpaca-12k.json").string(), "--template", "llama2",
              "--grad-accum-steps", "2", "--lr", "2e-5", "--dtype", "bf16"});
      append(job.arguments, s.device);
  }
  append(job.arguments,
         {"--ctx-size", std::to_string(context), "--attn", "sf", "--max-steps",
          std::to_string(steps), "--seed", std::to_string(seed), "--save-every", "20"});
  return plan.add(job);
}

struct Topics {
  std::string data;  // folder with N_topics.jsonl
  std::vector<int64_t> sizes;
  double tokens = 0;  // of all prompts
  int64_t context = 0;
};

Topics topics_of(Plan& plan, const Setting& s) {
  if (s.world.scale == Scale::small)
    return {
        (s.world.data / "longctx/longchat_topics").string(), {5, 10}, 50 * (3275.0 + 6380), s.most};
  if (s.world.scale == Scale::paper)
    return {(s.world.data / "longchat_topics").string(), {5, 10, 15, 20, 25}, 50 * 47520.0, s.most};
  test_text(plan, s, s.longest);  // the language comes first
  const std::vector<int64_t> sizes = {30, 60, 120, 180, 240};
  const int64_t count = s.world.smoke ? 1 : 50;
  return {"@" + lookups(plan, "topics", "topics", sizes, count, 5'000'000) + "/rows", sizes,
          static_cast<double>(count * 630 * kPairTokens), s.longest};
}

void topic(Plan& plan, const World& world) {
  const Setting s = sinklora_setting(world);
  const Topics topics = topics_of(plan, s);
  const double figures[] = {1.00, 1.00, 1.00, 0.98, 0.96};
  plan.metrics["accuracy"] = {.lower_is_better = false,
                              .x_label = world.scale == Scale::mini ? "pairs" : "topics"};
  std::vector<std::string> base = {topic_job(plan, s, "topic-base",
                                             model_flags(s, "", false, topics.context), topics.data,
                                             topics.sizes, topics.tokens)};
  std::vector<std::string> extended, tuned;
  for (size_t seed = 1; seed <= plan.seeds; ++seed) {
    const std::string arm = extend(plan, s, kSf, topics.context, seed);
    extended.push_back(topic_job(plan, s, "topic-" + arm, model_flags(s, arm, false, 0),
                                 topics.data, topics.sizes, topics.tokens));
    const std::string after = tune(plan, s, arm, topics.context, seed);
    tuned.push_back(topic_job(plan, s, "topic-" + after, model_flags(s, after, false, 0),
                              topics.data, topics.sizes, topics.tokens));
  }
  const std::vector<std::pair<std::string, std::vector<std::string>>> arms = {
      {"base, interpolated, untrained", base}, {"extended", extended}, {"tuned", tuned}};
  for (const auto& [arm, jobs] : arms)
    for (size_t i = 0; i < topics.sizes.size(); ++i) {
      Row row = result_row(arm, "accuracy", jobs, "topics", topics.sizes[i], "accuracy");
      row.x = static_cast<double>(topics.sizes[i]);
      if (arm == "tuned") row.paper = in_paper(figures[i]);
      plan.rows.push_back(row);
    }
  plan.notes.emplace_back(
      "The paper's figures are those of Llama-3-8B with 5, 10, 15, 20 and 25 topics of LongChat.");
  if (world.scale == Scale::mini)
    plan.notes.emplace_back(
        "In the made-up language a topic is a key with its value, asked for once and standing "
        "anywhere: the first pair of all has another token before it than every other, and is not "
        "learned in so few steps. Chance is 1 %.");
}

// In the made-up language: pairs of all lengths, the asked one at five depths.
void made_up_passkey(Plan& plan, const Setting& s) {
  const std::vector<int64_t> pairs = {15, 31, 63, 127, 191, 254};
  const int64_t count = s.world.smoke ? 1 : 10;
  test_text(plan, s, s.longest);
  std::vector<std::string> arms = {""};
  for (size_t seed = 1; seed <= plan.seeds; ++seed)
    arms.push_back(extend(plan, s, kSf, s.longest, seed));
  // The very first pair, which has BOS before it, is not learned in so few steps.
  const std::vector<int64_t> depths = {10, 30, 50, 70, 90};
  std::vector<std::vector<std::string>> jobs(arms.size());  // by depth
  for (const int64_t depth : depths) {
    const std::string data =
        lookups(plan, concat("keys-", depth), "topics", pairs, count, 5'500'000 + 1000 * depth,
                {"--depth", json_number(static_cast<double>(depth) / 100)});
    for (size_t a = 0; a < arms.size(); ++a)
      jobs[a].push_back(topic_job(plan, s,
                                  concat("keys-", depth, "-", arms[a].empty() ? "base" : arms[a]),
                                  model_flags(s, arms[a], false, s.longest), "@" + data + "/rows",
                                  pairs, static_cast<double>(count * 681 * kPairTokens)));
  }
  for (const bool is_base : {true, false})
    for (const int64_t size : pairs) {
      std::vector<Row> by_depth;
      for (size_t d = 0; d < depths.size(); ++d) {
        std::vector<std::string> own;
        for (size_t a = is_base ? 0 : 1; a < (is_base ? 1 : arms.size()); ++a)
          own.push_back(jobs[a][d]);
        by_depth.push_back(result_row(is_base ? "base, interpolated, untrained" : "extended, SF",
                                      "accuracy", own, "topics", size, "accuracy"));
        by_depth.back().x = static_cast<double>(size * kPairTokens);
        by_depth.back().depth = static_cast<double>(depths[d]);
      }
      Row mean = by_depth[0];
      mean.depth.reset();
      mean.paper = unknown();
      for (const Row& row : by_depth)
        mean.jobs.insert(mean.jobs.end(), row.jobs.begin(), row.jobs.end());
      mean.value = [by_depth](const Answers& answers, size_t seed) -> std::optional<double> {
        double sum = 0;
        for (const Row& row : by_depth) {
          const auto value = row.value(answers, seed);
          if (!value) return std::nullopt;
          sum += *value;
        }
        return sum / static_cast<double>(by_depth.size());
      };
      plan.rows.push_back(mean);
      for (const Row& row : by_depth) plan.rows.push_back(row);
    }
  plan.notes.emplace_back(
      "In the made-up language the pass key is a pair whose key comes once; it is asked for at the "
      "end. Chance is 1 %.");
}

void passkey(Plan& plan, const World& world) {
  const Setting s = sinklora_setting(world);
  plan.metrics["accuracy"] = {.lower_is_better = false};
  plan.notes.emplace_back(
      "The paper's points cannot be read; its text has no drop up to 33,000 or 36,000 tokens, and "
      "contradicts itself. LongLoRA's model of 32,768 tokens finds about all to 33,000 tokens and "
      "none at 34,000.");
  if (world.scale == Scale::mini) return made_up_passkey(plan, s);
  const bool is_paper = world.scale == Scale::paper;
  // Small: the models of the ablations, asked up to half again their context.
  const int64_t context = is_paper ? 32768 : s.ablation;
  const int64_t interval = is_paper || world.smoke ? 1000 : 500;
  const int64_t longest = world.smoke ? 1000 : is_paper ? 33000 : 3000;
  // At the paper's scale keys stand where LongLoRA's script puts them; else at every depth.
  const std::vector<int64_t> depths =
      is_paper ? std::vector<int64_t>{} : std::vector<int64_t>{0, 25, 50, 75, 100};
  const int64_t trials = world.smoke ? 1 : is_paper ? 10 : 2, lengths = longest / interval;
  const auto prompts =
      static_cast<double>(trials * lengths * std::max<int64_t>(1, std::ssize(depths)));
  const auto job_for = [&](const std::string& arm) {
    const std::string name = "passkey-" + (arm.empty() ? std::string("base") : arm);
    Job job{.name = name,
            .program = "eval_llama",
            .arguments = {"passkey"},
            .cost = reading_cost(s.config, prompts * static_cast<double>(longest) / 2, context)};
    append(job.arguments, model_flags(s, arm, false, context));
    append(job.arguments,
           {"--max-tokens", std::to_string(longest), "--interval", std::to_string(interval),
            "--trials", std::to_string(trials), "--csv", "@" + name + "/trials.csv"});
    if (!depths.empty()) append(job.arguments, {"--depth", list_of(depths)});
    return plan.add(job);
  };
  // Accuracy in `list` of the answer, where its fields are those of the row.
  const auto accuracy_row = [](const std::string& label, const std::vector<std::string>& jobs,
                               const std::string& list, int64_t garbage,
                               std::optional<double> depth) {
    Row row{.arm = label, .metric = "accuracy", .depth = depth, .jobs = jobs};
    row.value = [=](const Answers& answers, size_t seed) -> std::optional<double> {
      if (seed >= jobs.size() || !answers.contains(jobs[seed])) return std::nullopt;
      for (const auto& entry : answers.at(jobs[seed]).at(list))
        if (entry.at("garbage") == garbage && (!depth || entry.at("depth") == *depth))
          return entry.at("accuracy").get<double>();
      return std::nullopt;
    };
    return row;
  };
  const auto rows_for = [&](const std::string& label, const std::vector<std::string>& jobs) {
    for (int64_t i = 0; i < lengths; ++i) {
      const int64_t garbage = passkey_garbage(i, interval);
      std::vector<Row> rows = {accuracy_row(label, jobs, "lengths", garbage, std::nullopt)};
      rows[0].paper = unknown();
      for (const int64_t depth : depths)
        rows.push_back(accuracy_row(label, jobs, "depths", garbage, static_cast<double>(depth)));
      for (Row& row : rows) row.x = static_cast<double>((i + 1) * interval);
      append(plan, rows);
    }
  };
  rows_for("base, interpolated, untrained", {job_for("")});
  std::vector<std::string> jobs;
  for (size_t seed = 1; seed <= plan.seeds; ++seed)
    jobs.push_back(job_for(extend(plan, s, kSf, context, seed)));
  rows_for("extended, SF", jobs);
}

// The tuned model; categories where all of their sets are there.
void longbench(Plan& plan, const World& world) {
  const Setting s = sinklora_setting(world);
  const bool is_paper = world.scale == Scale::paper;
  plan.metrics["score"] = {.lower_is_better = false, .digits = 1};
  const double samples = is_paper ? 3350 : 200;
  std::vector<std::string> jobs;
  for (size_t seed = 1; seed <= plan.seeds; ++seed) {
    const std::string arm = tune(plan, s, extend(plan, s, kSf, s.most, seed), s.most, seed);
    const std::string name = limited_name(world, "longbench-" + arm);
    Job job{.name = name,
            .program = "eval_llama",
            .arguments = {"longbench"},
            .cost = reading_cost(s.config, samples * 0.6 * static_cast<double>(s.most), s.most)};
    append(job.arguments, model_flags(s, arm, false, 0));
    append(job.arguments,
           {"--data", (world.data / (is_paper ? "LongBench" : "longctx/longbench")).string(),
            "--tasks", is_paper ? "en" : "multi_news", "--template", is_paper ? "llama2" : "chatml",
            "--output", "@" + name + "/samples"});
    append(job.arguments, limit_flags(world));
    jobs.push_back(plan.add(job));
  }
  if (!is_paper) {
    plan.rows.push_back(result_row("tuned", "score", jobs, "task", "multi_news", "score"));
    plan.rows.back().note = "multi_news alone, of which the paper has no figure";
    return;
  }
  for (const LongbenchSet& set : longbench_sets()) {
    const std::string arm = std::string("tuned, ") + set.category;
    if (std::any_of(plan.rows.begin(), plan.rows.end(),
                    [&](const Row& row) { return row.arm == arm; }))
      continue;
    Row row{.arm = arm, .metric = "score", .paper = unknown(), .jobs = jobs};
    if (std::string(set.category).starts_with("code")) row.paper = in_paper(59.2);
    if (std::string(set.category).starts_with("synthetic")) row.paper = in_paper(22.3);
    row.value = [jobs, category = std::string(set.category)](const Answers& answers,
                                                             size_t seed) -> std::optional<double> {
      if (seed >= jobs.size() || !answers.contains(jobs[seed])) return std::nullopt;
      for (const auto& entry : answers.at(jobs[seed]).at("categories"))
        if (entry.at("category") == category) return entry.at("score").get<double>();
      return std::nullopt;
    };
    plan.rows.push_back(row);
  }
  plan.rows.push_back(answer_row("tuned, average", "score", jobs, "average"));
  plan.rows.back().paper = in_paper(38.8);
}

}  // namespace

std::vector<Experiment> retrieval_experiments() {
  return {{"sinklora/topic", "SinkLoRA, Table 4", "the first topic of a long conversation", topic},
          {"sinklora/passkey", "SinkLoRA, Figure 5", "a number hidden in a long text", passkey},
          {"sinklora/longbench",
           "SinkLoRA, Table 6",
           "the tuned model on LongBench",
           longbench,
           {{Scale::mini, "its sets are English, which the made-up language has no words for"}}}};
}

}  // namespace mullion
