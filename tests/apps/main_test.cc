// Exit codes, messages, the JSON line, signals, progress.
#include "apps/program/main.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <new>
#include <nlohmann/json.hpp>

#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "tensor/check.h"
#include "tensor/parallel.h"

namespace mullion {
namespace {

struct Called {
  int code;
  std::string out, err;
};

Called run(const std::vector<std::string>& arguments, const ProgramBody& body) {
  OptionTable table("demo", "A demo");
  table.add("a.n", "-n", 1, "a number");
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Called result;
  result.code = run_command(arguments, table, body);
  result.out = testing::internal::GetCapturedStdout();
  result.err = testing::internal::GetCapturedStderr();
  return result;
}

TEST(RunProgram, ResultIsTheLastLineOfStdout) {
  const Called r = run({"--json", "-n", "3"}, [](const Options& options) {
    return JsonObject()
        .set("n", options.get<int>("a.n"))
        .set("loss", 0.1f)
        .set("run", "runs/\"x\"");
  });
  EXPECT_EQ(r.code, 0);
  EXPECT_EQ(r.out, "{\"n\": 3, \"loss\": 0.1, \"run\": \"runs/\\\"x\\\"\"}\n");
  EXPECT_EQ(run({}, [](const Options&) { return JsonObject(); }).out, "");
}

TEST(RunProgram, FaultsBecomeExitCodes) {
  for (const Fault fault : {Fault::other, Fault::usage, Fault::bad_file, Fault::disk,
                            Fault::diverged, Fault::memory, Fault::peer_lost}) {
    const Called r =
        run({"--json"}, [&](const Options&) -> Outcome { throw Error("it broke", fault, "glue"); });
    EXPECT_EQ(r.code, static_cast<int>(fault));
    EXPECT_EQ(r.err, "error: it broke\n  try: glue\n");
    EXPECT_EQ(nlohmann::json::parse(r.out)["exit_code"], static_cast<int>(fault));
  }
  EXPECT_EQ(run({}, [](const Options&) -> Outcome { throw std::bad_alloc(); }).code, 6);
  EXPECT_EQ(run({}, [](const Options&) -> Outcome { throw std::runtime_error("x"); }).code, 1);
  EXPECT_EQ(run({"--wrong"}, [](const Options&) { return JsonObject(); }).code, 2);
  EXPECT_EQ(run({}, [](const Options&) { return Outcome(JsonObject(), kExitStopped); }).code, 75);
  EXPECT_EQ(run({"--help"}, [](const Options&) { return JsonObject(); }).code, 0);
}

TEST(RunProgram, Verbs) {
  const auto named = [](const std::string& name) {
    return [name](const Options&) { return JsonObject().set("verb", name); };
  };
  const std::vector<Verb> verbs = {{OptionTable("demo one", "First"), named("one")},
                                   {OptionTable("demo two", "Second"), named("two")}};
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  EXPECT_EQ(run_command({"two", "--json"}, "About", verbs), 0);
  EXPECT_EQ(run_command({"--help"}, "About", verbs), 0);
  EXPECT_EQ(run_command({"onw"}, "About", verbs), 2);
  EXPECT_EQ(run_command({}, "About", verbs), 2);
  const std::string out = testing::internal::GetCapturedStdout();
  const std::string err = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(out.starts_with("{\"verb\": \"two\"}\n")) << out;
  EXPECT_NE(out.find("one"), std::string::npos);
  EXPECT_NE(err.find("did you mean one?"), std::string::npos);
}

TEST(RunProgram, ThreadsAreThoseOfOmpNumThreadsUnlessTheyAreGiven) {
  const int before = num_threads();
  const char* said = std::getenv("OMP_NUM_THREADS");
  const std::string kept = said ? said : "";
  ::setenv("OMP_NUM_THREADS", "3,1", 1);
  set_num_threads(0);
  EXPECT_EQ(num_threads(), 3);
  set_num_threads(2);
  EXPECT_EQ(num_threads(), 2);
  ::setenv("OMP_NUM_THREADS", "nonsense", 1);
  set_num_threads(0);
  EXPECT_GE(num_threads(), 1);
  if (said)
    ::setenv("OMP_NUM_THREADS", kept.c_str(), 1);
  else
    ::unsetenv("OMP_NUM_THREADS");
  set_num_threads(before);
}

TEST(JsonObject, NonFiniteNumbersStayVisibleAndLegal) {
  JsonObject line;
  line.set("loss", std::nan("")).set("norm", -std::numeric_limits<float>::infinity()).set("x", 1.0);
  line.set("list", std::vector<double>{1, 0.5}).set("flag", true).set("loss", "again");
  line.set("bytes", std::string("\xff\x01"));
  const auto parsed = nlohmann::json::parse(line.text());
  EXPECT_EQ(parsed["norm"], "-Infinity");
  EXPECT_EQ(parsed["loss"], "again");
  EXPECT_EQ(parsed["list"], nlohmann::json({1.0, 0.5}));
  EXPECT_TRUE(line.text().starts_with("{\"loss\""));
  EXPECT_NE(line.text().find("\"x\": 1.0"), std::string::npos);
}

// Exit status of a child that runs `body` and then waits to be told to stop.
template <typename Body>
int status_of_child(const Body& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    body();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST(Signals, SetOneFlagAndTheSecondInterruptLeaves) {
  for (const int number : {SIGTERM, SIGUSR1, SIGINT}) {
    const int status = status_of_child([&] {
      catch_stop_signals();
      ::raise(SIGHUP);
      if (stop_requested()) ::_exit(1);
      ::raise(number);
      ::_exit(stop_requested() && stop_reason().starts_with("SIG") ? kExitStopped : 2);
    });
    EXPECT_EQ(WEXITSTATUS(status), kExitStopped);
  }
  const int twice = status_of_child([] {
    catch_stop_signals();
    ::raise(SIGTERM);
    ::raise(SIGINT);
    ::raise(SIGINT);
  });
  EXPECT_EQ(WEXITSTATUS(twice), kExitInterrupted);
  const int uncaught = status_of_child([] {
    catch_stop_signals({"TERM"});
    ::raise(SIGUSR1);
  });
  EXPECT_TRUE(WIFSIGNALED(uncaught));
  EXPECT_THROW(catch_stop_signals({"KILLED"}), Error);
}

TEST(Signals, FilesInTheRunFolder) {
  const std::filesystem::path run_path =
      std::filesystem::path(testing::TempDir()) / ("switches" + std::to_string(::getpid()));
  std::filesystem::create_directories(run_path);
  {
    RunSwitches ended(run_path);
    std::ofstream(run_path / "STOP").close();  // after the last look
  }
  RunSwitches switches(run_path);
  EXPECT_FALSE(switches.save_requested());
  EXPECT_FALSE(switches.stop_requested());
  std::ofstream(run_path / "SAVE").close();
  EXPECT_TRUE(switches.save_requested());
  EXPECT_FALSE(switches.save_requested());
  EXPECT_FALSE(switches.stop_requested());
  std::ofstream(run_path / "STOP").close();
  EXPECT_TRUE(switches.stop_requested());
  EXPECT_TRUE(switches.stop_requested());
  EXPECT_EQ(stop_reason(), "RUN/STOP");
  EXPECT_TRUE(std::filesystem::is_empty(run_path));
  clear_stop_request();
  // One that cannot be removed counts once.
  std::filesystem::create_directories(run_path / "SAVE" / "full");
  EXPECT_TRUE(switches.save_requested());
  EXPECT_FALSE(switches.save_requested());
  std::filesystem::last_write_time(run_path / "SAVE",
                                   std::filesystem::file_time_type::clock::now());
  EXPECT_TRUE(switches.save_requested());
  std::filesystem::remove_all(run_path / "SAVE");
  // One that is older than this process asked another for it.
  std::ofstream(run_path / "STOP").close();
  std::filesystem::last_write_time(
      run_path / "STOP", std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  RunSwitches later(run_path);
  EXPECT_FALSE(later.stop_requested());
  EXPECT_TRUE(std::filesystem::is_empty(run_path));
  std::filesystem::remove_all(run_path);
}

TEST(Progress, PlainLinesWithoutCarriageReturns) {
  testing::internal::CaptureStderr();
  {
    Progress every("train", 3, {.plain_seconds = 0});
    for (int i = 1; i <= 3; ++i) every.update(i, "loss 1.5");
    Progress seldom("eval", 1000, {.plain_seconds = 1000});
    for (int i = 1; i <= 900; ++i) seldom.update(i);
  }
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 5) << text;
  EXPECT_NE(text.find("train  2/3  loss 1.5  00:00:00"), std::string::npos) << text;
  EXPECT_NE(text.find("eval  900/1000"), std::string::npos) << text;
}

TEST(Progress, BarText) {
  Progress bar("train", 100, {.start = 20});
  bar.update(60, "loss 2");
  EXPECT_EQ(bar.text(true, 40),
            "train  60/100 [==============>         ] 60%  loss 2  00:00:40<00:00:40");
  EXPECT_EQ(duration_text(90061), "1d 01:01:01");
}

}  // namespace
}  // namespace mullion
