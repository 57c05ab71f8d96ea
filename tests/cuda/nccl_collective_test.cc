// Collectives between devices against the host's, which tests/tensor/collective_test.cc holds to
// their definitions: all types, sizes that the ranks do not divide, groups, calls under way beside
// each other, and ranks that end. With one GPU there is a world of one, and NCCL's refusal of two
// ranks on it; the emulator has four.
#include <csignal>

#include <chrono>
#include <cmath>

#include "tests/cuda/rank_processes.h"
#ifdef MULLION_SIMT
#include "tensor/simt/fault_plan.h"
#include "tensor/simt/include/nccl.h"
#endif

namespace mullion::test {
namespace {

class NcclCollective : public OnRanks {};
class NcclRanks : public OnTwoRanks {};

std::vector<int> worlds() {
  std::vector<int> sizes;
  for (int n = 1; n <= std::min(4, devices_for_ranks().count); ++n) sizes.push_back(n);
  return sizes;
}

// Whole numbers that bf16 holds, and so do their sums.
Tensor values_of_rank(int64_t rank, int64_t n, DType type) {
  std::vector<int64_t> values;
  for (int64_t i = 0; i < n; ++i) values.push_back((rank + 1) * (i % 5) + 3);
  const Tensor x = Tensor::from(values, {n});
  return type == DType::i64 ? x : raw::cast(x, type);
}
std::vector<double> values_of(const Tensor& x) {
  return raw::to_device(x, Device{}).to_vector<double>();
}

TEST_F(NcclCollective, SumsAreThoseOfTheHost) {
  for (const int n : worlds())
    run_rank_processes(n, [](RankOfTest& r) {
      for (const DType type : {DType::f32, DType::bf16, DType::i32, DType::i64})
        for (const int64_t elements : {0, 1, 2, 5, 1000, 4099})
          for (const Reduce how : {Reduce::sum, Reduce::max, Reduce::min}) {
            Tensor expected = values_of_rank(r.ranks->rank(), elements, type);
            Tensor x = raw::to_device(expected, r.device);
            r.host->all_reduce(expected, how);
            r.ranks->all_reduce(x, how);
            ASSERT_EQ(values_of(x), values_of(expected)) << name_of(type) << " " << elements;
          }
    });
}

TEST_F(NcclCollective, ScattersGathersAndBroadcastsAsTheHost) {
  for (const int n : worlds())
    run_rank_processes(n, [n](RankOfTest& r) {
      for (const int64_t elements : {0, 1, 7, 512}) {
        for (const DType type : {DType::f32, DType::bf16, DType::i32, DType::i64}) {
          const Tensor whole = values_of_rank(r.ranks->rank(), elements * n, type);
          Tensor expected = Tensor::empty({elements}, type);
          r.host->reduce_scatter(whole, expected);
          Tensor part = Tensor::empty({elements}, type, r.device);
          r.ranks->reduce_scatter(raw::to_device(whole, r.device), part);
          ASSERT_EQ(values_of(part), values_of(expected)) << name_of(type);
        }
        for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::u8, DType::i64}) {
          const Tensor mine = values_of_rank(r.ranks->rank(), elements, type);
          Tensor expected = Tensor::empty({elements * n}, type);
          r.host->all_gather(mine, expected);
          Tensor gathered = Tensor::empty({elements * n}, type, r.device);
          r.ranks->all_gather(raw::to_device(mine, r.device), gathered);
          ASSERT_EQ(values_of(gathered), values_of(expected)) << name_of(type);
          Tensor x = raw::to_device(mine, r.device);
          r.ranks->broadcast(x, n - 1);
          ASSERT_EQ(values_of(x), values_of(values_of_rank(n - 1, elements, type)));
        }
      }
    });
}

