// Which piece of work is surely done before which other: streams run in order, events and waits of
// the host order them among each other. From it follows whether two streams may use the same
// memory. It is kept when work is asked for, so that it does not matter when the emulator runs it.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace mullion::simt {

// Of each stream, by its number, how many of its pieces are known to be done before.
using Clock = std::map<uint64_t, uint64_t>;
void join(Clock& clock, const Clock& other);

// A piece of work, for messages and for who comes later.
struct Moment {
  std::string what;
  int device = 0;
  uint64_t stream = 0, piece = 0;

  bool is_before(const Clock& clock) const {
    const auto known = clock.find(stream);
    return known != clock.end() && known->second >= piece;
  }
};

// Memory that a piece of work is given: an address in an allocation. Copies may go to and from any
// device's, all else uses memory of its own device.
struct Use {
  const void* pointer;
  bool may_write;
  bool is_copy = false;
};
using Uses = std::vector<Use>;

// What the streams did with an allocation: of each stream its last read and write.
class History {
 public:
  explicit History(int device) : device_(device) {}
  int device() const { return device_; }
  void begins(const Moment& allocated) { writes_ = {allocated}; }
  // Throws a Finding where memory of another device is used, or what another stream does with it is
  // not known to be done. `memory` describes the allocation.
  void use(const Use& use, const Moment& now, const Clock& known, const std::string& memory);
  void free(const Moment& now, const Clock& known, const std::string& memory);

 private:
  void check(const std::vector<Moment>& earlier, const Moment& now, const Clock& known,
             const std::string& does, const std::string& memory) const;
  int device_;
  std::vector<Moment> reads_, writes_, frees_;
};

}  // namespace mullion::simt
