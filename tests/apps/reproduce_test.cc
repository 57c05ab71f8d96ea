// The frame of `reproduce`: what runs, what does not run again, and what the tables say.
#include <gtest/gtest.h>

#include <set>

#include "apps/program/signals.h"
#include "apps/reproduce/rows.h"
#include "apps/reproduce/runner.h"
#include "apps/reproduce/sinklora.h"
#include "apps/reproduce/statistics.h"
#include "apps/reproduce/table.h"
#include "tensor/io/json.h"
#include "tests/apps/programs.h"

namespace mullion {
namespace {

// Tables of Student's t, 97.5 %.
TEST(Reproduce, IntervalsAreThoseOfStudentsT) {
  const std::pair<int, double> known[] = {
      {1, 12.7062}, {2, 4.30265}, {4, 2.77645}, {9, 2.26216}, {29, 2.04523}};
  for (const auto& [freedom, t] : known)
    EXPECT_NEAR(student_t_quantile(0.975, freedom), t, 1e-4 * t) << freedom;
  EXPECT_NEAR(student_t_cdf(-1, 3), 0.195501, 1e-6);
  // By R: t.test(c(8.1, 8.4, 8.2)): 8.233 +- 0.3795.
  const Spread spread = spread_of({8.1, 8.4, 8.2});
  EXPECT_NEAR(spread.mean, 8.2333, 1e-4);
  ASSERT_TRUE(spread.half);
  EXPECT_NEAR(*spread.half, 0.3795, 1e-4);
  EXPECT_FALSE(spread_of({3}).half);
}

Row row(const std::string& arm, Published paper, std::vector<double> ours) {
  Row one;
  one.arm = arm;
  one.metric = "perplexity";
  one.paper = paper;
  one.jobs = {"none"};
  one.value = [ours](const Answers&, size_t seed) {
    return seed < ours.size() ? std::optional(ours[seed]) : std::nullopt;
  };
  return one;
}

Plan two_arms() {
  Plan plan;
  plan.seeds = 3;
  plan.metrics["perplexity"].reference = "S2";
  plan.rows = {row("S2", in_paper(9.09), {5.0, 5.2, 5.1}), row("SF", recalled(8.64), {6, 6.1, 6.2}),
               row("Full", unknown(), {4.8}), row("Other", {}, {})};
  return plan;
}

TEST(Reproduce, RowsSayWhereOurOrderDiffersAndCarryTheirMarks) {
  const Plan plan = two_arms();
  const std::vector<Measured> rows = measure(plan, plan.rows, {});
  EXPECT_NE(rows[1].words.find("the paper has it better than S2, here it is worse"),
            std::string::npos)
      << rows[1].words;
  EXPECT_NE(rows[0].words.find("the paper has it worse than SF, here it is better"),
            std::string::npos)
      << rows[0].words;
  EXPECT_EQ(rows[2].words, "");
  EXPECT_NEAR(*rows[1].paper_ratio, 8.64 / 9.09, 1e-12);
  EXPECT_NEAR(*rows[1].our_ratio, 6.1 / 5.1, 1e-12);
  const std::vector<Table> tables = result_tables(plan, rows, false);
  ASSERT_EQ(tables.size(), 1u);
  const auto& cells = tables[0].rows;
  EXPECT_EQ(cells[0][1], "9.090 (paper)");
  EXPECT_EQ(cells[1][1], "8.640 (recall)");
  EXPECT_EQ(cells[2][1], "?");
  EXPECT_EQ(cells[3][1], "");
  EXPECT_EQ(cells[2][3], "one seed");
  EXPECT_EQ(cells[3][2], "not run");
  for (const auto& line : cells) EXPECT_EQ(line.size(), tables[0].columns.size());
  // Our figures stand over the paper's only where they are of its model and data.
  EXPECT_EQ(std::count(tables[0].columns.begin(), tables[0].columns.end(), "ours / paper"), 0);
  const Table at_scale = result_tables(plan, rows, true)[0];
  EXPECT_EQ(std::count(at_scale.columns.begin(), at_scale.columns.end(), "ours / paper"), 1);
}

TEST(Reproduce, AnswersAreReadAsListsOrAlone) {
  const Answers answers = {
      {"one", {{"ctx_size", 512}, {"perplexity", 6.5}}},
      {"two",
       {{"results",
         {{{"ctx_size", 256}, {"perplexity", 8}}, {{"ctx_size", 512}, {"perplexity", 7}}}}}}};
  EXPECT_EQ(result_of(answers, "one", "ctx_size", 512, "perplexity"), 6.5);
  EXPECT_EQ(result_of(answers, "two", "ctx_size", 512, "perplexity"), 7);
  EXPECT_EQ(result_of(answers, "two", "ctx_size", 1024, "perplexity"), std::nullopt);
  EXPECT_EQ(result_of(answers, "three", "ctx_size", 512, "perplexity"), std::nullopt);
}

TEST(Reproduce, OrdersThatAgreeAreSaid) {
  Plan plan = two_arms();
  plan.rows[1] = row("SF", in_paper(8.64), {4, 4.1, 4.2});
  EXPECT_EQ(measure(plan, plan.rows, {})[1].words, "order as in the paper");
}

// Of two arms with one mean neither is said to stand as in the paper.
TEST(Reproduce, EqualMeansAreSaidOfBothArms) {
  Plan plan = two_arms();
  plan.rows[0] = row("S2", in_paper(9.09), {5, 5, 5});
  plan.rows[1] = row("SF", in_paper(8.64), {5, 5, 5});
  const std::vector<Measured> rows = measure(plan, plan.rows, {});
  EXPECT_NE(rows[0].words.find("worse than SF, here it is the same"), std::string::npos)
      << rows[0].words;
  EXPECT_NE(rows[1].words.find("better than S2, here it is the same"), std::string::npos)
      << rows[1].words;
}

TEST(Reproduce, ADifferenceThatIsNoneIsSaid) {
  Plan plan;
  plan.seeds = 3;
  plan.metrics["perplexity"] = {.lower_is_better = false, .is_difference = true};
  plan.rows = {row("+ shift", {}, {-1, 1, 0.5}), row("+ pooling", {}, {2, 2.2, 2.1})};
  const auto rows = measure(plan, plan.rows, {});
  EXPECT_NE(rows[0].words.find("no difference is shown"), std::string::npos) << rows[0].words;
  EXPECT_EQ(rows[1].words, "");
}

// Experiments share arms by name, so a name is one call; and each plan names a job after those that
// it needs.
TEST(Reproduce, AJobsNameIsOneCallInAllExperiments) {
  for (const Scale scale : {Scale::mini, Scale::small, Scale::paper})
    for (const bool smoke : {false, true}) {
      World world;
      world.scale = scale;
      world.smoke = smoke;
      world.seeds = 2;
      world.models = "MODELS";
      world.data = "DATA";
      Plan all;
      for (const Experiment& e : experiments()) {
        if (!e.unavailable(scale).empty()) continue;
        Plan plan;
        plan.seeds = world.seeds;
        e.plan(plan, world);
        EXPECT_FALSE(plan.rows.empty()) << e.id;
        std::set<std::string> seen;
        for (const Job& job : Runner::order(plan, plan.rows)) {
          for (const std::string& name : needs_of(job))
            EXPECT_TRUE(seen.contains(name)) << e.id << ": " << job.name << " needs " << name;
          seen.insert(job.name);
          all.add(job);
        }
      }
    }
}

TEST(Reproduce, IdsAreOneAGroupOrAll) {
  EXPECT_EQ(chosen_experiments({"all"}).size(), experiments().size());
  const size_t sinklora = chosen_experiments({"sinklora/..."}).size();
  EXPECT_EQ(chosen_experiments({"tic/..."}).size(), 6u);
  EXPECT_EQ(sinklora + 6, experiments().size());
  EXPECT_EQ(chosen_experiments({"sinklora/pilot", "sinklora/pilot"}).size(), 1u);
  EXPECT_THROW(chosen_experiments({"sinklora/pilots"}), Error);
}

class ReproduceRuns : public test::Programs {
 protected:
  ReproduceRuns() : Programs({"reproduce", "data_llama", "train_llama", "eval_llama"}) {}

