// The order in which samples are seen, of texts and of images: position p of a training is place
// p % size of epoch p / size, and each epoch is a permutation that (seed, epoch) decides. Several
// processes take the positions of one order in turn, so that their number changes no epoch.
#pragma once
#include <cstdint>
#include <vector>

namespace mullion {

// How a permutation's numbers are drawn. Runs of either kind go on with the rows they began with.
enum class OrderDraw : uint8_t {
  words,   // 64 bits each, of any number of samples: images
  bounded  // 32 bits each, of fewer than 2^32 - 1: rows of text
};

// The permutation of [0, size) of an epoch (Fisher and Yates).
std::vector<int64_t> epoch_order(int64_t size, uint64_t seed, int64_t epoch,
                                 OrderDraw draw = OrderDraw::words);

struct OrderOptions {
  int64_t size = 0;
  uint64_t seed = 0;
  bool shuffle = true;  // else every epoch is 0, 1, ...
  OrderDraw draw = OrderDraw::words;
  int64_t rank = 0,
          world = 1;  // this process among all: it takes positions rank, rank + world, ...
  // Where given, each `window` samples of an epoch are sorted by these lengths and then given out
  // in chunks of `chunk` in a random order: rows of a batch are then about as long as each other.
  std::vector<int64_t> lengths = {};
  int64_t window = 0, chunk = 1;
};

class SampleOrder {
 public:
  explicit SampleOrder(OrderOptions options);
  // The sample that this process sees at its own position p.
  int64_t at(int64_t position);
  int64_t epoch(int64_t position) const;  // of that position

 private:
  void sort_windows();

  OrderOptions options_;
  int64_t epoch_ = -1;
  std::vector<int64_t> permutation_;  // of epoch_
};

}  // namespace mullion
