// Power cuts: records every operation of four saves, builds the states that a disk may be in after
// a cut at any point, and lets recovery loose on each. Data that was not synced may be there, gone
// or torn; folder changes survive in order up to some point no earlier than the last synced one.
// Two protocols known to be wrong (files never synced, folders never synced) must lose steps here:
// they show that the explorer would notice.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <memory>

#include "apps/program/log.h"
#include "apps/run/run_checkpoint.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/file_ops.h"
#include "tests/apps/temporary_run.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::TemporaryRun;

const char kRunId[] = "0123456789abcdef0123456789abcdef";

struct RecordedOp {
  std::string name, path, target, bytes;  // paths relative to the run
  uint64_t offset = 0;
};

struct Recording {
  std::vector<RecordedOp> ops;
  // acknowledged[i]: save i + 1 had returned after so many operations.
  std::vector<size_t> acknowledged;
};

CheckpointStore store(const fs::path& run) { return CheckpointStore(run, kRunId, {.keep = 1}); }

std::string content_of(int64_t step) { return std::string(64, static_cast<char>('0' + step)); }

Recording record_saves(int count) {
  TemporaryRun run;
  Recording recording;
  CheckpointStore saving = store(run.path());
  set_file_hook([&](const FileOp& op) {
    const auto* bytes = reinterpret_cast<const char*>(op.bytes.data());
    const std::string name = op.name;
    const auto relative = [&](const fs::path& path) {
      return path.is_absolute() ? path.lexically_relative(run.path()).string() : path.string();
    };
    recording.ops.push_back(
        {name, relative(op.path), relative(op.target), {bytes, op.bytes.size()}, op.offset});
    return 0;
  });
  for (int64_t step = 1; step <= count; ++step) {
    CheckpointRequest request;
    request.step = step;
    request.write = [&](CheckpointWriter& writer) {
      writer.add_file("state.json", content_of(step));
      writer.add_folder("adapter", [&](const fs::path& folder) {
        write_whole_file(folder / "weights", content_of(step));
      });
    };
    saving.save(request);
    recording.acknowledged.push_back(recording.ops.size());
  }
  set_file_hook({});
  return recording;
}

// A disk: what each name is, and for each file what is certain and what is only cached.
struct Inode {
  std::string synced, cached;
};
struct Entry {
  bool folder = false;
  std::string link;
  std::shared_ptr<Inode> file;
};
using Tree = std::map<std::string, Entry>;

void move_tree(Tree& tree, const std::string& from, const std::string& to) {
  Tree moved;
  for (auto& [name, entry] : tree) {
    if (name == from || name.starts_with(from + "/")) {
      moved[to + name.substr(from.size())] = entry;
    } else if (!moved.contains(name) && name != to) {
      moved[name] = entry;
    }
  }
  tree = moved;
}

bool changes_folder(const RecordedOp& op) {
  return op.name == "create" || op.name == "mkdir" || op.name == "rename" || op.name == "unlink" ||
         op.name == "rmdir" || op.name == "link";
}

void apply(Tree& tree, const RecordedOp& op, const std::shared_ptr<Inode>& inode) {
  if (op.name == "create") tree[op.path] = {false, "", inode};
  if (op.name == "mkdir") tree[op.path] = {true, "", nullptr};
  if (op.name == "link") tree[op.path] = {false, op.target, nullptr};
  if (op.name == "unlink" || op.name == "rmdir") tree.erase(op.path);
  if (op.name == "rename") move_tree(tree, op.path, op.target);
}

enum class Unsynced { there, gone, torn };