  static Plan plan(const std::string& rows) {
    Plan plan;
    plan.add(
        {.name = "made",
         .program = "data_llama",
         .arguments = {"lexicon", "--rows", rows, "--length", "8", "--output", "@made/text.bin"}});
    plan.add({.name = "seen", .program = "data_llama", .arguments = {"info", "@made/text.bin"}});
    Row tokens;
    tokens.jobs = {"seen"};
    plan.rows.push_back(tokens);
    return plan;
  }
  static double tokens(Runner& runner) {
    return runner.answers().at("seen").at("tokens").get<double>();
  }
};

TEST_F(ReproduceRuns, CompleteArmsAreKeptAndChangedOnesRunAnew) {
  const auto jobs = [](const std::string& rows) {
    const Plan p = plan(rows);
    return Runner::order(p, p.rows);
  };
  {
    Runner runner(at("arms"));
    EXPECT_THROW(Runner(at("arms")), Error) << "two at a time";
    EXPECT_TRUE(runner.run(jobs("2")));
    EXPECT_EQ(tokens(runner), 16);
  }
  const std::string before = test::contents(at("arms/seen/job.json"));
  {
    Runner runner(at("arms"));
    EXPECT_TRUE(runner.run(jobs("2")));
    EXPECT_EQ(tokens(runner), 16);
    EXPECT_EQ(test::contents(at("arms/seen/job.json")), before) << "ran again";
  }
  testing::internal::CaptureStderr();
  Runner runner(at("arms"));
  EXPECT_TRUE(runner.run(jobs("3")));
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("was `--rows 2`, is `--rows 3`"), std::string::npos) << said;
  EXPECT_NE(said.find("seen: its configuration changed (made changed)"), std::string::npos) << said;
  EXPECT_EQ(tokens(runner), 24);
  EXPECT_TRUE(std::filesystem::exists(at("arms/made.old-1/text.bin")));
}

TEST_F(ReproduceRuns, AFailureLeavesOutWhatBuildsOnItAndNamesTheLog) {
  Plan p = plan("2");
  p.jobs[0].arguments[2] = "0";
  Runner runner(at("arms"));
  testing::internal::CaptureStderr();
  EXPECT_TRUE(runner.run(Runner::order(p, p.rows)));
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("made/job.log"), std::string::npos) << said;
  EXPECT_EQ(runner.failures(), (std::vector<std::string>{"made", "seen"}));
  EXPECT_EQ(runner.failure_code(), 2);
}

