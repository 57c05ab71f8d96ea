// Run folders: one owner, what is recorded, which folder the options choose.
#include "apps/run/run_folder.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <optional>

#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tests/apps/temporary_run.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::TemporaryRun;

std::unique_ptr<RunFolder> taken(const fs::path& folder, Resume resume) {
  auto run = std::make_unique<RunFolder>(folder, resume);
  run->take();
  return run;
}

TEST(RunFolder, ASecondRunIsRefusedByName) {
  TemporaryRun base;
  const fs::path folder = base.path() / "run";
  {
    const auto first = taken(folder, Resume::automatic);
    first->check_owned();
    for (const Resume resume : {Resume::no, Resume::automatic}) {
      try {
        const RunFolder second(folder, resume);
        FAIL();
      } catch (const Error& error) {
        EXPECT_EQ(error.fault(), Fault::usage);
        const std::string what = error.what();
        EXPECT_NE(what.find("process " + std::to_string(::getpid())), std::string::npos) << what;
        EXPECT_NE(what.find(first->run_id().substr(0, 8)), std::string::npos) << what;
      }
    }
    std::ofstream(folder / "LOCK") << "someone else\n";
    EXPECT_THROW(first->check_owned(), Error);
  }
  EXPECT_FALSE(taken(folder, Resume::automatic)->resumed());
}

// Neither of another who looks nor of a run that begins meanwhile, which keeps its folder.
TEST(RunFolder, WhoLooksIsInNobodysWay) {
  TemporaryRun base;
  const fs::path folder = base.path() / "new/run";
  { const RunFolder look(folder, Resume::no); }
  EXPECT_FALSE(fs::exists(base.path() / "new"));
  {
    std::optional<RunFolder> first, second;
    first.emplace(folder, Resume::no);
    taken(folder, Resume::no)->check_owned();  // and leaves its LOCK
    second.emplace(folder, Resume::no);
    const RunFolder third(folder, Resume::no);
    const auto run = taken(folder, Resume::no);
    EXPECT_THROW(RunFolder(folder, Resume::no), Error);
    EXPECT_THROW(second->take(), Error);
    first.reset();
    run->check_owned();
  }
  EXPECT_TRUE(fs::exists(folder / "RUN.json"));
}

TEST(RunFolder, OfManyProcessesOneWins) {
  for (int round = 0; round < 10; ++round) {
    TemporaryRun base;
    int answers[2], go[2];
    ASSERT_EQ(::pipe(answers), 0);
    ASSERT_EQ(::pipe(go), 0);
    std::vector<pid_t> children;
    for (int i = 0; i < 4; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        ::close(go[1]);
        char answer = 'w';
        try {
          const auto run = taken(base.path(), Resume::automatic);
          if (::write(answers[1], &answer, 1) != 1) ::_exit(2);
          // Holds the folder until everyone has tried.
          if (::read(go[0], &answer, 1) != 0) ::_exit(2);
        } catch (const Error&) {
          answer = 'r';
          if (::write(answers[1], &answer, 1) != 1) ::_exit(2);
        }
        ::_exit(0);
      }
      children.push_back(child);
    }
    int winners = 0;
    for (size_t i = 0; i < children.size(); ++i) {
      char answer = 0;
      ASSERT_EQ(::read(answers[0], &answer, 1), 1);
      winners += answer == 'w' ? 1 : 0;
    }
    EXPECT_EQ(winners, 1);
    ::close(go[1]);
    for (const pid_t child : children) ::waitpid(child, nullptr, 0);
    for (const int fd : {go[0], answers[0], answers[1]}) ::close(fd);
  }
}