// To each rank, itself included, two messages, whose sizes differ by pair; some are empty.
TEST_F(NcclCollective, ExchangesMessagesOfAnySizes) {
  for (const int n : worlds())
    run_rank_processes(n, [n](RankOfTest& r) {
      const int64_t rank = r.ranks->rank();
      const auto size = [](int64_t from, int64_t to, int64_t k) { return (from * 3 + to + k) % 5; };
      const auto value = [](int64_t from, int64_t to, int64_t k) {
        return static_cast<double>(100 * from + 10 * to + k);
      };
      std::vector<Message> sends, receives;
      for (int64_t peer = 0; peer < n; ++peer)
        for (int64_t k = 0; k < 2; ++k) {
          sends.push_back(
              {Tensor::full({size(rank, peer, k)}, value(rank, peer, k), DType::f32, r.device),
               peer});
          receives.push_back({Tensor::empty({size(peer, rank, k)}, DType::f32, r.device), peer});
        }
      r.ranks->start_exchange(sends, receives)->wait();
      for (int64_t peer = 0; peer < n; ++peer)
        for (int64_t k = 0; k < 2; ++k) {
          const Tensor& x = receives[static_cast<size_t>(2 * peer + k)].tensor;
          ASSERT_EQ(values_of(x),
                    std::vector<double>(static_cast<size_t>(x.numel()), value(peer, rank, k)));
        }
    });
}

// Sums that are under way beside each other and beside the computation; the ranks come at different
// times. The bits are those of the run before, on all ranks.
TEST_F(NcclCollective, SumsUnderWayHaveTheSameBitsInEveryRun) {
  for (const int n : worlds())
    run_rank_processes(n, [n](RankOfTest& r) {
      constexpr int64_t kSize = 10007;
      std::vector<float> values, sum(kSize);
      for (int64_t rank = 0; rank < n; ++rank)
        for (int64_t i = 0; i < kSize; ++i) {
          const float x = std::sin(static_cast<float>(i + 7919 * rank));
          if (rank == r.ranks->rank()) values.push_back(x);
          sum[static_cast<size_t>(i)] += x;
        }
      std::vector<float> seen;
      for (int run = 0; run < 3; ++run) {
        ::usleep(static_cast<unsigned>(3000 * r.ranks->rank() * run));
        Tensor x = Tensor::from(values, {kSize}, r.device);
        Tensor y =
            Tensor::full({3}, 1 + static_cast<double>(r.ranks->rank()), DType::f32, r.device);
        const auto first = r.ranks->start_all_reduce(x), second = r.ranks->start_all_reduce(y);
        const Tensor other = Tensor::full({100}, 2, DType::f32, r.device);
        second->wait();
        first->wait();
        const std::vector<float> now = raw::to_device(x, Device{}).to_vector<float>();
        if (run == 0) seen = now;
        ASSERT_EQ(now, seen);
        ASSERT_EQ(values_of(y), std::vector<double>(3, n * (n + 1) / 2.0));
        ASSERT_EQ(values_of(other), std::vector<double>(100, 2));
      }
      for (size_t i = 0; i < seen.size(); ++i) ASSERT_NEAR(seen[i], sum[i], 1e-6 * n);
      Tensor all = Tensor::empty({n * kSize}, DType::f32, r.device);
      r.ranks->all_gather(Tensor::from(seen, {kSize}, r.device), all);
      const std::vector<float> of_all = raw::to_device(all, Device{}).to_vector<float>();
      for (int64_t i = 0; i < n * kSize; ++i)
        ASSERT_EQ(of_all[static_cast<size_t>(i)], seen[static_cast<size_t>(i % kSize)]);
    });
}

TEST_F(NcclCollective, GroupsAndWhatLiesOnTheHost) {
  for (const int n : worlds())
    run_rank_processes(n, [n](RankOfTest& r) {
      const int64_t rank = r.ranks->rank();
      const auto half = r.ranks->split(rank % 2);
      double of_half = 0, of_all = 0;
      for (int64_t other = 0; other < n; ++other) {
        of_all += static_cast<double>(other);
        if (other % 2 == rank % 2) of_half += static_cast<double>(other);
      }
      ASSERT_EQ(half->size(), (n + 1 - rank % 2) / 2);
      Tensor x = Tensor::full({3}, static_cast<double>(rank), DType::f32, r.device);
      Tensor y = Tensor::full({3}, static_cast<double>(rank), DType::f32, r.device);
      half->all_reduce(x);
      r.ranks->all_reduce(y);
      ASSERT_EQ(values_of(x), std::vector<double>(3, of_half));
      ASSERT_EQ(values_of(y), std::vector<double>(3, of_all));
      ASSERT_EQ(half->sent().reduced, 2 * (half->size() - 1) * 12 / half->size());
      ASSERT_EQ(r.ranks->sent().reduced, 2 * (n - 1) * 12 / n);
      // Of the host, and what NCCL would not keep.
      Tensor z = Tensor::full({3}, static_cast<double>(rank));
      r.ranks->all_reduce(z);
      ASSERT_EQ(values_of(z), std::vector<double>(3, of_all));
      Tensor largest = Tensor::full({1}, rank == n - 1 ? NAN : 1, DType::f32, r.device);
      r.ranks->all_reduce(largest, Reduce::max);
      ASSERT_TRUE(std::isnan(values_of(largest)[0]));
      ASSERT_EQ(std::ssize(gather_texts(*half, "a")), half->size());
    });
}

