// A group of ranks that are threads of one process: collectives in tests, without a launcher.
//
//   run_ranks(4, [](Communicator& ranks) {
//     Tensor x = Tensor::full({3}, 1.0 + ranks.rank());
//     ranks.all_reduce(x);  // {10, 10, 10}
//   });
#pragma once
#include <functional>

#include "tensor/collective.h"

namespace mullion {

// What a message takes from one rank to another: a rank sends one byte after another at this rate,
// and each arrives `seconds` later.
struct Link {
  double seconds = 0;
  double bytes_a_second = 0;  // 0: any number at once
};

// Calls body in n threads at once and returns when all are done. An error of one rank ends the
// calls of the others with Error(peer_lost), and is thrown again here. A rank that waits longer
// than `deadline` seconds for another one gives up.
void run_ranks(int64_t n, const std::function<void(Communicator&)>& body, double deadline = 60,
               Link link = {});

}  // namespace mullion