TEST(RunFolder, ResumeNeedsWhatItSays) {
  TemporaryRun base;
  std::string id;
  {
    const auto first = taken(base.path(), Resume::no);
    id = first->run_id();
    EXPECT_EQ(id.size(), 32u);
  }
  EXPECT_THROW(RunFolder(base.path(), Resume::required), Error);
  fs::create_directories(base.path() / "checkpoint-000001");
  {
    // Nothing was saved in between, so the second start was a new run.
    const auto resumed = taken(base.path(), Resume::automatic);
    EXPECT_TRUE(resumed->resumed());
    EXPECT_EQ(resumed->run_id(), id);
  }
  EXPECT_THROW(RunFolder(base.path(), Resume::no), Error);
}

TEST(RunFolder, RecordsHowToRepeatTheRun) {
  TemporaryRun base;
  OptionTable table("train_demo", "A demo");
  add_run_options(table);
  table.add("train.steps", "--steps", 10, "steps");
  const Options options =
      *parse_options(table, {"--steps", "20", "--name", "it's", "--keep", "3"}).options;
  const RunFolder run(base.path(), Resume::no);
  run.record(options, JsonObject().set("kernels", "oneDNN"));
  run.preflight(1 << 20, 3);
  EXPECT_EQ(read_whole_file(base.path() / "command.txt", 1000),
            "train_demo --steps 20 --name 'it'\\''s' --keep 3\n");
  const Options again =
      *parse_options(table, {"-c", (base.path() / "config.toml").string()}).options;
  EXPECT_EQ(again.to_toml(false), options.to_toml(false));
  EXPECT_NE(read_whole_file(base.path() / "env.json", 10000).find("oneDNN"), std::string::npos);
  EXPECT_THROW(run.preflight(uint64_t{1} << 60, 3), Error);
  EXPECT_FALSE(fs::exists(base.path() / ".tmp-probe"));
}

TEST(RunFolder, AFolderThatCannotBeIsADiskFault) {
  TemporaryRun base;
  std::ofstream(base.path() / "file") << "x";
  try {
    const RunFolder run(base.path() / "file" / "run", Resume::no);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::disk);
    EXPECT_NE(std::string(error.what()).find("file/run"), std::string::npos) << error.what();
  }
}

TEST(RunFolder, ChoiceOfFolderAndCheckpoint) {
  TemporaryRun base;
  OptionTable table("train_demo", "A demo");
  add_run_options(table);
  const auto choose = [&](std::vector<std::string> arguments) {
    return choose_run(*parse_options(table, arguments).options, "tic-n");
  };
  const RunChoice fresh = choose({"--output", "out", "--name", "a"});
  EXPECT_EQ(fresh.folder, "out/a");
  EXPECT_EQ(fresh.resume, Resume::no);
  EXPECT_TRUE(choose({}).folder.filename().string().ends_with("-tic-n"));
  EXPECT_EQ(choose({"--name", "a", "--resume", "auto"}).resume, Resume::automatic);
  EXPECT_THROW(choose({"--resume", "auto"}), Error);
  EXPECT_THROW(choose({"--name", "../a"}), Error);
  EXPECT_THROW(choose({"--resume", (base.path() / "none").string()}), Error);
  const fs::path checkpoint = base.path() / "checkpoint-000100";
  fs::create_directories(checkpoint);
  fs::create_symlink("checkpoint-000100", base.path() / "last");
  EXPECT_THROW(choose({"--resume", checkpoint.string()}), Error);  // no config.toml
  write_whole_file(base.path() / "config.toml", "[save]\nkeep = 7\nevery = 3\n");
  write_whole_file(base.path() / "env.json",
                   R"({"program": "train_demo", "given": ["save.keep"]})");
  EXPECT_EQ(
      parse_options(table, {"--resume", checkpoint.string()}).options->get<int64_t>("save.keep"),
      7);
  for (const fs::path& path : {checkpoint, base.path() / "last", checkpoint / ""}) {
    const RunChoice choice = choose({"--resume", path.string()});
    EXPECT_TRUE(fs::equivalent(choice.folder, base.path())) << path;
    EXPECT_EQ(choice.checkpoint.filename(), "checkpoint-000100") << path;
    EXPECT_EQ(choice.resume, Resume::required);
  }
}

}  // namespace
}  // namespace mullion
