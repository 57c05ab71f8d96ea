// A Fisher-Yates shuffle an epoch, kept until another is asked for; windows of like lengths.
#include "data/order.h"

#include <algorithm>
#include <numeric>

#include "data/dataset.h"
#include "tensor/check.h"

namespace mullion {

std::vector<int64_t> epoch_order(int64_t size, uint64_t seed, int64_t epoch, OrderDraw draw) {
  std::vector<int64_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), int64_t{0});
  CHECK(draw == OrderDraw::words || size < int64_t{UINT32_MAX}, size,
        " rows are more than can be shuffled");
  Philox random = SampleKey{seed, epoch, 0}.random(Purpose::order);
  for (size_t i = order.size(); i > 1; --i) {
    if (draw == OrderDraw::bounded) {
      std::swap(order[i - 1], order[random.below(static_cast<uint32_t>(i))]);
    } else {
      const uint64_t wide = uint64_t{random.next()} << 32 | random.next();
      std::swap(order[i - 1], order[wide % i]);
    }
  }
  return order;
}

SampleOrder::SampleOrder(OrderOptions options) : options_(std::move(options)) {
  CHECK(options_.size > 0, "an order of ", options_.size, " samples");
  CHECK(options_.rank >= 0 && options_.rank < options_.world, "rank ", options_.rank, " of ",
        options_.world);
  CHECK(options_.lengths.empty() || std::ssize(options_.lengths) == options_.size,
        options_.lengths.size(), " lengths of ", options_.size, " samples");
}

int64_t SampleOrder::epoch(int64_t position) const {
  return (position * options_.world + options_.rank) / options_.size;
}

int64_t SampleOrder::at(int64_t position) {
  const int64_t place = (position * options_.world + options_.rank) % options_.size;
  if (!options_.shuffle) return place;
  if (epoch(position) != epoch_) {
    epoch_ = epoch(position);
    permutation_ = epoch_order(options_.size, options_.seed, epoch_, options_.draw);
    if (options_.window > 0 && !options_.lengths.empty()) sort_windows();
  }
  return permutation_[static_cast<size_t>(place)];
}

void SampleOrder::sort_windows() {
  const int64_t chunk = std::max<int64_t>(1, options_.chunk);
  Philox random = SampleKey{options_.seed, epoch_, 1}.random(Purpose::order);
  const auto length = [&](int64_t sample) { return options_.lengths[static_cast<size_t>(sample)]; };
  for (int64_t begin = 0; begin < options_.size; begin += options_.window) {
    const int64_t end = std::min(options_.size, begin + options_.window);
    const auto first = permutation_.begin() + begin, last = permutation_.begin() + end;
    std::stable_sort(first, last, [&](int64_t a, int64_t b) { return length(a) < length(b); });
    // Whole chunks change places; what is left over stays at the end.
    for (int64_t i = (end - begin) / chunk; i > 1; --i) {
      const int64_t j = random.below(static_cast<uint32_t>(i));
      if (j != i - 1)
        std::swap_ranges(first + j * chunk, first + (j + 1) * chunk, first + (i - 1) * chunk);
    }
  }
}

}  // namespace mullion
