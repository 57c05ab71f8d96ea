// Non-blocking requests tested in turn, with looks at who lives, so that a lost rank ends the wait.
#include "tensor/cpu/mpi_collective.h"

#include "tensor/check.h"

#ifdef MULLION_HAVE_MPI
#define OMPI_SKIP_MPICXX  // the old C++ interface, of a library of its own
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <span>
#include <string>
#include <thread>
#include <vector>
#endif

namespace mullion {

#ifndef MULLION_HAVE_MPI

bool has_mpi() { return false; }

std::unique_ptr<Transport> connect_mpi(double) {
  throw Error(
      "this build has no MPI", Fault::usage,
      "install libopenmpi-dev and configure again (-DMULLION_MPI=ON insists on it), or start "
      "the ranks by torchrun --no-python or srun");
}

#else

namespace {
using Clock = std::chrono::steady_clock;
constexpr int kData = 1, kEnds = 2, kAlive = 3;            // tags
constexpr int64_t kLargestPiece = 1 << 30;                 // bytes; MPI counts in int
constexpr auto kLooking = std::chrono::microseconds(200);  // before others may compute

class MpiTransport : public Transport {
 public:
  explicit MpiTransport(double peer_seconds) : peer_seconds_(peer_seconds) {
    int provided = 0;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
    CHECK(provided >= MPI_THREAD_SERIALIZED,
          "MPI: calls of more than one thread are not supported");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    constexpr int kName = MPI_MAX_PROCESSOR_NAME;
    std::vector<char> mine(kName, '\0'), all(static_cast<size_t>(size_) * kName);
    int length = 0;
    MPI_Get_processor_name(mine.data(), &length);
    check(MPI_Allgather(mine.data(), kName, MPI_CHAR, all.data(), kName, MPI_CHAR, MPI_COMM_WORLD),
          "MPI_Allgather");
    heard_.resize(static_cast<size_t>(size_), Clock::now());
    for (int r = 0; r < size_; ++r)
      nodes_.emplace_back(all.data() + static_cast<size_t>(r) * kName);
  }
  // Where an exchange has failed, MPI_Finalize would wait for who is gone.
  ~MpiTransport() override {
    if (whole_) MPI_Finalize();
  }

  int64_t rank() const override { return rank_; }
  int64_t size() const override { return size_; }
  std::string node(int64_t rank) const override { return nodes_[static_cast<size_t>(rank)]; }

  void exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives) override {
    whole_ = false;
    pieces_.clear();
    std::vector<MPI_Request> requests;
    for (const Incoming& m : receives)
      for (int64_t at = 0; at < m.bytes; at += kLargestPiece) {
        const auto count = static_cast<int>(std::min(kLargestPiece, m.bytes - at));
        pieces_.push_back({m.peer, count, true});
        requests.emplace_back();
        check(MPI_Irecv(m.data + at, count, MPI_BYTE, static_cast<int>(m.peer), kData,
                        MPI_COMM_WORLD, &requests.back()),
              "MPI_Irecv");
      }
    for (const Outgoing& m : sends)
      for (int64_t at = 0; at < m.bytes; at += kLargestPiece) {
        const auto count = static_cast<int>(std::min(kLargestPiece, m.bytes - at));
        pieces_.push_back({m.peer, count, false});
        requests.emplace_back();
        check(MPI_Isend(m.data + at, count, MPI_BYTE, static_cast<int>(m.peer), kData,
                        MPI_COMM_WORLD, &requests.back()),
              "MPI_Isend");
      }
    finish(requests);
    whole_ = true;
  }

  void keep_alive() override {
    hear_signs();
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      MPI_Request request;
      static const char sign = 0;
      MPI_Isend(&sign, 1, MPI_BYTE, r, kAlive, MPI_COMM_WORLD, &request);
      MPI_Request_free(&request);
    }
    said_ = Clock::now();
  }

  void look(std::span<const int64_t> peers) override {
    hear_signs();
    hear_ends();
    check_deadline(peers);
  }