TEST_F(NcclCollective, WhatCannotBeIsRefused) {
  run_rank_processes(1, [](RankOfTest& r) {
    const auto refused = [](const std::function<void()>& call, const std::string& words) {
      try {
        call();
        FAIL() << words;
      } catch (const Error& error) {
        EXPECT_EQ(error.fault(), Fault::usage);
        EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
      }
    };
    Tensor half = Tensor::zeros({2}, DType::f16, r.device);
    refused([&] { r.ranks->all_reduce(half); }, "elements of type f16 are not added up");
    Tensor x = Tensor::zeros({2}, DType::f32, r.device);
    refused([&] { r.ranks->broadcast(x, 1); }, "broadcast: root 1 of 1");
    const Tensor on_host = Tensor::zeros({2});
    refused([&] { r.ranks->exchange({{x, 0}}, {{on_host, 0}}); }, "of the host and of the device");
    refused([&] { r.ranks->exchange({{x, 0}}, {}); }, "to oneself is not received");
    Tensor part = Tensor::zeros({2}), part_here = Tensor::zeros({2}, DType::f32, r.device);
    for (auto& [whole, other] : {std::pair(&x, &part), std::pair(&part, &part_here)}) {
      refused([&] { r.ranks->reduce_scatter(*whole, *other); },
              "reduce_scatter: tensors of the host");
      refused([&] { r.ranks->all_gather(*whole, *other); }, "all_gather: tensors of the host");
    }
    r.ranks->all_reduce(x);  // it still works
  });
}

TEST_F(NcclCollective, TwoRanksOnOneDeviceAreRefused) {
  const auto ranks =
      start_ranks(2, [](RankOfTest&) { FAIL() << "NCCL took two ranks on one device"; },
                  {.share = true, .error = "Duplicate GPU"});
  for (const pid_t pid : ranks) EXPECT_EQ(status_of(pid), kMetError);
}

// What a rank that is left hears of the end of another one, within a time.
void expect_lost(RankOfTest& r, double seconds, const std::string& words) {
  const auto begin = std::chrono::steady_clock::now();
  try {
    Tensor x = Tensor::full({1000}, 1, DType::f32, r.device);
    r.ranks->start_all_reduce(x)->wait();
    ADD_FAILURE() << "a sum of a rank that is gone";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::peer_lost) << error.what();
    for (const std::string& part : {std::string("rank 1 of 2 (node "), words})
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(took.count(), seconds);
  // Later calls end at once, and so does the process.
  Tensor y = Tensor::full({1}, 1, DType::f32, r.device);
  EXPECT_THROW(r.ranks->all_reduce(y), Error);
  r.ranks->abandon("the test is over");
  r.ranks.reset();
  std::fflush(nullptr);
  ::_exit(testing::Test::HasFailure() ? 1 : 0);
}

TEST_F(NcclRanks, ARankThatDiesIsNamed) {
  const auto ranks = start_ranks(2, [](RankOfTest& r) {
    r.ranks->barrier();
    if (r.ranks->rank() == 1) std::raise(SIGKILL);
    expect_lost(r, 30, "is gone");
  });
  EXPECT_EQ(status_of(ranks[0]), 0);
  EXPECT_EQ(status_of(ranks[1]), -SIGKILL);
}

TEST_F(NcclRanks, ARankThatStandsStillIsNamedAfterTheDeadline) {
  const auto ranks = start_ranks(2,
                                 [](RankOfTest& r) {
                                   r.ranks->barrier();
                                   if (r.ranks->rank() == 1) std::raise(SIGSTOP);
                                   expect_lost(r, 30, "does not answer: nothing in 2 s");
                                 },
                                 {.peer_seconds = 2});
  EXPECT_EQ(status_of(ranks[0]), 0);
  ::kill(ranks[1], SIGKILL);
  status_of(ranks[1]);
}

