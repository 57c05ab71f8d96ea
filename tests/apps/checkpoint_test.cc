// The checkpoint protocol under kills, refusing disks, damage and misuse.
#include "apps/run/run_checkpoint.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "apps/program/log.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/file_ops.h"
#include "tests/apps/temporary_run.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::TemporaryRun;

const char kRunId[] = "0123456789abcdef0123456789abcdef";
const Identity kIdentity = {{"train.batch_size", "4"}, {"model", "abc"}};

std::string weights(int64_t step) { return std::string(3000, static_cast<char>('a' + step % 26)); }

CheckpointRequest request(int64_t step) {
  CheckpointRequest r;
  r.step = step;
  r.identity = kIdentity;
  r.write = [step](CheckpointWriter& writer) {
    writer.add_file("trainer_state.json", "{\"global_step\": " + std::to_string(step) + "}\n");
    writer.add_file("optimizer.safetensors",
                    [&](const fs::path& path) { write_whole_file(path, weights(step)); });
    writer.add_folder("adapter", [&](const fs::path& folder) {
      write_whole_file(folder / "adapter_model.safetensors", weights(step + 1));
    });
  };
  return r;
}

CheckpointStore store(const fs::path& run, int64_t keep = 2, int64_t keep_every = 0) {
  return CheckpointStore(run, kRunId, {.keep = keep, .keep_every = keep_every});
}

// The content that belongs to its step, all of it.
void expect_whole(const CheckpointInfo& info) {
  EXPECT_EQ(info.read("optimizer.safetensors"), weights(info.step));
  EXPECT_EQ(info.read("adapter/adapter_model.safetensors"), weights(info.step + 1));
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() { set_log_level(-2); }
  ~CheckpointTest() override {
    set_file_hook({});
    set_log_level(0);
  }
  TemporaryRun run_;
};

TEST_F(CheckpointTest, SaveRecoverRetain) {
  EXPECT_FALSE(store(run_.path()).recover().has_value());
  CheckpointStore saving = store(run_.path(), 2, 300);
  for (int64_t step = 100; step <= 700; step += 100) {
    const CheckpointInfo info = saving.save(request(step));
    if (step == 200) saving.mark_best(info);
  }
  EXPECT_EQ(names_in(run_.path()),
            (std::set<std::string>{"best", "checkpoint-000200", "checkpoint-000300",
                                   "checkpoint-000600", "checkpoint-000700", "last"}));
  EXPECT_EQ(fs::read_symlink(run_.path() / "last"), "checkpoint-000700");
  const auto newest = store(run_.path()).recover();
  ASSERT_TRUE(newest.has_value());
  EXPECT_EQ(newest->step, 700);
  EXPECT_EQ(newest->generation, 7);
  EXPECT_EQ(newest->previous, 6);
  EXPECT_EQ(newest->identity, kIdentity);
  expect_whole(*newest);
}

// A child is killed at the n-th operation of a save, for every n: what was there, or the new one.
TEST_F(CheckpointTest, KilledAtEveryOperation) {
  bool finished = false;
  int kills = 0, kept_old = 0;
  for (int n = 0; !finished; ++n) {
    TemporaryRun run;
    store(run.path()).save(request(1));
    store(run.path()).save(request(2));
    int acknowledged[2];
    ASSERT_EQ(::pipe(acknowledged), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      int count = 0;
      set_file_hook([&](const FileOp&) {
        if (count++ == n) ::raise(SIGKILL);
        return 0;
      });
      CheckpointStore saving = store(run.path());
      saving.recover();
      saving.save(request(3));
      const ssize_t told = ::write(acknowledged[1], "x", 1);
      ::_exit(told == 1 ? 0 : 1);
    }
    ::close(acknowledged[1]);
    int status = 0;
    ::waitpid(child, &status, 0);
    char answer = 0;
    const bool told = ::read(acknowledged[0], &answer, 1) == 1;
    ::close(acknowledged[0]);
    finished = WIFEXITED(status);
    kills += WIFSIGNALED(status) ? 1 : 0;

    const auto newest = store(run.path()).recover();
    ASSERT_TRUE(newest.has_value()) << n;
    EXPECT_TRUE(newest->step == 3 || (newest->step == 2 && !told)) << n << ": " << newest->step;
    kept_old += newest->step == 2 ? 1 : 0;
    expect_whole(*newest);
    // Recovery leaves no leftovers, and the run goes on from there.
    for (const std::string& name : names_in(run.path())) {
      EXPECT_FALSE(name.starts_with(".")) << n << ": " << name;
    }
    const auto again = store(run.path()).recover();
    EXPECT_EQ(again->generation, newest->generation);
    CheckpointStore next = store(run.path());
    next.recover();
    EXPECT_EQ(next.save(request(3)).step, 3) << n;
    EXPECT_EQ(store(run.path()).recover()->step, 3) << n;
  }
  EXPECT_GT(kills, 20);
  EXPECT_GT(kept_old, 10);
}

