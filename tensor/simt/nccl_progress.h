// What NCCL's emulation does beside the program: a thread of each communicator connects to the
// other ranks, processes of the same machine, and carries out what the streams have come to, while
// the program goes on. It knows no device memory: a batch has copies.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tensor/simt/include/nccl.h"
#include "tensor/transport.h"

namespace mullion::simt {

enum class NcclKind : unsigned char {
  all_reduce,
  reduce_scatter,
  all_gather,
  broadcast,
  send,
  receive
};

struct NcclCall {
  NcclKind kind;
  const char* name;  // "ncclAllReduce"
  const void* from;
  void* to;
  size_t count;  // as the call counts: of reduce_scatter the part's, of all_gather what is sent
  ncclDataType_t type;
  ncclRedOp_t how;
  int peer;  // or root
  size_t bytes() const;
  size_t bytes_in(int ranks) const;   // at `from`
  size_t bytes_out(int ranks) const;  // at `to`
};

// What one call, or a group of calls, asks for.
struct NcclBatch {
  std::vector<NcclCall> calls;
  std::vector<std::vector<std::byte>> inputs, results;  // by call
  std::atomic<bool> done{false};
};

class NcclProgress {
 public:
  // Begins to connect to the others, who come to the same address; state() says when all are there.
  static std::shared_ptr<NcclProgress> begin(const std::string& address, int ranks, int rank,
                                             int device);
  int ranks() const { return ranks_; }
  int rank() const { return rank_; }

  void add(std::shared_ptr<NcclBatch> batch);
  void end();    // when what has been added is done
  void abort();  // at once
  bool aborted() const { return aborted_; }
  ncclResult_t state(std::string* text = nullptr) const;  // ncclInProgress: not connected yet

 private:
  NcclProgress(int ranks, int rank, int device) : ranks_(ranks), rank_(rank), device_(device) {}
  void run(const std::string& address);
  void connect(const std::string& address);
  void carry_out(NcclBatch& batch);
  std::vector<std::byte> joined(const NcclCall& call, const std::vector<std::byte>& mine,
                                const std::vector<std::vector<std::byte>>& arrived) const;

  const int ranks_, rank_, device_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<NcclBatch>> batches_;
  std::unique_ptr<Transport> transport_;
  ncclResult_t state_ = ncclInProgress;
  std::string text_;
  bool ending_ = false;
  std::atomic<bool> aborted_{false};
};

}  // namespace mullion::simt