TEST_F(NcclRanks, ARankThatComputesForLongIsWaitedFor) {
  const auto ranks = start_ranks(2,
                                 [](RankOfTest& r) {
                                   if (r.ranks->rank() == 1) ::usleep(3'500'000);
                                   Tensor x = Tensor::full({3}, 1, DType::f32, r.device);
                                   r.ranks->all_reduce(x);
                                   EXPECT_EQ(values_of(x), std::vector<double>(3, 2));
                                 },
                                 {.peer_seconds = 2});
  for (const pid_t pid : ranks) EXPECT_EQ(status_of(pid), 0);
}

TEST_F(NcclRanks, TheReasonOfAnEndReachesTheOthers) {
  const auto ranks = start_ranks(2, [](RankOfTest& r) {
    r.ranks->barrier();
    if (r.ranks->rank() == 1) {
      r.ranks->abandon("disk full");
      ::_exit(0);
    }
    expect_lost(r, 30, "ended: disk full");
  });
  for (const pid_t pid : ranks) EXPECT_EQ(status_of(pid), 0);
}

#ifdef MULLION_SIMT
TEST_F(NcclCollective, ErrorsOfNcclNameTheCallAndItsWords) {
  run_rank_processes(1, [](RankOfTest& r) {
    const auto told = [&](const char* call, ncclResult_t result) {
      simt::plan_fault(call, 1, static_cast<cudaError_t>(result));
      Tensor x = Tensor::full({3}, 1, DType::f32, r.device);
      std::string text;
      try {
        const auto ranks = collectives_of(DeviceType::cuda).make(r.host, r.device.index);
        ranks->all_reduce(x);
      } catch (const Error& error) {
        text = concat(static_cast<int>(error.fault()), " ", error.what());
      }
      simt::clear_faults();
      return text;
    };
    EXPECT_EQ(told("ncclAllReduce", ncclInvalidArgument),
              "2 NCCL: ncclAllReduce: invalid argument (run with NCCL_DEBUG=WARN for details)");
    EXPECT_EQ(told("ncclGetUniqueId", ncclSystemError),
              "6 NCCL: ncclGetUniqueId: unhandled system error (run with NCCL_DEBUG=INFO for "
              "details)");
    // Met by NCCL while the ranks wait.
    EXPECT_EQ(told("ncclCommGetAsyncError", ncclRemoteError),
              "7 NCCL: ncclCommInitRankConfig: remote process exited or there was a network error");
  });
}

TEST_F(NcclRanks, CallsThatDifferAreFound) {
  const auto ranks = start_ranks(2,
                                 [](RankOfTest& r) {
                                   const DType type =
                                       r.ranks->rank() == 0 ? DType::f32 : DType::i32;
                                   Tensor x = Tensor::full({3}, 1, type, r.device);
                                   r.ranks->all_reduce(x);
                                 },
                                 {.error = "ncclAllReduce"});
  for (const pid_t pid : ranks) EXPECT_EQ(status_of(pid), kMetError);
}

// The group is over for the calls of another communicator.
TEST_F(NcclRanks, AGroupEndsWithTheErrorOfItsCall) {
  run_rank_processes(2, [](RankOfTest& r) {
    const int64_t other = 1 - r.ranks->rank();
    const Tensor x = Tensor::full({3}, 1, DType::f32, r.device);
    const Tensor y = Tensor::empty({3}, DType::f32, r.device);
    simt::plan_fault("ncclSend", 1, static_cast<cudaError_t>(ncclInvalidUsage));
    try {
      r.ranks->exchange({{x, other}}, {{y, other}});
      ADD_FAILURE() << "sent";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("NCCL: ncclSend: invalid usage"), std::string::npos)
          << error.what();
    }
    EXPECT_EQ(simt::clear_faults(), 1);
    const auto ranks = collectives_of(DeviceType::cuda).make(r.host, r.device.index);
    Tensor sum = Tensor::full({3}, 1, DType::f32, r.device);
    ranks->all_reduce(sum);
    EXPECT_EQ(values_of(sum), std::vector<double>(3, 2));
  });
}
#endif

}  // namespace
}  // namespace mullion::test
