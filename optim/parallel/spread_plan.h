// What --shard full (full_shard.h) asks of the ranks, takes of their memory and sends, by the sizes
// of a model's weights alone: said of a training before it begins, and by FullShard of its own.
#pragma once
#include <cstdint>
#include <vector>

#include "tensor/storage.h"

namespace mullion {

struct SpreadUnit {
  int64_t frozen = 0;  // bytes of its weights, each tensor up to a multiple of kAlign
  std::vector<int64_t> trained = {};  // of each tensor, the same
  int64_t trained_bytes() const;
  static constexpr int64_t kAlign = 64;
  static constexpr int64_t padded(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }
};

// Error(usage) where the passes of a step are no multiple of the groups of `ranks_a_pass` ranks
// that make them: each gather needs all ranks.
void check_equal_passes(int64_t passes, int64_t groups, int64_t ranks_a_pass);

struct SpreadPlan {
  int64_t ranks = 1, ranks_a_pass = 1;  // as StepRanks has them
  int64_t passes = 1;                   // of a step, on all ranks together
  std::vector<SpreadUnit> units;        // in forward order; the last one: what belongs to no unit
  // Whether sums of gradients travel while the next unit computes.
  bool overlap = true;
  // Whether the backward pass holds the weights of the last one to its end.
  bool rest_stays = false;
  DeviceType device = DeviceType::cpu;  // of whose allocator blocks are (tensor/allocation.h)

  // Error(usage) as check_equal_passes(), and where a rank would have no part of what is trained.
  void check() const;
  // Of so many bytes, those that each rank keeps.
  int64_t part(int64_t bytes) const;
  // The most that weights, gradients and `states` (moments, an average: of each trained element one
  // f32 each) take of a rank within a step whose units are recomputed; all else is activations.
  int64_t peak_bytes(int64_t states) const;
  // What a rank sends in such a step: gathers and sums of gradients.
  int64_t sent_bytes() const;

 private:
  int64_t own_passes() const;
  // What stays between steps: this rank's part.
  int64_t kept_bytes(int64_t states) const;
  int64_t whole(int64_t bytes) const;
  int64_t weights(const SpreadUnit& unit) const;
  int64_t gradients(const SpreadUnit& unit) const;
  int64_t travels(const SpreadUnit& unit) const;
  int64_t pieces(const SpreadUnit& unit) const;
  int64_t sum_bytes(const SpreadUnit& unit) const;
};

}  // namespace mullion
