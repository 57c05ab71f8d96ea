// One queue of work: (batch, sample) pairs in order. A worker takes a few samples of the first
// batch that has some left; who finishes the last sample of a batch also mixes it. Batches live in
// a ring of slots, one for each batch in flight, and leave it in order.
#include "data/loader.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "data/order.h"
#include "tensor/check.h"

namespace mullion {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kMaxBadMessages = 5;
constexpr int kTries = 16;  // of a substitute

}  // namespace

class Loader::Pipeline {
 public:
  Pipeline(const Dataset& dataset, const LoaderOptions& options)
      : dataset_(dataset), options_(options), shape_(dataset.shape()) {
    const int64_t size = dataset.size(), n = options.batch_size;
    CHECK_AS(Fault::usage, n > 0, "loader: batch size ", n);
    CHECK_AS(Fault::usage, options.repeats > 0 && (options.repeats == 1 || options.shuffle),
             "loader: ", options.repeats, " repeats of a sample");
    CHECK_AS(Fault::usage, options.workers >= 0 && options.prefetch > 0,
             "loader: ", options.workers, " workers, ", options.prefetch, " batches ahead");
    per_epoch_ = options.drop_last ? size / n : (size + n - 1) / n;
    CHECK_AS(Fault::usage, per_epoch_ > 0, "loader: a batch of ", n, " from a data set of ", size);
    order_.emplace(OrderOptions{.size = size, .seed = options.seed, .shuffle = options.shuffle});
    CHECK_AS(
        Fault::usage,
        options.first_epoch >= 0 && options.first_batch >= 0 && options.first_batch <= per_epoch_,
        "loader: start at epoch ", options.first_epoch, ", batch ", options.first_batch, " of ",
        per_epoch_);
    own_ = (options.dealt - options.rank + options.world - 1) / options.world;
    const int64_t first = options.first_epoch * per_epoch_ + options.first_batch;
    CHECK_AS(Fault::usage, options.dealt >= options.world && first % options.dealt == 0,
             "loader: start at batch ", first, ", of which ", options.dealt,
             " at a time are dealt to ", options.world, " ranks");
    delivered_ = assigned_ = own_before(first);
    end_ = options.epochs < 0 ? INT64_MAX
                              : own_before((options.first_epoch + options.epochs) * per_epoch_);
    slots_.resize(options.workers == 0 ? 1 : static_cast<size_t>(options.prefetch));
    for (int i = 0; i < options.workers; ++i) threads_.emplace_back([this] { work(); });
  }

  ~Pipeline() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    work_ready_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  int64_t per_epoch() const { return per_epoch_; }

