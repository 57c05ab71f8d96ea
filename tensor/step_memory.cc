// Lives noted in the rehearsal, the largest laid out first; the same answers while recording.
#include "tensor/step_memory.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "tensor/check.h"

namespace mullion {
namespace {

constexpr int64_t kUnit = 256;  // what a device's allocations are aligned to
constexpr int64_t kForEver = std::numeric_limits<int64_t>::max();

thread_local std::shared_ptr<StepMemory> current;
thread_local StepMemory* being_recorded = nullptr;

}  // namespace

StepMemory::Scope::Scope(std::shared_ptr<StepMemory> memory, Phase phase) {
  DCHECK(!current);
  memory->phase_ = phase;
  memory->clock_ = 0;
  memory->first_ = memory->next_;
  memory->differs_ = false;
  if (phase == Phase::rehearsal) memory->lives_.clear();
  if (phase == Phase::recording) being_recorded = memory.get();
  current = std::move(memory);
}

StepMemory::Scope::~Scope() {
  current = nullptr;
  being_recorded = nullptr;
}

std::shared_ptr<StepMemory> StepMemory::of_scope(Device device) {
  return current && current->device_ == device ? current : nullptr;
}
StepMemory* StepMemory::recording() { return being_recorded; }

int64_t StepMemory::begin_life(int64_t bytes) {
  const int64_t number = next_++, now = clock_++;
  if (phase_ == Phase::rehearsal) {
    lives_.push_back({bytes, now, kForEver, 0});
    return number;
  }
  const auto index = static_cast<size_t>(number - first_);
  const bool as_rehearsed =
      index < lives_.size() && lives_[index].bytes == bytes && lives_[index].begin == now;
  differs_ = differs_ || !as_rehearsed;
  check_recording();
  return number;
}

std::byte* StepMemory::place(int64_t number) const {
  if (phase_ == Phase::rehearsal) return nullptr;
  return block_->data() + lives_[static_cast<size_t>(number - first_)].offset;
}

// Called by destructors, so it only notes what is wrong.
void StepMemory::end_life(int64_t number) {
  if (current.get() != this || number < first_) return;  // it has outlived its scope
  const int64_t now = clock_++;
  Life& life = lives_[static_cast<size_t>(number - first_)];
  if (phase_ == Phase::rehearsal)
    life.end = now;
  else
    differs_ = differs_ || life.end != now;
}

void StepMemory::check_recording() const {
  CHECK(!differs_, "the recorded step asked for memory otherwise than its rehearsal, at request ",
        next_ - first_, " of ", lives_.size());
}

// The largest first, each at the lowest place that is free for as long as it lives.
void StepMemory::lay_out() {
  std::vector<Life*> by_size, by_offset;
  for (Life& life : lives_) by_size.push_back(&life);
  std::stable_sort(by_size.begin(), by_size.end(),
                   [](const Life* a, const Life* b) { return a->bytes > b->bytes; });
  const auto room = [](const Life& life) { return (life.bytes + kUnit - 1) / kUnit * kUnit; };
  int64_t total = 0;
  for (Life* life : by_size) {
    life->offset = 0;
    for (const Life* other : by_offset) {
      if (!together(*life, *other)) continue;
      if (other->offset - life->offset >= room(*life)) break;
      life->offset = std::max(life->offset, other->offset + room(*other));
    }
    by_offset.insert(
        std::upper_bound(by_offset.begin(), by_offset.end(), life,
                         [](const Life* a, const Life* b) { return a->offset < b->offset; }),
        life);
    total = std::max(total, life->offset + room(*life));
  }
  block_ = std::make_unique<Storage>(total, device_);
}

void StepMemory::keep(const std::shared_ptr<Storage>& storage) {
  if (storage->device() == device_ && !storage->is_placed_in(*this))
    kept_.emplace(storage.get(), storage);
}

}  // namespace mullion
