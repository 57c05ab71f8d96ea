// Ranks as processes of this machine, each with a device of its own, for the tests of collectives
// between devices. The calling process must not have used the device: a driver does not outlive a
// fork. On the emulator there are as many devices as are asked for; elsewhere a test is skipped
// with the reason where the machine has too few, or no NCCL.
#pragma once
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tensor/backend.h"
#include "tensor/check.h"
#include "tensor/cpu/socket_transport.h"
#include "tensor/device_collective.h"
#include "tensor/exchange_collective.h"
#include "tensor/parallel.h"
#include "tests/cuda/device_runs.h"
#ifdef MULLION_SIMT
#include "tensor/simt/device_model.h"
#endif

namespace mullion::test {

// Runs work in a process of its own; its value is the exit status.
inline pid_t in_process(const std::function<int()>& work) {
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  int status = 98;
  try {
    set_num_threads(1);  // those of the parent's pool are not here
    status = work();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "a rank of the test: %s\n", error.what());
  }
  std::fflush(nullptr);
  ::_exit(status);
}
inline int status_of(pid_t pid) {
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

struct DevicesForRanks {
  int count = 0;
  std::string why_not;  // empty: ranks can use them
};
inline DevicesForRanks find_devices() {
#ifdef MULLION_SIMT
  return {4, ""};
#else
  int ends[2];
  CHECK(::pipe(ends) == 0, "pipe: errno ", errno);
  const pid_t child = in_process([&] {
    std::string text = why_no_device();
    try {
      if (text.empty()) collectives_of(DeviceType::cuda).describe();
    } catch (const Error& error) {
      text = error.what();
    }
    text = concat(device_count(DeviceType::cuda), " ", text);
    return ::write(ends[1], text.data(), text.size()) == std::ssize(text) ? 0 : 1;
  });
  ::close(ends[1]);
  std::string text;
  char part[256];
  for (ssize_t n; (n = ::read(ends[0], part, sizeof part)) > 0;)
    text.append(part, static_cast<size_t>(n));
  ::close(ends[0]);
  const int status = status_of(child);
  if (status != 0) return {0, concat("the process that looks for devices ended by ", status)};
  return {std::stoi(text), text.substr(text.find(' ') + 1)};
#endif
}
inline const DevicesForRanks& devices_for_ranks() {
  static const DevicesForRanks found = find_devices();
  return found;
}

// Fixtures of tests with one rank or more, and with two or more.
class OnRanks : public testing::Test {
 protected:
  void SetUp() override {
    if (!devices_for_ranks().why_not.empty()) GTEST_SKIP() << devices_for_ranks().why_not;
  }
};
class OnTwoRanks : public OnRanks {
 protected:
  void SetUp() override {
    OnRanks::SetUp();
    if (!IsSkipped() && devices_for_ranks().count < 2)
      GTEST_SKIP() << "needs two devices, and there is one";
  }
};

struct RankOfTest {
  std::shared_ptr<Communicator> host;   // by sockets
  std::unique_ptr<Communicator> ranks;  // by the devices' own collectives
  Device device;
};

struct RankStart {
  double peer_seconds = 60;
  bool share = false;      // all on device 0
  std::string error = {};  // a rank that meets an Error with these words ends by kMetError
};
constexpr int kMetError = 97;

// Starts n ranks; `body` makes its checks in each.
inline std::vector<pid_t> start_ranks(int n, const std::function<void(RankOfTest&)>& body,
                                      const RankStart& how = {}) {
  static int groups = 0;
  const std::string address = concat("unix:mullion-test-ranks-", ::getpid(), "-", ++groups);
  std::vector<pid_t> processes;
  for (int rank = 0; rank < n; ++rank)
    processes.push_back(in_process([&, rank]() -> int {
#ifdef MULLION_SIMT
      simt::device_model().devices = n;
#endif
      RankOfTest mine;
      mine.host = make_communicator(connect_sockets({.rank = rank,
                                                     .size = n,
                                                     .address = address,
                                                     .key = "test",
                                                     .rendezvous_seconds = 60,
                                                     .peer_seconds = how.peer_seconds}));
      mine.device = {DeviceType::cuda, how.share ? 0 : rank};
      kernels(mine.device);
      try {
        mine.ranks = collectives_of(DeviceType::cuda).make(mine.host, mine.device.index);
        body(mine);
      } catch (const Error& error) {
        if (how.error.empty() || std::string(error.what()).find(how.error) == std::string::npos)
          throw;
        return kMetError;
      }
      mine.host->barrier();
      return testing::Test::HasFailure() ? 1 : 0;
    }));
  return processes;
}
inline void run_rank_processes(int n, const std::function<void(RankOfTest&)>& body) {
  const std::vector<pid_t> processes = start_ranks(n, body);
  for (size_t rank = 0; rank < processes.size(); ++rank)
    EXPECT_EQ(status_of(processes[rank]), 0) << "rank " << rank << " of " << n;
}

}  // namespace mullion::test
