// A folder that appears whole or not at all, whichever operation on the disk fails.
#include "tensor/io/atomic_folder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/file_ops.h"
#include "tests/apps/temporary_run.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

void write_two_files(const fs::path& path) {
  AtomicFolder folder(path);
  write_whole_file(folder.place() / "a", "1");
  write_whole_file(folder.place() / "b", "2");
  folder.commit();
}

TEST(AtomicFolder, IsThereWholeOrNotAtAll) {
  int operations = 0;
  {
    const test::TemporaryRun run;
    set_file_hook([&](const FileOp&) { return ++operations, 0; });
    write_two_files(run.path() / "out");
    set_file_hook({});
    EXPECT_EQ(names_in(run.path() / "out"), (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(names_in(run.path()), std::vector<std::string>{"out"});
  }
  for (int failing = 0; failing < operations; ++failing) {
    const test::TemporaryRun run;
    int at = 0;
    std::string renamed;
    set_file_hook([&](const FileOp& op) {
      if (at++ == failing) return ENOSPC;
      if (op.target == run.path() / "out") renamed = "yes";
      return 0;
    });
    EXPECT_THROW(write_two_files(run.path() / "out"), Error) << "operation " << failing;
    set_file_hook({});
    // Whole once it has its name, as when the sync of the parent fails; else nothing is left.
    EXPECT_EQ(names_in(run.path()),
              renamed.empty() ? std::vector<std::string>{} : std::vector<std::string>{"out"})
        << "operation " << failing;
  }
}

// What a killed process left goes; the folder of one that lives stays.
TEST(AtomicFolder, RemovesWhatAKilledProcessLeft) {
  const test::TemporaryRun run;
  fs::create_directories(run.path() / ".out.tmp-999999999-0" / "part");
  const AtomicFolder alive(run.path() / "out");
  {
    const AtomicFolder another(run.path() / "out");
    EXPECT_FALSE(fs::exists(run.path() / ".out.tmp-999999999-0"));
    EXPECT_TRUE(fs::exists(alive.place()));
  }
  EXPECT_EQ(names_in(run.path()), (std::vector<std::string>{alive.place().filename().string()}));
}

TEST(AtomicFolder, TakesThePlaceOfAnEmptyFolderAlone) {
  const test::TemporaryRun run;
  fs::create_directory(run.path() / "out");
  write_two_files(run.path() / "out/");
  EXPECT_EQ(names_in(run.path() / "out").size(), 2u);
  for (const char* name : {"out", "file", "link"}) {
    if (std::string(name) == "file") write_whole_file(run.path() / name, "x");
    if (std::string(name) == "link") fs::create_symlink("nowhere", run.path() / name);
    try {
      AtomicFolder folder(run.path() / name);
      ADD_FAILURE() << name;
    } catch (const Error& e) {
      EXPECT_EQ(e.fault(), Fault::usage);
      EXPECT_NE(std::string(e.what()).find(name), std::string::npos) << e.what();
    }
  }
  EXPECT_EQ(names_in(run.path()), (std::vector<std::string>{"file", "link", "out"}));
}

}  // namespace
}  // namespace mullion
