// The merge loop of byte pair encoding, shared by both kinds of tokenizer: of all adjacent pairs
// that the vocabulary can join, join the one of lowest rank (leftmost among equals), until none
// is left. A sorted list of the first pairs and a binary heap of those that merging creates, both
// with lazy deletion, make it O(n log n) in the length of the word.
#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

namespace mullion {

struct BpeSymbol {
  int32_t id;      // -1: not in the vocabulary
  uint32_t begin;  // byte range in the word; length 0: joined into its left neighbour
  uint32_t length;
  int32_t prev, next;  // neighbours still alive; -1 at the ends
};

struct BpeMerge {
  uint32_t rank = UINT32_MAX;  // UINT32_MAX: the pair does not join
  int32_t id = -1;
};

class BpeMerger {
 public:
  // The symbols of the word, in order; prev and next are filled in by run().
  std::vector<BpeSymbol>& symbols() { return symbols_; }

  // `find(left, right)` returns the BpeMerge of two neighbours. Afterwards the symbols of
  // non-zero length are the result.
  template <typename Find>
  void run(Find find) {
    const auto n = static_cast<int32_t>(symbols_.size());
    first_.clear();
    heap_.clear();
    for (int32_t i = 0; i < n; ++i) {
      symbols_[i].prev = i - 1;
      symbols_[i].next = i + 1 < n ? i + 1 : -1;
      if (i > 0) propose(find, i - 1, i, first_);
    }
    std::sort(first_.begin(), first_.end(), std::less<>());
    for (size_t taken = 0; taken < first_.size() || !heap_.empty();) {
      if (heap_.empty() || (taken < first_.size() && first_[taken] < heap_.front())) {
        join(find, first_[taken++]);
        continue;
      }
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      Candidate best = heap_.back();
      heap_.pop_back();
      join(find, best);
    }
  }

 private:
  struct Candidate {
    uint64_t key;  // rank, then position: what is joined first
    int32_t right, id;
    uint32_t length;  // of both together, which shows whether either has changed since
    bool operator<(const Candidate& other) const { return key < other.key; }
    bool operator>(const Candidate& other) const { return key > other.key; }
  };

  template <typename Find>
  bool propose(Find& find, int32_t left, int32_t right, std::vector<Candidate>& list) {
    BpeMerge merge = find(symbols_[left], symbols_[right]);
    if (merge.rank == UINT32_MAX) return false;
    uint64_t key = uint64_t{merge.rank} << 32 | static_cast<uint32_t>(left);
    list.push_back({key, right, merge.id, symbols_[left].length + symbols_[right].length});
    return true;
  }

  template <typename Find>
  void join(Find& find, const Candidate& best) {
    auto left_index = static_cast<int32_t>(best.key & UINT32_MAX);
    BpeSymbol& left = symbols_[left_index];
    BpeSymbol& right = symbols_[best.right];
    if (left.length == 0 || right.length == 0 || left.length + right.length != best.length) return;
    left.id = best.id;
    left.length = best.length;
    left.next = right.next;
    right.length = 0;
    auto push = [&](int32_t from, int32_t to) {
      if (!propose(find, from, to, heap_)) return;
      std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    };
    if (left.next >= 0) {
      symbols_[left.next].prev = left_index;
      push(left_index, left.next);
    }
    if (left.prev >= 0) push(left.prev, left_index);
  }

  std::vector<BpeSymbol> symbols_;
  std::vector<Candidate> first_, heap_;
};

}  // namespace mullion