  void abandon(const std::string& why) noexcept override {
    whole_ = false;
    try {
      reason_ = concat(name(rank_), " ended: ", why).substr(0, 4096);
      std::vector<MPI_Request> requests(static_cast<size_t>(size_), MPI_REQUEST_NULL);
      for (int r = 0; r < size_; ++r)
        if (r != rank_)
          MPI_Isend(reason_.data(), static_cast<int>(reason_.size()), MPI_BYTE, r, kEnds,
                    MPI_COMM_WORLD, &requests[static_cast<size_t>(r)]);
      const auto end = Clock::now() + std::chrono::milliseconds(500);
      int done = 0;
      while (!done && Clock::now() < end) {
        MPI_Testall(size_, requests.data(), &done, MPI_STATUSES_IGNORE);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      // Of whose end this is heard first: mpirun makes its exit code its own, and ends the others.
      if (told_) std::this_thread::sleep_for(std::chrono::seconds(5));
    } catch (...) {  // nothing more can be done
    }
  }

 private:
  struct Piece {
    int64_t peer;
    int bytes;
    bool arrives;
  };

  static void check(int code, const std::string& what) {
    if (code == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING] = {};
    int length = 0;
    MPI_Error_string(code, text, &length);
    fail(Fault::peer_lost, what, ": ", text);
  }

  // Of the ranks that live, since the last look.
  void hear_signs() {
    while (true) {
      int flag = 0;
      MPI_Status status;
      check(MPI_Iprobe(MPI_ANY_SOURCE, kAlive, MPI_COMM_WORLD, &flag, &status), "MPI_Iprobe");
      if (!flag) return;
      char sign;
      MPI_Recv(&sign, 1, MPI_BYTE, status.MPI_SOURCE, kAlive, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      heard_[static_cast<size_t>(status.MPI_SOURCE)] = Clock::now();
    }
  }

  void finish(std::vector<MPI_Request>& requests) {
    std::vector<bool> done(requests.size(), false);
    size_t left = requests.size();
    std::fill(heard_.begin(), heard_.end(), Clock::now());
    const auto begin = Clock::now();
    while (left > 0) {
      for (size_t i = 0; i < requests.size(); ++i) {
        if (done[i]) continue;
        int flag = 0;
        MPI_Status status;
        const Piece& piece = pieces_[i];
        const int code = MPI_Test(&requests[i], &flag, &status);
        if (code != MPI_SUCCESS) {
          int kind = 0;
          MPI_Error_class(code, &kind);
          CHECK_AS(Fault::usage, kind != MPI_ERR_TRUNCATE, name(piece.peer), " sent more than the ",
                   piece.bytes, " bytes that were expected: the ranks' calls differ");
          check(code, name(piece.peer));
        }
        if (!flag) continue;
        int count = piece.bytes;
        if (piece.arrives) MPI_Get_count(&status, MPI_BYTE, &count);
        CHECK_AS(Fault::usage, count == piece.bytes, name(piece.peer), " sent ", count,
                 " bytes where ", piece.bytes, " were expected: the ranks' calls differ");
        done[i] = true;
        --left;
        heard_[static_cast<size_t>(piece.peer)] = Clock::now();
      }
      // By the clock: on a busy machine MPI gives the core away in each look.
      if (left > 0 && Clock::now() - begin > kLooking) pause(done);
    }
  }

  // Throws where a rank has said that it ends.
  void hear_ends() {
    int flag = 0;
    MPI_Status status;
    check(MPI_Iprobe(MPI_ANY_SOURCE, kEnds, MPI_COMM_WORLD, &flag, &status), "MPI_Iprobe");
    if (flag) {
      int count = 0;
      MPI_Get_count(&status, MPI_BYTE, &count);
      std::string text(static_cast<size_t>(count), '\0');
      MPI_Recv(text.data(), count, MPI_BYTE, status.MPI_SOURCE, kEnds, MPI_COMM_WORLD,
               MPI_STATUS_IGNORE);
      told_ = true;
      fail(Fault::peer_lost, text);
    }
  }

  void check_deadline(std::span<const int64_t> peers) const {
    std::string silent;
    for (const int64_t peer : peers) {
      const std::chrono::duration<double> quiet = Clock::now() - heard_[static_cast<size_t>(peer)];
      if (peer == rank_ || quiet.count() < peer_seconds_) continue;
      const std::string who = name(peer);
      if (silent.find(who) == std::string::npos) silent += (silent.empty() ? "" : ", ") + who;
    }
    CHECK_AS(Fault::peer_lost, silent.empty(), silent, " does not answer: nothing in ",
             peer_seconds_, " s (--peer-timeout)");
  }

  void pause(const std::vector<bool>& done) {
    hear_signs();
    hear_ends();
    CHECK_AS(Fault::peer_lost, !stopped(), "the collective was given up");
    if (Clock::now() - said_ > std::chrono::milliseconds(500)) keep_alive();
    std::vector<int64_t> waited_for;
    for (size_t i = 0; i < done.size(); ++i)
      if (!done[i]) waited_for.push_back(pieces_[i].peer);
    check_deadline(waited_for);
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }

  double peer_seconds_;
  int rank_ = 0, size_ = 1;
  std::vector<std::string> nodes_;
  std::vector<Clock::time_point> heard_;   // by rank
  Clock::time_point said_ = Clock::now();  // that this rank lives
  std::vector<Piece> pieces_;              // of the exchange under way
  std::string reason_;
  bool whole_ = true;  // no exchange has failed
  bool told_ = false;  // a rank has said that it ends
};
}  // namespace

bool has_mpi() { return true; }

std::unique_ptr<Transport> connect_mpi(double peer_seconds) {
  return std::make_unique<MpiTransport>(peer_seconds);
}

#endif

}  // namespace mullion