class ReproduceData : public test::Programs {
 protected:
  ReproduceData() : Programs({"data_tic"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    result("data_tic cue --output tree --per-class 2 --json");
    // Pictures that are made in one moment have one size and one time.
    int64_t number = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(at("tree")))
      if (entry.is_regular_file())
        std::filesystem::last_write_time(entry.path(),
                                         entry.last_write_time() - std::chrono::seconds(++number));
  }
  // What is said, and how often the only job has been run before.
  std::pair<std::string, int> run_again() const {
    Plan plan;
    plan.add({.name = "packed",
              .program = "data_tic",
              .arguments = {"pack", at("tree").string(), "-o", "@packed/shards"}});
    Row row;
    row.jobs = {"packed"};
    testing::internal::CaptureStderr();
    Runner runner(at("arms"));
    EXPECT_TRUE(runner.run(Runner::order(plan, {row})));
    int before = 0;
    while (std::filesystem::exists(at(concat("arms/packed.old-", before + 1)))) ++before;
    return {testing::internal::GetCapturedStderr(), before};
  }
  void exchange(const std::string& a, const std::string& b) const {
    std::filesystem::rename(at(a), at("between"));
    std::filesystem::rename(at(b), at(a));
    std::filesystem::rename(at("between"), at(b));
  }
};

TEST_F(ReproduceData, OtherDataOfTheSameSizeRunTheArmAnew) {
  EXPECT_EQ(run_again().second, 0);
  EXPECT_EQ(run_again().second, 0);
  exchange("tree/train/0-plus", "tree/train/1-cross");
  const auto [said, times] = run_again();
  EXPECT_NE(said.find("tree changed"), std::string::npos) << said;
  EXPECT_EQ(times, 1);
  EXPECT_EQ(run_again().second, 1);
  // Behind a link as well.
  std::filesystem::rename(at("tree/val"), at("elsewhere"));
  std::filesystem::create_directory_symlink(at("elsewhere"), at("tree/val"));
  EXPECT_EQ(run_again().second, 1);
  exchange("elsewhere/0-plus", "elsewhere/1-cross");
  EXPECT_EQ(run_again().second, 2);
}

// Arms of former versions took hours: they have the sum of sizes, and are compared by it.
TEST_F(ReproduceData, AnArmOfBeforeStaysWhereItsSumOfSizesDoes) {
  run_again();
  nlohmann::json record = read_json_file(at("arms/packed/job.json"));
  uint64_t sum = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(at("tree")))
    if (entry.is_regular_file()) sum += entry.file_size();
  record["identity"]["files"][at("tree").string()] = {sum, 0};
  write_json_file(at("arms/packed/job.json"), record);
  const std::string before = test::contents(at("arms/packed/job.json"));
  EXPECT_EQ(run_again().second, 0);
  EXPECT_EQ(test::contents(at("arms/packed/job.json")), before);
  std::filesystem::remove(at("tree/val/2-ring/00001.png"));
  EXPECT_EQ(run_again().second, 1);
}

TEST_F(ReproduceRuns, AStopKeepsWhatIsDone) {
  const Plan p = plan("2");
  Runner runner(at("arms"));
  request_stop("test");
  EXPECT_FALSE(runner.run(Runner::order(p, p.rows)));
  clear_stop_request();
  EXPECT_TRUE(runner.run(Runner::order(p, p.rows)));
  EXPECT_EQ(tokens(runner), 16);
}

