// What a loader draws from: numbered samples, each a function of (seed, epoch, index) alone, so
// that neither order nor the number of worker threads can change a batch.
#pragma once
#include <cstdint>
#include <vector>

#include "data/image_notes.h"
#include "tensor/random.h"

namespace mullion {

// What a stream of random numbers is for; streams of different purposes share nothing.
enum class Purpose : uint32_t { order = 1, crop, flip, jitter, erase, mix, scene };

struct SampleKey {
  uint64_t seed = 0;
  int64_t epoch = 0, index = 0;
  int64_t repeat = 0;  // which of an epoch's uses of the sample, where it has several

  Philox random(Purpose purpose) const { return random(static_cast<uint64_t>(purpose)); }
  Philox random(uint64_t stream) const {
    uint64_t place = mix_bits(static_cast<uint64_t>(epoch), static_cast<uint64_t>(index));
    if (repeat > 0) place = mix_bits(place, static_cast<uint64_t>(repeat));
    return {seed, mix_bits(place, stream), 0};
  }
};

struct SampleShape {
  int height = 0, width = 0, channels = 3;
  int64_t floats() const { return int64_t{height} * width * channels; }
};

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  virtual int num_classes() const = 0;
  virtual SampleShape shape() const = 0;
  // Writes sample key.index as [height, width, channels] normalised floats and returns its class.
  // Called from several threads at once. A sample that cannot be had throws bad_file.
  virtual int64_t load(const SampleKey& key, float* out) const = 0;
  // What was noted of the samples loaded so far.
  virtual std::vector<NoteCount> notes() const { return {}; }
};

}  // namespace mullion