void materialise(const Tree& tree, const fs::path& root, Unsynced unsynced) {
  for (const auto& [name, entry] : tree) {  // a folder sorts before what is in it
    const fs::path path = root / name;
    if (entry.folder) {
      fs::create_directories(path);
    } else if (!entry.link.empty()) {
      fs::create_symlink(entry.link, path);
    } else {
      std::string bytes = entry.file->cached;
      if (unsynced == Unsynced::gone) bytes = entry.file->synced;
      if (unsynced == Unsynced::torn && entry.file->synced != bytes) {
        bytes = bytes.substr(0, bytes.size() / 2) + std::string(bytes.size() / 4, '\0');
      }
      std::ofstream(path, std::ios::binary) << bytes;
    }
  }
}

struct Verdict {
  int states = 0, lost = 0, broken = 0;
};

// Cuts after n operations, with the durable prefixes of folder changes: every `stride`-th of them.
Verdict explore(const Recording& recording, bool files_sync, bool folders_sync, size_t stride) {
  Verdict verdict;
  std::vector<std::shared_ptr<Inode>> inodes(recording.ops.size());
  Tree seen;           // as the running program sees it
  size_t durable = 0;  // folder changes before this operation are certain
  std::vector<size_t> folder_changes;
  for (size_t n = 0; n < recording.ops.size(); ++n) {
    const RecordedOp& op = recording.ops[n];
    if (changes_folder(op)) {
      if (op.name == "create") inodes[n] = std::make_shared<Inode>();
      apply(seen, op, inodes[n]);
      folder_changes.push_back(n);
    } else if (op.name == "write") {
      std::string& cached = seen.at(op.path).file->cached;
      cached.resize(std::max(cached.size(), op.offset + op.bytes.size()));
      cached.replace(op.offset, op.bytes.size(), op.bytes);
    } else if (op.name == "sync" && files_sync) {
      seen.at(op.path).file->synced = seen.at(op.path).file->cached;
    } else if (op.name == "sync folder" && folders_sync) {
      durable = folder_changes.size();
    } else {
      continue;  // the same states as before
    }
    int64_t promised = 0;
    while (promised < static_cast<int64_t>(recording.acknowledged.size()) &&
           recording.acknowledged[promised] <= n + 1) {
      ++promised;
    }
    Tree tree;
    for (size_t k = 0; k <= folder_changes.size(); ++k) {
      if (k > 0) apply(tree, recording.ops[folder_changes[k - 1]], inodes[folder_changes[k - 1]]);
      if (k < durable || (k + n) % stride != 0) continue;
      for (const Unsynced unsynced : {Unsynced::there, Unsynced::gone, Unsynced::torn}) {
        TemporaryRun run;
        materialise(tree, run.path(), unsynced);
        ++verdict.states;
        const auto found = store(run.path()).recover();
        const int64_t step = found ? found->step : 0;
        verdict.lost += step < promised ? 1 : 0;
        if (found && (found->read("state.json") != content_of(step) ||
                      found->read("adapter/weights") != content_of(step))) {
          ++verdict.broken;
        }
      }
    }
  }
  return verdict;
}

TEST(CrashStates, NoAcknowledgedStepIsLostAndWrongProtocolsAreCaught) {
  set_log_level(-2);
  const Recording recording = record_saves(4);
  const Verdict right = explore(recording, true, true, 1);
  EXPECT_EQ(right.lost, 0);
  EXPECT_EQ(right.broken, 0);
  EXPECT_GT(right.states, 500);
  const Verdict no_file_sync = explore(recording, false, true, 5);
  EXPECT_GT(no_file_sync.lost, 0);
  EXPECT_EQ(no_file_sync.broken, 0);
  const Verdict no_folder_sync = explore(recording, true, false, 5);
  EXPECT_GT(no_folder_sync.lost, 0);
  EXPECT_EQ(no_folder_sync.broken, 0);
  const Verdict none = explore(recording, false, false, 5);
  EXPECT_GT(none.lost, 0);
  set_log_level(0);
  std::printf("%d states; lost without syncs of files %d, of folders %d\n", right.states,
              no_file_sync.lost, no_folder_sync.lost);
}

}  // namespace
}  // namespace mullion