TEST_F(ReproduceRuns, AProgramThatIsStoppedGoesOn) {
  const std::string command = "exec reproduce sinklora/max-context --smoke --output out --json";
  const test::Answer stopped = stop("(" + command + ")", "out/arms/mini-smoke/lessons", "TERM");
  EXPECT_EQ(stopped.code, kExitStopped) << stopped.log;
  const nlohmann::json done = result(command);
  EXPECT_EQ(done.at("complete"), true);
  const nlohmann::json results =
      read_json_file(at("out/sinklora/max-context/mini-smoke/results.json"));
  EXPECT_EQ(results.at("rows").size(), 6u);
  for (const nlohmann::json& one : results.at("rows"))
    EXPECT_FALSE(one.at("ours").is_null()) << one;
  for (const char* file : {"table.md", "report.html"})
    EXPECT_NE(
        test::contents(at("out/sinklora/max-context/mini-smoke") / file).find("8.730 (paper)"),
        std::string::npos);
}

TEST_F(ReproduceRuns, WhatWouldBeIgnoredIsRefused) {
  refused("reproduce sinklora/pilot --models x", 2, {"--models", "mini"});
  refused("reproduce tic/strategies --scale small --models x --data d --dry-run", 2,
          {"--models", "tic/"});
  // What is judged was not chosen on what it is judged by.
  const auto judged = result("reproduce tic/strategies --dry-run --json");
  for (const auto& command : judged["experiments"][0]["commands"])
    if (command.get<std::string>().find("eval_tic") != std::string::npos) {
      EXPECT_NE(command.get<std::string>().find("-s1/last "), std::string::npos) << command;
    }
  refused("reproduce tic/strategies --limit 5", 2, {"--limit", "tic/strategies"});
  for (const char* ids :
       {"sinklora/pilot --scale small", "tic/strategies --scale mini", "tic/cost --scale small"})
    refused(concat("reproduce ", ids, " --epochs 3 --dry-run"), 2, {"--epochs"});
  refused("reproduce sinklora/pilot --only nonsense", 2, {"nonsense", "Full, S2, SF"});
  // Shorter trainings are others.
  const auto shorter = result("reproduce tic/strategies --scale small --epochs 3 --dry-run --json");
  const std::string training = shorter["experiments"][0]["commands"][0];
  for (const char* there : {" --epochs 3 ", "tic-cifar10-3ep-alone-s1"})
    EXPECT_NE(training.find(there), std::string::npos) << training;
  EXPECT_EQ(training.find(" --epochs 12 "), std::string::npos) << training;
  // A name with commas is one.
  const auto some = result(
      "reproduce sinklora/shift-ablation --only 'S2, shift up only,s2+s&r' --dry-run --json");
  std::string all;
  for (const auto& command : some["experiments"][0]["commands"]) all += command;
  for (const char* there : {"shift-up-only", "s2-sr"})
    EXPECT_NE(all.find(there), std::string::npos) << all;
  EXPECT_EQ(all.find("shift-back-only"), std::string::npos) << all;
  // Of two steps the cost is that of two steps.
  const std::string strategies = "reproduce tic/strategies --scale small --dry-run --json";
  EXPECT_LT(50 * result(strategies + " --smoke")["total"]["tflop"].get<double>(),
            result(strategies)["total"]["tflop"].get<double>());
  refused("reproduce sinklora/pilots", 2, {"did you mean sinklora/pilot?"});
  refused("reproduce", 2, {"which experiments"});
  const test::Answer absent =
      run("reproduce sinklora/pilot --scale small --models m --data d --output o");
  EXPECT_EQ(absent.code, 2);
  EXPECT_NE(absent.log.find("missing m/SmolLM2-135M-Instruct.Q4_1.gguf"), std::string::npos)
      << absent.log;
  EXPECT_NE(absent.log.find("93 MB"), std::string::npos) << absent.log;
  EXPECT_FALSE(std::filesystem::exists(at("o"))) << "nothing was begun";
  EXPECT_EQ(run("reproduce sinklora/pilot --scale small --models m --data d --dry-run").code, 2);
  EXPECT_EQ(run("reproduce sinklora/pilot --scale small --dry-run").code, 0);
  EXPECT_NE(run("reproduce --list --seeds 2").log.find("--seeds 2: has no effect with --list"),
            std::string::npos);
  refused("reproduce sinklora/longbench --output o", 2, {"not available"});
  EXPECT_FALSE(std::filesystem::exists(at("o")));
}

}  // namespace
}  // namespace mullion
