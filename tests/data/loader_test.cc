// The same batches for any number of workers, from any starting point, with bad samples among them.
#include "data/loader.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <set>
#include <thread>

#include "data/cue_task.h"
#include "tensor/check.h"

namespace mullion {
namespace {

// Sample i is [epoch, i, a random number]; some cannot be read.
class NumberedDataset : public Dataset {
 public:
  explicit NumberedDataset(int64_t size, std::set<int64_t> bad = {}, int delay_us = 0)
      : size_(size), bad_(std::move(bad)), delay_us_(delay_us) {}
  int64_t size() const override { return size_; }
  int num_classes() const override { return 3; }
  SampleShape shape() const override { return {1, 1, 3}; }
  int64_t load(const SampleKey& key, float* out) const override {
    ++loads;
    if (delay_us_ > 0) std::this_thread::sleep_for(std::chrono::microseconds(delay_us_));
    CHECK_AS(Fault::bad_file, !bad_.count(key.index), "sample ", key.index);
    out[0] = float(key.epoch), out[1] = float(key.index);
    out[2] = key.random(Purpose::crop).uniform();
    return key.index % 3;
  }
  mutable std::atomic<int> loads{0};

 private:
  int64_t size_;
  std::set<int64_t> bad_;
  int delay_us_;
};

std::vector<Batch> all_batches(const Dataset& dataset, const LoaderOptions& options) {
  Loader loader(dataset, options);
  std::vector<Batch> batches;
  for (Batch batch; loader.next(batch);) batches.push_back(batch);
  return batches;
}

void expect_equal(const std::vector<Batch>& a, const std::vector<Batch>& b, size_t skip = 0) {
  ASSERT_EQ(a.size(), b.size() + skip);
  for (size_t i = 0; i < b.size(); ++i) {
    EXPECT_EQ(a[i + skip].epoch, b[i].epoch);
    EXPECT_EQ(a[i + skip].index, b[i].index);
    EXPECT_EQ(a[i + skip].samples, b[i].samples);
    EXPECT_EQ(a[i + skip].labels, b[i].labels);
    EXPECT_EQ(a[i + skip].images, b[i].images);
    EXPECT_EQ(a[i + skip].targets, b[i].targets);
  }
}

LoaderOptions training(int batch_size, int64_t epochs) {
  LoaderOptions options;
  options.batch_size = batch_size;
  options.shuffle = options.drop_last = true;
  options.epochs = epochs;
  options.mix.mixup = 0.8f, options.mix.cutmix = 1, options.mix.smoothing = 0.1f;
  return options;
}

// Each sample of a third of the data set three times in a row, with chances of its own each time.
TEST(Loader, RepeatsStandTogetherAndDiffer) {
  const NumberedDataset dataset(30);
  LoaderOptions options = training(9, 2);
  options.mix = {};
  options.repeats = 3;
  const auto batches = all_batches(dataset, options);
  ASSERT_EQ(batches.size(), 6u);
  std::set<int64_t> seen;
  for (const Batch& b : batches) {
    for (size_t i = 0; i < 9; i += 3) {
      EXPECT_EQ(b.samples[i], b.samples[i + 1]);
      EXPECT_EQ(b.samples[i], b.samples[i + 2]);
      EXPECT_NE(b.images[3 * i + 2], b.images[3 * i + 5]);
      EXPECT_NE(b.images[3 * i + 2], b.images[3 * i + 8]);
      EXPECT_TRUE(b.epoch == 1 || seen.insert(b.samples[i]).second);
    }
  }
  LoaderOptions later = options;
  later.first_epoch = 1, later.first_batch = 1, later.epochs = 1, later.workers = 2;
  expect_equal(batches, all_batches(dataset, later), 4);
}

TEST(Loader, MixingEndsAtItsEpochAndTargetsGoOn) {
  const NumberedDataset dataset(8);
  LoaderOptions options = training(8, 2);
  options.mix.smoothing = 0;
  options.mix.cutmix = 0, options.mix.off_epoch = 1;
  const auto batches = all_batches(dataset, options);
  ASSERT_EQ(batches.size(), 2u);
  for (const Batch& b : batches) {
    ASSERT_EQ(b.targets.size(), 24u);
    bool whole = true;
    for (const float t : b.targets) whole &= t == 0 || t == 1;
    EXPECT_EQ(whole, b.epoch == 1);
  }
}

TEST(Loader, SameBatchesForAnyNumberOfWorkers) {
  const NumberedDataset dataset(103, {7});
  LoaderOptions options = training(8, 3);
  options.bad_sample = BadSample::substitute;
  const auto alone = all_batches(dataset, options);
  EXPECT_EQ(alone.size(), 3u * 12);
  for (int workers : {1, 2, 5}) {
    for (int prefetch : {1, 2, 7}) {
      options.workers = workers, options.prefetch = prefetch;
      expect_equal(alone, all_batches(dataset, options));
    }
  }
}

TEST(Loader, ResumesAnywhere) {
  const NumberedDataset dataset(50);
  LoaderOptions options = training(8, 4);
  const auto whole = all_batches(dataset, options);
  options.workers = 2;
  for (int64_t done : {0, 5, 6, 13, 23}) {
    options.first_epoch = done / 6, options.first_batch = done % 6;
    options.epochs = 4 - options.first_epoch;
    expect_equal(whole, all_batches(dataset, options), size_t(done));
  }
}

TEST(Loader, EveryEpochIsAPermutation) {
  const NumberedDataset dataset(40);
  LoaderOptions options;
  options.batch_size = 7, options.workers = 2, options.shuffle = true, options.epochs = 2;
  std::vector<int64_t> seen[2];
  for (const Batch& batch : all_batches(dataset, options)) {
    auto& list = seen[batch.epoch];
    list.insert(list.end(), batch.samples.begin(), batch.samples.end());
    EXPECT_EQ(batch.count, batch.index == 5 ? 5 : 7);
  }
  for (const auto& list : seen) {
    EXPECT_EQ(list.size(), 40u);
    EXPECT_EQ(std::set<int64_t>(list.begin(), list.end()).size(), 40u);
  }
  EXPECT_NE(seen[0], seen[1]);
  options.shuffle = false;
  EXPECT_EQ(all_batches(dataset, options)[1].samples[0], 7);
}

TEST(Loader, BadSamples) {
  const NumberedDataset dataset(400, {3, 399});
  LoaderOptions options;
  options.batch_size = 10, options.workers = 2;
  EXPECT_THROW(all_batches(dataset, options), Error);
  options.bad_sample = BadSample::leave_out;
  {
    Loader loader(dataset, options);
    Batch batch;
    ASSERT_TRUE(loader.next(batch));
    EXPECT_EQ(batch.count, 9);
    EXPECT_EQ(batch.samples, (std::vector<int64_t>{0, 1, 2, 4, 5, 6, 7, 8, 9}));
    EXPECT_EQ(batch.images.size(), 27u);
    EXPECT_EQ(batch.images[3 * 3 + 1], 4);
    while (loader.next(batch)) {
    }
    EXPECT_EQ(loader.report().bad_samples, 2);
    EXPECT_EQ(loader.report().bad_messages[1], "sample 399");
  }
  options.bad_sample = BadSample::substitute;
  options.epochs = 3;
  const auto batches = all_batches(dataset, options);
  EXPECT_EQ(batches[0].samples[3], 4);
  EXPECT_EQ(batches[39].samples[9], 0);
  options.max_bad = 0.004;
  try {
    all_batches(dataset, options);
    ADD_FAILURE() << "2 of 400 pass as 0.4 %";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::bad_file);
    EXPECT_EQ(std::string(error.what()),
              "2 of 400 samples cannot be read, more than 0.4 %; the first: sample 3");
  }
}

TEST(Loader, BatchesWithoutASampleArePassedOver) {
  const NumberedDataset dataset(6, {2, 3});
  LoaderOptions options;
  options.batch_size = 2, options.bad_sample = BadSample::leave_out, options.max_bad = 1;
  const auto batches = all_batches(dataset, options);
  ASSERT_EQ(batches.size(), 2u);
  EXPECT_EQ(batches[1].index, 2);
}

TEST(Loader, PrefetchIsBounded) {
  const NumberedDataset dataset(1000);
  LoaderOptions options;
  options.batch_size = 10, options.workers = 3, options.prefetch = 2;
  Loader loader(dataset, options);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_LE(dataset.loads, 20);
  Batch batch;
  loader.next(batch);
  loader.next(batch);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_LE(dataset.loads, 40);
}

TEST(Loader, CanBePolledAndStoppedAtAnyMoment) {
  const NumberedDataset dataset(1000, {}, 2000);
  LoaderOptions options;
  options.batch_size = 100, options.workers = 2, options.epochs = -1;
  for (int i = 0; i < 5; ++i) {
    Loader loader(dataset, options);
    Batch batch;
    EXPECT_EQ(loader.next_for(batch, 0.001 * i), Loader::Fetch::timeout);
    EXPECT_GE(loader.report().seconds_waited, 0.0009 * i);
  }
}

TEST(Loader, RefusesWhatCannotWork) {
  const NumberedDataset dataset(5);
  LoaderOptions options;
  options.batch_size = 6, options.drop_last = true;
  EXPECT_THROW(Loader(dataset, options), Error);
  options.batch_size = 0;
  EXPECT_THROW(Loader(dataset, options), Error);
}

}  // namespace
}  // namespace mullion
