// Collectives over threads of one process: each against what its definition says, for all types and
// for sizes that the number of ranks does not divide; and over sockets, of processes.
#include "tensor/collective.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <mutex>
#include <thread>

#include "tensor/cpu/socket_transport.h"
#include "tensor/exchange_collective.h"
#include "tensor/local_collective.h"

namespace mullion {
namespace {

// Element i of rank r; whole numbers that bf16 holds, and so do their sums.
double element(int64_t r, int64_t i) { return static_cast<double>((r + 1) * (i % 5) - 3); }

Tensor tensor_of_rank(int64_t rank, int64_t n, DType type) {
  std::vector<double> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(element(rank, i));
  if (type == DType::f64) return Tensor::from(values, {n});
  if (is_float(type)) return raw::cast(Tensor::from(values, {n}), type);
  if (type == DType::i64)
    return Tensor::from(std::vector<int64_t>(values.begin(), values.end()), {n});
  return Tensor::from(std::vector<int32_t>(values.begin(), values.end()), {n});
}

std::vector<double> values_of(const Tensor& x) { return x.to_vector<double>(); }

constexpr DType kTypes[] = {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64};

TEST(Collective, AllReduceOfAllTypesAndSizes) {
  for (const int64_t ranks : {1, 2, 3, 4})
    run_ranks(ranks, [&](Communicator& group) {
      for (const DType type : kTypes)
        for (const int64_t n : {0, 1, 2, 5, 1000, 4099})
          for (const Reduce how : {Reduce::sum, Reduce::max, Reduce::min}) {
            Tensor x = tensor_of_rank(group.rank(), n, type);
            group.all_reduce(x, how);
            std::vector<double> expected;
            for (int64_t i = 0; i < n; ++i) {
              double value = element(0, i);
              for (int64_t r = 1; r < ranks; ++r) {
                const double other = element(r, i);
                value = how == Reduce::sum   ? value + other
                        : how == Reduce::max ? std::max(value, other)
                                             : std::min(value, other);
              }
              expected.push_back(value);
            }
            ASSERT_EQ(values_of(x), expected) << name_of(type) << " " << n;
          }
    });
}

TEST(Collective, ScatterGatherBroadcast) {
  for (const int64_t ranks : {1, 2, 3, 4})
    run_ranks(ranks, [&](Communicator& group) {
      for (const DType type : kTypes)
        for (const int64_t n : {1, 7, 512}) {
          const Tensor whole = tensor_of_rank(group.rank(), n * ranks, type);
          Tensor part = Tensor::empty({n}, type);
          group.reduce_scatter(whole, part);
          std::vector<double> expected;
          for (int64_t i = group.rank() * n; i < (group.rank() + 1) * n; ++i) {
            double sum = 0;
            for (int64_t r = 0; r < ranks; ++r) sum += element(r, i);
            expected.push_back(sum);
          }
          ASSERT_EQ(values_of(part), expected);
          Tensor gathered = Tensor::empty({n * ranks}, type);
          group.start_all_gather(tensor_of_rank(group.rank(), n, type), gathered)->wait();
          std::vector<double> all;
          for (int64_t r = 0; r < ranks; ++r)
            for (int64_t i = 0; i < n; ++i) all.push_back(element(r, i));
          ASSERT_EQ(values_of(gathered), all);
          Tensor x = tensor_of_rank(group.rank(), n, type);
          group.broadcast(x, ranks - 1);
          ASSERT_EQ(values_of(x), values_of(tensor_of_rank(ranks - 1, n, type)));
        }
    });
}

TEST(Collective, ExchangeOfUnevenMessages) {
  run_ranks(3, [](Communicator& group) {
    // To each rank, itself included, two messages; their sizes differ by pair, some are empty.
    const auto size = [](int64_t from, int64_t to, int64_t k) { return (from * 3 + to + k) % 5; };
    std::vector<Message> sends, receives;
    for (int64_t peer = 0; peer < 3; ++peer)
      for (int64_t k = 0; k < 2; ++k) {
        const int64_t n = size(group.rank(), peer, k);
        sends.push_back(
            {Tensor::full({n}, static_cast<double>(100 * group.rank() + 10 * peer + k)), peer});
        receives.push_back({Tensor::zeros({size(peer, group.rank(), k)}), peer});
      }
    const auto pending = group.start_exchange(sends, receives);
    pending->wait();
    for (int64_t peer = 0; peer < 3; ++peer)
      for (int64_t k = 0; k < 2; ++k)
        for (const double x : values_of(receives[static_cast<size_t>(2 * peer + k)].tensor))
          ASSERT_EQ(x, static_cast<double>(100 * peer + 10 * group.rank() + k));
  });
}

TEST(Collective, SumsHaveTheSameBitsInEveryRunAndRank) {
  constexpr int64_t kSize = 10007;
  std::vector<float> seen;
  std::mutex mutex;
  for (int run = 0; run < 3; ++run)
    run_ranks(4, [&](Communicator& group) {
      std::vector<float> values;
      for (int64_t i = 0; i < kSize; ++i)
        values.push_back(std::sin(static_cast<float>(i + 7919 * group.rank())));
      Tensor x = Tensor::from(values, {kSize});
      if (run > 0) std::this_thread::sleep_for(std::chrono::milliseconds(5 * group.rank()));
      group.all_reduce(x);
      const std::lock_guard lock(mutex);
      if (seen.empty()) seen = x.to_vector<float>();
      ASSERT_EQ(x.to_vector<float>(), seen);
    });
}

TEST(Collective, SumsOfBf16AreRoundedOnce) {
  run_ranks(4, [](Communicator& group) {
    // 256 + 1 is no bf16; 256 + 4 is one.
    Tensor x = Tensor::full({1}, group.rank() == 0 ? 256 : 4.0 / 3, DType::bf16);
    group.all_reduce(x);
    ASSERT_EQ(x.item(), 260);
  });
}

TEST(Collective, SplitsByColour) {
  run_ranks(4, [](Communicator& group) {
    const auto half = group.split(group.rank() % 2);
    ASSERT_EQ(half->size(), 2);
    ASSERT_EQ(half->rank(), group.rank() / 2);
    Tensor x = Tensor::full({1}, static_cast<double>(group.rank()));
    half->all_reduce(x);
    ASSERT_EQ(x.item(), group.rank() % 2 == 0 ? 2 : 4);
  });
}

TEST(Collective, CountsWhatItSends) {
  run_ranks(4, [](Communicator& group) {
    Tensor x = Tensor::zeros({100});
    group.all_reduce(x);
    ASSERT_EQ(group.sent().reduced, 2 * 3 * 400 / 4);
    Tensor all = Tensor::empty({400});
    group.all_gather(x, all);
    ASSERT_EQ(group.sent().gathered, 3 * 400);
    group.reduce_scatter(all, x);
    ASSERT_EQ(group.sent().scattered, 3 * 400);
    group.barrier();
    ASSERT_EQ(group.sent().gathered, 3 * 400);
  });
}

TEST(Collective, TextsOfAllRanks) {
  run_ranks(3, [](Communicator& group) {
    const std::vector<std::string> mine = {"", "rank one", "two\n"};
    ASSERT_EQ(gather_texts(group, mine[static_cast<size_t>(group.rank())]), mine);
  });
}

TEST(Collective, AnErrorOfOneRankEndsAll) {
  try {
    run_ranks(3, [](Communicator& group) {
      if (group.rank() == 1) fail(Fault::bad_file, "x.bin: cut");
      group.barrier();
      FAIL() << "the others should not get here";
    });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::bad_file);
    EXPECT_STREQ(error.what(), "x.bin: cut");
  }
}

TEST(Collective, ARankThatDoesNotComeIsNamed) {
  try {
    run_ranks(
        2,
        [](Communicator& group) {
          if (group.rank() == 1) return;
          group.barrier();
        },
        0.2);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::peer_lost);
    EXPECT_NE(std::string(error.what()).find("rank 1 of 2 (node local) does not answer"),
              std::string::npos)
        << error.what();
  }
}

