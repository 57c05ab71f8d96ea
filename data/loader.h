// Batches of a Dataset from worker threads. What a batch holds is a function of (seed, epoch,
// place) alone: the order is a permutation drawn from the seed and the epoch, every sample draws
// from its own streams, and workers only decide who computes what. To resume is to start at an
// epoch and a batch. At most `prefetch` batches are ready or in the making.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/mix.h"

namespace mullion {

struct Batch {
  int64_t epoch = 0, index = 0;  // which batch of which epoch
  int count = 0;                 // samples in it
  std::vector<float> images;     // [count, height, width, channels]
  std::vector<int64_t> labels;   // [count]
  std::vector<int64_t> samples;  // [count], indices in the data set
  std::vector<float> targets;    // [count, classes] where labels are mixed or smoothed, else empty
};

// What happens to a sample that cannot be read.
enum class BadSample {
  substitute,  // training: the next sample in the data set takes its place
  leave_out,   // evaluation: the batch is smaller
  fail,
};

struct LoaderOptions {
  int batch_size = 1;
  int workers = 0;   // threads; 0: next() does the work itself
  int prefetch = 4;  // batches
  uint64_t seed = 42;
  bool shuffle = false, drop_last = false;
  int64_t first_epoch = 0, first_batch = 0;  // where to start
  int64_t epochs = 1;                        // how many, the first one included; < 0: for ever
  BadSample bad_sample = BadSample::fail;
  double max_bad = 0.01;  // of the data set; more stop the run
  MixOptions mix;
  // Training: each sample stands so many times in a row, differently augmented, and an epoch has a
  // part of the samples (repeated augmentation, Hoffer et al. 2020).
  int repeats = 1;
  // Several processes share the batches: of each `dealt` batches in a row this one delivers the
  // places rank, rank + world, ... Where to start is then at such a row's begin.
  int64_t rank = 0, world = 1, dealt = 1;
};

struct LoaderReport {
  double seconds_waited = 0;              // in next(), for data
  int64_t bad_samples = 0;                // different ones
  std::vector<std::string> bad_messages;  // of the first few
};

// Error(bad_file) where `bad` samples of `size`, of which `first` says what is wrong with one, are
// more than `most`, a share of the data set.
void check_bad_samples(int64_t bad, int64_t size, double most, const std::string& first);

class Loader {
 public:
  // The data set must outlive the loader.
  Loader(const Dataset& dataset, const LoaderOptions& options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  int64_t batches_per_epoch() const;

  // The next batch in order, exchanged for the one given, whose memory is used again; false after
  // the last. Throws what a worker threw, and bad_file when more than max_bad cannot be read.
  bool next(Batch& batch);

  enum class Fetch { batch, end, timeout };
  // The same, but gives up after some seconds, so that a caller can look for signals.
  Fetch next_for(Batch& batch, double seconds);

  LoaderReport report() const;
  // The places in the data set of the samples that could not be read. Several processes that share
  // the batches have each its own: none of them knows how many there are in all.
  std::vector<int64_t> bad_samples() const;

 private:
  class Pipeline;
  std::unique_ptr<Pipeline> pipeline_;
};

}  // namespace mullion