// The disk refuses the n-th operation, once or from then on.
TEST_F(CheckpointTest, RefusedAtEveryOperation) {
  for (const int error : {ENOSPC, EIO}) {
    for (const bool for_ever : {false, true}) {
      bool reached = true;
      for (int n = 0; reached; ++n) {
        TemporaryRun run;
        CheckpointStore saving = store(run.path());
        saving.save(request(1));
        saving.save(request(2));
        int count = 0;
        std::map<std::string, int> syncs_after_failure;
        reached = false;
        set_file_hook([&](const FileOp& op) {
          const bool fails = for_ever ? count >= n : count == n;
          ++count;
          reached = reached || fails;
          const bool file_sync = std::string(op.name) == "sync";
          if (file_sync && syncs_after_failure.contains(op.path)) ++syncs_after_failure[op.path];
          if (file_sync && fails) syncs_after_failure.emplace(op.path, 0);
          return fails ? error : 0;
        });
        const auto saved = saving.try_save(request(3));
        set_file_hook({});
        for (const auto& [path, again] : syncs_after_failure) EXPECT_EQ(again, 0) << path;
        const auto newest = store(run.path()).recover();
        ASSERT_TRUE(newest.has_value());
        EXPECT_GE(newest->step, saved ? 3 : 2) << n;
        expect_whole(*newest);
        ASSERT_TRUE(saving.try_save(request(4)).has_value()) << n;
        EXPECT_EQ(store(run.path()).recover()->step, 4) << n;
      }
    }
  }
}

TEST_F(CheckpointTest, ADiskThatStaysFullEndsTheRunAfterThreeSaves) {
  CheckpointStore saving = store(run_.path());
  saving.save(request(1));
  set_file_hook([](const FileOp& op) { return std::string(op.name) == "write" ? ENOSPC : 0; });
  EXPECT_FALSE(saving.try_save(request(2)).has_value());
  EXPECT_FALSE(saving.try_save(request(3)).has_value());
  try {
    saving.try_save(request(4));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::disk);
    EXPECT_NE(std::string(error.what()).find("No space left"), std::string::npos) << error.what();
  }
  set_file_hook({});
  EXPECT_EQ(store(run_.path()).recover()->step, 1);
}

TEST_F(CheckpointTest, InterruptedCallsAreRepeated) {
  int count = 0;
  set_file_hook([&](const FileOp& op) {
    return std::string(op.name) == "write" && count++ % 2 == 0 ? EINTR : 0;
  });
  store(run_.path()).save(request(1));
  expect_whole(*store(run_.path()).recover());
}

TEST_F(CheckpointTest, EveryCutAndChangedByteIsFound) {
  CheckpointStore saving = store(run_.path());
  saving.save(request(1));
  const CheckpointInfo info = saving.save(request(2));
  std::vector<std::string> names = {"COMPLETE"};
  for (const auto& [name, file] : info.files) names.push_back(name);
  int tried = 0;
  for (const std::string& name : names) {
    const fs::path path = info.path(name);
    const std::string good = read_whole_file(path, 1 << 20);
    const auto put = [&](const std::string& bytes) {
      std::ofstream(path, std::ios::binary) << bytes;
    };
    for (size_t i = 0; i < good.size(); ++i, ++tried) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << i % 8));
      put(bad);
      EXPECT_THROW(verify_checkpoint(info.folder), Error) << name << " byte " << i;
      if (i % 7 != 0) continue;
      put(good.substr(0, i));
      EXPECT_THROW(verify_checkpoint(info.folder), Error) << name << " cut at " << i;
    }
    EXPECT_EQ(store(run_.path()).recover()->step, 1) << name;
    put(good + "x");
    EXPECT_THROW(verify_checkpoint(info.folder), Error) << name;
    fs::remove(path);
    EXPECT_EQ(store(run_.path()).recover()->step, 1) << name;
    fs::create_symlink("/dev/zero", path);
    EXPECT_EQ(store(run_.path()).recover()->step, 1) << name;
    fs::remove(path);
    put(good);
  }
  EXPECT_EQ(store(run_.path()).recover()->step, 2);
  EXPECT_GT(tried, 6000);
}

TEST_F(CheckpointTest, DamageIsNamedWithItsCost) {
  CheckpointStore saving = store(run_.path());
  saving.save(request(100));
  const CheckpointInfo newest = saving.save(request(200));
  std::ofstream(newest.path("optimizer.safetensors"), std::ios::app) << "!";
  set_log_level(0);
  testing::internal::CaptureStderr();
  EXPECT_EQ(store(run_.path()).recover()->step, 100);
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("optimizer.safetensors: 3001 bytes, COMPLETE says 3000"), std::string::npos)
      << text;
  EXPECT_NE(text.find("costs 100 steps"), std::string::npos) << text;
  // The damaged one keeps its name; the step is saved beside it.
  CheckpointStore next = store(run_.path());
  next.recover();
  EXPECT_EQ(next.save(request(200)).folder.filename(), "checkpoint-000200-g3");
  EXPECT_EQ(store(run_.path()).recover()->generation, 3);
}