TEST(Collective, CallsThatDifferAreRefused) {
  EXPECT_THROW(run_ranks(2,
                         [](Communicator& group) {
                           Tensor x = Tensor::zeros({group.rank() == 0 ? 10 : 12});
                           group.all_reduce(x);
                         }),
               Error);
}

// ------------------------------------------------------------------------------- over sockets

SocketGroup socket_group(int64_t rank, int64_t size) {
  SocketGroup group;
  group.rank = rank;
  group.size = size;
  group.address = concat("unix:mullion-test-", ::getpid());
  group.key = "k";
  group.rendezvous_seconds = group.peer_seconds = 20;
  return group;
}

// Threads here as well, each with a communicator over sockets.
void over_sockets(int64_t size, const std::string& address,
                  const std::function<void(Communicator&)>& body) {
  std::vector<std::thread> threads;
  for (int64_t r = 0; r < size; ++r)
    threads.emplace_back([&, r] {
      SocketGroup group = socket_group(r, size);
      if (!address.empty()) group.address = address;
      const auto ranks = make_communicator(connect_sockets(group));
      body(*ranks);
      ranks->barrier();
    });
  for (std::thread& thread : threads) thread.join();
}

TEST(SocketTransport, LargeMessagesOnOneNodeAndOverTcp) {
  for (const std::string& address :
       {std::string(), concat("127.0.0.1:", 20000 + ::getpid() % 20000)})
    over_sockets(3, address, [](Communicator& group) {
      Tensor x = Tensor::full({1'000'003}, 1.0 + static_cast<double>(group.rank()));
      const auto first = group.start_all_reduce(x);
      Tensor y = Tensor::full({5}, static_cast<double>(group.rank()), DType::i64);
      const auto second = group.start_all_reduce(y);
      second->wait();
      first->wait();
      ASSERT_EQ(x.to_vector<float>(), std::vector<float>(1'000'003, 6));
      ASSERT_EQ(values_of(y), std::vector<double>(5, 3));
      const auto texts = gather_texts(group, group.name(group.rank()));
      ASSERT_EQ(texts[2], group.name(2));
    });
}

