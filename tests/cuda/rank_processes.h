// Ranks as processes of this machine, each with a device of its own, for the tests of collectives
// between devices. The calling process must not have used the device: a driver does not outlive a
// fork. On the emulator there are as many devices as are asked for.
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

inline int devices_for_ranks() {
#ifdef MULLION_SIMT
  return 4;
#else
  return status_of(in_process([] { return device_count(DeviceType::cuda); }));
#endif
}

struct RankOfTest {
  std::shared_ptr<Communicator> host;   // by sockets
  std::unique_ptr<Communicator> ranks;  // by the devices' own collectives
  Device device;
};

// Starts n ranks; `body` makes its checks in each. `share`: all on device 0.
inline std::vector<pid_t> start_ranks(int n, const std::function<void(RankOfTest&)>& body,
                                      double peer_seconds = 60, bool share = false) {
  static int groups = 0;
  const std::string address = concat("unix:mullion-test-ranks-", ::getpid(), "-", ++groups);
  std::vector<pid_t> processes;
  for (int rank = 0; rank < n; ++rank)
    processes.push_back(in_process([&, rank] {
#ifdef MULLION_SIMT
      simt::device_model().devices = n;
#endif
      RankOfTest mine;
      mine.host = make_communicator(connect_sockets({.rank = rank,
                                                     .size = n,
                                                     .address = address,
                                                     .key = "test",
                                                     .rendezvous_seconds = 60,
                                                     .peer_seconds = peer_seconds}));
      mine.device = {DeviceType::cuda, share ? 0 : rank};
      kernels(mine.device);
      mine.ranks = collectives_of(DeviceType::cuda).make(mine.host, mine.device.index);
      body(mine);
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