  Fetch fetch(Batch& batch, double seconds) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (delivered_ >= end_) return Fetch::end;
    const auto start = Clock::now();
    Slot& slot = slots_[static_cast<size_t>(delivered_) % slots_.size()];
    if (threads_.empty()) {
      while (!is_done(slot)) step(lock);
    } else {
      const auto done = [&] { return is_done(slot); };
      if (seconds < 0) {
        batch_ready_.wait(lock, done);
      } else {
        batch_ready_.wait_for(lock, std::chrono::duration<double>(seconds), done);
      }
    }
    report_.seconds_waited += std::chrono::duration<double>(Clock::now() - start).count();
    if (!is_done(slot)) return Fetch::timeout;
    if (slot.error) std::rethrow_exception(slot.error);
    count_bad(slot);
    std::swap(batch, slot.batch);
    slot.number = -1;
    ++delivered_;
    lock.unlock();
    work_ready_.notify_all();
    return Fetch::batch;
  }

  LoaderReport report() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return report_;
  }

  std::vector<int64_t> bad_samples() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return {bad_.begin(), bad_.end()};
  }

 private:
  struct Bad {
    int64_t sample;
    std::string message;
  };
  struct Slot {
    int64_t number = -1;  // of the batch among this process's, over all epochs; −1: free
    int taken = 0, finished = 0;
    bool complete = false;  // mixed and ready
    Batch batch;
    std::vector<Bad> bad;
    std::vector<uint8_t> missing;
    std::exception_ptr error;
  };

  // This process counts its own batches; which of all it is, and how many of its own are before
  // one.
  int64_t number_among_all(int64_t own) const {
    return own / own_ * options_.dealt + options_.rank + own % own_ * options_.world;
  }
  int64_t own_before(int64_t batch) const {
    const int64_t place = batch % options_.dealt;  // in its row
    const int64_t taken = (place - options_.rank + options_.world - 1) / options_.world;
    return batch / options_.dealt * own_ + std::max<int64_t>(0, taken);
  }

  bool is_done(const Slot& slot) const { return slot.number == delivered_ && slot.complete; }

  // The slot that has samples left to take, a new one if need be; null: nothing to do now.
  Slot* open_slot() {
    if (assigned_ > delivered_) {
      Slot& last = slots_[static_cast<size_t>(assigned_ - 1) % slots_.size()];
      if (last.number == assigned_ - 1 && last.taken < last.batch.count) return &last;
    }
    if (assigned_ >= end_) return nullptr;
    Slot& slot = slots_[static_cast<size_t>(assigned_) % slots_.size()];
    if (slot.number >= 0) return nullptr;
    begin(slot, assigned_++);
    return &slot;
  }

  void begin(Slot& slot, int64_t number) {
    slot.number = number;
    slot.taken = slot.finished = 0;
    slot.complete = false;
    slot.bad.clear();
    slot.error = nullptr;
    Batch& batch = slot.batch;
    const int64_t among_all = number_among_all(number);
    batch.epoch = among_all / per_epoch_;
    batch.index = among_all % per_epoch_;
    const int64_t first = batch.index * options_.batch_size;
    batch.count = static_cast<int>(std::min<int64_t>(options_.batch_size, dataset_.size() - first));
    const size_t n = static_cast<size_t>(batch.count);
    batch.images.resize(n * static_cast<size_t>(shape_.floats()));
    batch.labels.resize(n);
    batch.samples.resize(n);
    batch.targets.clear();
    slot.missing.assign(n, 0);
    for (size_t i = 0; i < n; ++i) {
      const int64_t place = first + static_cast<int64_t>(i);
      batch.samples[i] = order_->at(batch.epoch * dataset_.size() + place / options_.repeats);
    }
  }

  // One portion of work; `lock` is held on entry and on return. False: nothing to do.
  bool step(std::unique_lock<std::mutex>& lock) {
    Slot* slot = open_slot();
    if (slot == nullptr) return false;
    const int begin = slot->taken;
    const int portion = std::clamp(slot->batch.count / 16, 1, 8);
    const int end = std::min(begin + portion, slot->batch.count);
    slot->taken = end;
    lock.unlock();
    std::exception_ptr error;
    std::vector<Bad> bad;
    try {
      for (int i = begin; i < end; ++i) load(*slot, i, bad);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    for (Bad& one : bad) slot->bad.push_back(std::move(one));
    if (error && !slot->error) slot->error = error;
    slot->finished += end - begin;
    if (slot->finished < slot->batch.count) return true;
    lock.unlock();
    try {
      finish(*slot);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error && !slot->error) slot->error = error;
    slot->complete = true;
    batch_ready_.notify_all();
    return true;
  }

  void load(Slot& slot, int i, std::vector<Bad>& bad) {
    Batch& batch = slot.batch;
    const size_t at = static_cast<size_t>(i);
    float* out = batch.images.data() + at * static_cast<size_t>(shape_.floats());
    const int64_t place = batch.index * options_.batch_size + i;
    SampleKey key{options_.seed, batch.epoch, batch.samples[at], place % options_.repeats};
    for (int attempt = 1;; ++attempt) {
      try {
        batch.labels[at] = dataset_.load(key, out);
        batch.samples[at] = key.index;
        return;
      } catch (const Error& error) {
        if (error.fault() != Fault::bad_file || options_.bad_sample == BadSample::fail) throw;
        bad.push_back({key.index, error.what()});
        if (options_.bad_sample == BadSample::leave_out) {
          slot.missing[at] = 1;
          return;
        }
        if (attempt == kTries) throw;
        key.index = (key.index + 1) % dataset_.size();
      }
    }
  }

  // The batch's own work once all its samples are there.
  void finish(Slot& slot) {
    Batch& batch = slot.batch;
    close_gaps(slot);
    MixOptions mix = options_.mix;
    if ((!mix.mixes() && mix.smoothing == 0) || slot.error) return;
    if (mix.off_epoch > 0 && batch.epoch >= mix.off_epoch) mix.mixup = mix.cutmix = 0;
    const int classes = dataset_.num_classes();
    batch.targets.resize(static_cast<size_t>(batch.count) * static_cast<size_t>(classes));
    Philox random = SampleKey{options_.seed, batch.epoch, batch.index}.random(Purpose::mix);
    mix_batch(mix, random, batch.images.data(), batch.count, shape_.height, shape_.width,
              shape_.channels, batch.labels.data(), classes, batch.targets.data());
  }

  void close_gaps(Slot& slot) {
    Batch& batch = slot.batch;
    const size_t floats = static_cast<size_t>(shape_.floats());
    size_t kept = 0;
    for (size_t i = 0; i < static_cast<size_t>(batch.count); ++i) {
      if (slot.missing[i]) continue;
      if (kept != i) {
        std::copy_n(batch.images.begin() + static_cast<ptrdiff_t>(i * floats), floats,
                    batch.images.begin() + static_cast<ptrdiff_t>(kept * floats));
        batch.labels[kept] = batch.labels[i];
        batch.samples[kept] = batch.samples[i];
      }
      ++kept;
    }
    batch.count = static_cast<int>(kept);
    batch.images.resize(kept * floats);
    batch.labels.resize(kept);
    batch.samples.resize(kept);
  }

  // Counted on delivery, in a fixed order, so that a run always stops at the same batch.
  void count_bad(Slot& slot) {
    std::sort(slot.bad.begin(), slot.bad.end(),
              [](const Bad& a, const Bad& b) { return a.sample < b.sample; });
    for (const Bad& one : slot.bad) {
      if (!bad_.insert(one.sample).second) continue;
      ++report_.bad_samples;
      if (report_.bad_messages.size() < kMaxBadMessages) {
        report_.bad_messages.push_back(one.message);
      }
    }
    if (!slot.bad.empty())
      check_bad_samples(std::ssize(bad_), dataset_.size(), options_.max_bad,
                        report_.bad_messages.front());
  }

  void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stopping_) {
      if (!step(lock)) work_ready_.wait(lock);
    }
  }

  const Dataset& dataset_;
  const LoaderOptions options_;
  const SampleShape shape_;
  int64_t per_epoch_ = 0, end_ = 0, own_ = 1;  // own_: of `dealt` batches
  int64_t delivered_ = 0, assigned_ = 0;       // numbers of the next batch to deliver, to begin
  std::vector<Slot> slots_;
  std::optional<SampleOrder> order_;
  std::set<int64_t> bad_;
  LoaderReport report_;
  bool stopping_ = false;
  mutable std::mutex mutex_;
  std::condition_variable work_ready_, batch_ready_;
  std::vector<std::thread> threads_;  // last: joined before the rest goes
};

Loader::Loader(const Dataset& dataset, const LoaderOptions& options)
    : pipeline_(std::make_unique<Pipeline>(dataset, options)) {}
Loader::~Loader() = default;

int64_t Loader::batches_per_epoch() const { return pipeline_->per_epoch(); }
// A batch of which no sample could be read is passed over.
bool Loader::next(Batch& batch) {
  while (pipeline_->fetch(batch, -1) == Fetch::batch) {
    if (batch.count > 0) return true;
  }
  return false;
}
Loader::Fetch Loader::next_for(Batch& batch, double seconds) {
  for (;;) {
    const Fetch fetch = pipeline_->fetch(batch, std::max(seconds, 0.0));
    if (fetch != Fetch::batch || batch.count > 0) return fetch;
  }
}
LoaderReport Loader::report() const { return pipeline_->report(); }
std::vector<int64_t> Loader::bad_samples() const { return pipeline_->bad_samples(); }

void check_bad_samples(int64_t bad, int64_t size, double most, const std::string& first) {
  CHECK_AS(Fault::bad_file, static_cast<double>(bad) <= most * static_cast<double>(size), bad,
           " of ", size, " samples cannot be read, more than ", 100 * most,
           " %; the first: ", first);
}

}  // namespace mullion
