// Memory of a computation that is made again and again: the same requests in the same order,
// answered with the same addresses each time, which is what a recording of it needs
// (autograd/step_graph.h). Of a rehearsal, which allocates eagerly, it notes when each storage
// comes and goes; lay_out() gives each a place in one block, where those that never live together
// may overlap; in a recording the k-th storage gets the k-th place and nothing is allocated. What a
// rehearsal leaves behind (gradients) keeps its place to itself.
#pragma once
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "tensor/storage.h"

namespace mullion {

class StepMemory {
 public:
  enum class Phase { rehearsal, recording };
  explicit StepMemory(Device device) : device_(device) {}

  // Storages that this thread makes on the device while one lives belong to the memory.
  class Scope {
   public:
    Scope(std::shared_ptr<StepMemory> memory, Phase phase);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
  };

  // The block, as large as it must be. Throws Error (Fault::memory) where there is none.
  void lay_out();
  int64_t bytes() const { return block_ ? block_->bytes() : 0; }
  // Throws Error where the recording was not what had been rehearsed.
  void check_recording() const;

  // For Storage and Tensor: the memory of this thread's scope on `device`, or null.
  static std::shared_ptr<StepMemory> of_scope(Device device);
  static StepMemory* recording();
  // A request of so many bytes: its number, and its place (null in a rehearsal).
  int64_t begin_life(int64_t bytes);
  std::byte* place(int64_t number) const;
  void end_life(int64_t number);
  // A recording reads the storage, so it must stay for as long as that is repeated.
  void keep(const std::shared_ptr<Storage>& storage);
  void keep(const std::shared_ptr<const void>& what) { kept_.emplace(what.get(), what); }

 private:
  // Events of a rehearsal are counted: a storage lives from one to another, or for ever.
  struct Life {
    int64_t bytes, begin, end, offset;
  };
  static bool together(const Life& a, const Life& b) { return a.begin < b.end && b.begin < a.end; }

  Device device_;
  Phase phase_ = Phase::rehearsal;
  std::vector<Life> lives_;
  int64_t clock_ = 0, first_ = 0, next_ = 0;  // numbers of this scope's requests begin at first_
  bool differs_ = false;
  std::unique_ptr<Storage> block_;
  std::unordered_map<const void*, std::shared_ptr<const void>> kept_;
};

}  // namespace mullion