TEST_F(CheckpointTest, OldOnesStayUntilEnoughNewOnesVerify) {
  CheckpointStore first = store(run_.path(), 2);
  for (int64_t step = 1; step <= 2; ++step) first.save(request(step));
  std::ofstream(run_.path() / "checkpoint-000002" / "optimizer.safetensors") << "damaged";
  // A new process does not know that 2 is damaged until it looks.
  CheckpointStore second = store(run_.path(), 2);
  second.save(request(3));
  EXPECT_TRUE(fs::exists(run_.path() / "checkpoint-000001"));
  second.save(request(4));
  EXPECT_FALSE(fs::exists(run_.path() / "checkpoint-000001"));
}

TEST_F(CheckpointTest, OtherRunsAndUnknownNamesAreLeftAlone) {
  CheckpointStore(run_.path(), "ffffffffffffffffffffffffffffffff", {}).save(request(900));
  fs::create_directories(run_.path() / "checkpoint-mine");
  fs::create_directories(run_.path() / ".hidden");
  CheckpointStore saving = store(run_.path(), 1);
  EXPECT_FALSE(saving.recover().has_value());
  for (int64_t step = 1; step <= 3; ++step) saving.save(request(step));
  EXPECT_EQ(store(run_.path()).recover()->step, 3);
  EXPECT_TRUE(fs::exists(run_.path() / "checkpoint-000900"));
  EXPECT_TRUE(fs::exists(run_.path() / "checkpoint-mine"));
  EXPECT_TRUE(fs::exists(run_.path() / ".hidden"));
}

TEST_F(CheckpointTest, NonFiniteNumbersNeverBecomeACheckpoint) {
  CheckpointStore saving = store(run_.path());
  saving.save(request(1));
  CheckpointRequest bad = request(2);
  bad.non_finite = 3;
  try {
    saving.try_save(bad);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::diverged);
  }
  EXPECT_TRUE(fs::exists(run_.path() / ".bad-step-2"));
  EXPECT_EQ(store(run_.path()).recover()->step, 1);
}

TEST_F(CheckpointTest, AnotherOwnerStopsTheSave) {
  CheckpointStore saving(run_.path(), kRunId, {}, [] { fail(Fault::disk, "taken over"); });
  EXPECT_THROW(saving.save(request(1)), Error);
  EXPECT_TRUE(names_in(run_.path()).empty());
}

TEST_F(CheckpointTest, IdentityNamesTheFieldsThatDiffer) {
  const CheckpointInfo info = store(run_.path()).save(request(1));
  check_identity(info, kIdentity);
  const Identity other = {{"train.batch_size", "8"}, {"model", "abc"}, {"lora.rank", "4"}};
  try {
    check_identity(info, other);
    FAIL();
  } catch (const Error& error) {
    const std::string what = error.what();
    EXPECT_NE(what.find("train.batch_size: 4 in the checkpoint, 8 now"), std::string::npos) << what;
    EXPECT_NE(what.find("lora.rank: nothing in the checkpoint, 4 now"), std::string::npos) << what;
    EXPECT_EQ(what.find("model"), what.npos) << what;
    EXPECT_EQ(error.fault(), Fault::usage);
  }
  check_identity(info, other, {.allowed = {"train.batch_size", "lora.rank"}});
  // What changes no result is only told, also where the checkpoint says nothing of it.
  EXPECT_EQ(check_identity(info, other, {.logged = {"train.batch_size", "lora.rank"}}),
            std::vector<std::string>{"train.batch_size is 8, was 4: the results are the same"});
  // An option that there was not yet is no difference where nobody gives it.
  EXPECT_TRUE(check_identity(info, {{"train.batch_size", "4"}, {"model", "abc"}, {"new", "0"}},
                             {.unset = {"train.batch_size", "new"}})
                  .empty());
  EXPECT_THROW(check_identity(info, other, {.unset = {"train.batch_size", "lora.rank"}}), Error);
  // A field that the checkpoint is too old for is told; one that it has is compared.
  const auto notes = check_identity(
      info, other, {.allowed = {"train.batch_size"}, .newer = {"lora.rank", "model"}});
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_NE(notes[0].find("older than the field lora.rank"), std::string::npos) << notes[0];
  EXPECT_THROW(check_identity(info, other, {.newer = {"train.batch_size", "lora.rank"}}), Error);
  const auto judged =
      check_identity(info, other, {.judged = {"train.batch_size"}, .newer = {"lora.rank"}});
  ASSERT_EQ(judged.size(), 2u);
  EXPECT_NE(judged[1].find("is 8, was 4: earlier evaluations"), std::string::npos) << judged[1];
}

TEST_F(CheckpointTest, NamesOfFilesStayInTheFolder) {
  for (const char* name : {"../x", "/etc/x", "a/b/c", "", ".hidden", "a/", "COMPLETE", "a/../b"}) {
    CheckpointRequest r = request(1);
    r.write = [&](CheckpointWriter& writer) { writer.add_file(name, "x"); };
    EXPECT_THROW(store(run_.path()).save(r), Error) << name;
  }
}

}  // namespace
}  // namespace mullion