TEST(SocketTransport, NamesRanksThatDoNotCome) {
  SocketGroup group = socket_group(0, 3);
  group.rendezvous_seconds = 0.2;
  try {
    connect_sockets(group);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::peer_lost);
    EXPECT_NE(std::string(error.what()).find("within 0.2 s: 1, 2"), std::string::npos)
        << error.what();
  }
}

TEST(SocketTransport, ARankThatDiesIsNamedAtOnce) {
  std::string told;
  std::thread dies([] {
    const auto ranks = make_communicator(connect_sockets(socket_group(1, 2)));
    ranks->barrier();
  });
  const auto ranks = make_communicator(connect_sockets(socket_group(0, 2)));
  ranks->barrier();
  dies.join();
  try {
    ranks->barrier();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::peer_lost);
    told = error.what();
  }
  EXPECT_NE(told.find("rank 1 of 2 (node "), std::string::npos) << told;
  EXPECT_NE(told.find("is gone"), std::string::npos) << told;
}

// Who waits by other means hears of the others as well: nothing while they live, the reason of an
// end or that a connection has closed otherwise.
TEST(SocketTransport, PeersAreLookedAfterBetweenExchanges) {
  const auto told_after = [](const std::function<void(Communicator&)>& end) {
    std::thread other([&] {
      const auto ranks = make_communicator(connect_sockets(socket_group(1, 2)));
      ranks->barrier();
      std::this_thread::sleep_for(std::chrono::milliseconds(700));
      end(*ranks);
    });
    const auto ranks = make_communicator(connect_sockets(socket_group(0, 2)));
    ranks->barrier();
    std::string told;
    try {
      ranks->check_peers();
      for (int i = 0; i < 2000; ++i) {
        ranks->check_peers();
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    } catch (const Error& error) {
      told = error.what();
    }
    other.join();
    return told;
  };
  EXPECT_NE(told_after([](Communicator&) {}).find("rank 1 of 2"), std::string::npos);
  const std::string reason = told_after([](Communicator& ranks) { ranks.abandon("disk full"); });
  EXPECT_NE(reason.find("ended: disk full"), std::string::npos) << reason;
}

TEST(SocketTransport, TheReasonOfAnEndReachesTheOthers) {
  std::thread ends([] {
    const auto ranks = make_communicator(connect_sockets(socket_group(1, 2)));
    ranks->barrier();
    ranks->abandon("out of memory");
  });
  const auto ranks = make_communicator(connect_sockets(socket_group(0, 2)));
  ranks->barrier();
  std::string told;
  try {
    for (int i = 0; i < 100; ++i) ranks->barrier();
  } catch (const Error& error) {
    told = error.what();
  }
  ends.join();
  EXPECT_NE(told.find("ended: out of memory"), std::string::npos) << told;
}

// Who ends because of another is there until that one's connection is gone.
TEST(SocketTransport, WhoFollowsEndsAfterTheCause) {
  std::atomic<bool> gone = false;
  std::thread cause([&] {
    const auto ranks = make_communicator(connect_sockets(socket_group(1, 2)));
    ranks->barrier();
    ranks->abandon("out of memory");
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    gone = true;
  });
  const auto ranks = make_communicator(connect_sockets(socket_group(0, 2)));
  ranks->barrier();
  EXPECT_THROW(for (int i = 0; i < 100; ++i) ranks->barrier(), Error);
  ranks->abandon("follows");
  EXPECT_TRUE(gone);
  cause.join();
}

// A rank that cannot be one says why, and so does the first one; all that come hear it.
TEST(SocketTransport, WhoWaitsHearsWhyARankDoesNotCome) {
  for (const int64_t cannot : {0, 2}) {
    std::vector<std::string> told(3);
    std::vector<std::thread> threads;
    for (int64_t r = 0; r < 3; ++r)
      threads.emplace_back([&, r] {
        SocketGroup group = socket_group(r, 3);
        if (r == cannot) group.why_not = "no such flag:\n--lrr";
        try {
          if (!connect_sockets(group)) told[static_cast<size_t>(r)] = "said";
        } catch (const Error& error) {
          EXPECT_EQ(error.fault(), Fault::peer_lost);
          told[static_cast<size_t>(r)] = error.what();
        }
      });
    for (std::thread& thread : threads) thread.join();
    const std::string reason = concat("rank ", cannot, " of 3 (node ");
    for (int64_t r = 0; r < 3; ++r) {
      const std::string& text = told[static_cast<size_t>(r)];
      if (r == cannot) {
        EXPECT_EQ(text, "said");
        continue;
      }
      EXPECT_NE(text.find(reason), std::string::npos) << text;
      EXPECT_NE(text.find(") ended: no such flag: --lrr"), std::string::npos) << text;
    }
  }
}

}  // namespace
}  // namespace mullion
