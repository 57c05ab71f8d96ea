// JPEG file to a normalised 224x224 sample of training on one core: images a second over a folder
// of files, or of shards as data_tic pack writes them, as one line of JSON. The peer is
// tests/bench/peer_jpeg.py.
//   bench_jpeg FOLDER [PASSES] [plain|recipe] [WORKERS]
// plain: random resized crop and flip; recipe: RandAugment m9 and random erasing as well. With
// WORKERS threads the loader makes batches of 128, by the clock on the wall.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <memory>
#include <string>

#include "data/augmentation.h"
#include "data/image_shards.h"
#include "data/loader.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

// Processor time of this process: others may share the core.
double seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Pictures at any depth, of one class.
class Files : public ImageSource {
 public:
  explicit Files(const std::string& root) : root_(root) {
    for (const auto& entry : fs::recursive_directory_iterator(root))
      if (entry.is_regular_file()) paths_.push_back(entry.path());
    std::sort(paths_.begin(), paths_.end());
  }
  int64_t size() const override { return std::ssize(paths_); }
  const std::string& root() const override { return root_; }
  const std::vector<std::string>& classes() const override { return names_; }
  int64_t label(int64_t) const override { return 0; }
  std::string path(int64_t index) const override { return paths_[static_cast<size_t>(index)]; }
  void read(int64_t index, std::vector<uint8_t>& out) const override {
    read_regular_file(path(index), out);
  }
  std::string describe() const override { return "files"; }
  const std::vector<std::string>& absent_classes() const override { return none_; }
  const std::vector<NotTaken>& not_taken() const override { return nothing_; }
  const std::vector<std::string>& doubts() const override { return none_; }

 private:
  std::string root_;
  std::vector<std::string> paths_, names_ = {"all"}, none_;
  std::vector<NotTaken> nothing_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Images a second of one pass of the loader.
double loaded(const Dataset& data, int pass, int workers) {
  LoaderOptions options;
  options.batch_size = static_cast<int>(std::min<int64_t>(128, data.size()));
  options.workers = workers;
  options.shuffle = true;
  options.first_epoch = pass;
  options.epochs = pass + 1;
  const auto begin = std::chrono::steady_clock::now();
  Loader loader(data, options);
  Batch batch;
  int64_t count = 0;
  while (loader.next(batch)) count += batch.count;
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  return static_cast<double>(count) / time.count();
}

int bench(const std::string& root, int passes, bool recipe, int workers) {
  const bool shards = !find_shards(root, "train").empty();
  std::shared_ptr<const ImageSource> source;
  if (shards)
    source = std::make_shared<ImageShards>(root, "train", nullptr);
  else
    source = std::make_shared<Files>(root);
  AugmentSettings settings;
  if (recipe) {
    settings.set("auto", std::string("rand-m9-mstd0.5-inc1"));
    settings.set("reprob", 0.25);
  }
  const TrainTransform transform(settings);
  TransformScratch scratch;
  std::vector<uint8_t> bytes;
  std::vector<float> out(224 * 224 * 3);
  std::vector<double> rates, decode_rates;
  const auto n = static_cast<double>(source->size());
  for (int pass = 0; pass < passes; ++pass) {
    if (workers > 0) {
      rates.push_back(loaded(ImageDataset(source, transform), pass, workers));
      continue;
    }
    const double start = seconds();
    for (int64_t i = 0; i < source->size(); ++i) {
      source->read(i, bytes);
      const SampleKey key{42, pass, i};
      transform.apply(EncodedImage(bytes, source->path(i)), key, scratch, out.data());
    }
    rates.push_back(n / (seconds() - start));
    const double again = seconds();
    for (int64_t i = 0; i < source->size(); ++i) {  // the same crops, decoded only
      source->read(i, bytes);
      const EncodedImage image(bytes, source->path(i));
      Philox random = SampleKey{42, pass, i}.random(Purpose::crop);
      const CropRect crop = random_resized_crop(image.width(), image.height(), {}, random);
      image.decode(crop, 224, 224, scratch.image);
    }
    decode_rates.push_back(n / (seconds() - again));
  }
  std::printf(
      "{\"bench\": \"jpeg\", \"from\": \"%s\", \"steps\": \"%s\", \"workers\": %d, \"images\": "
      "%lld, \"passes\": %d, \"median_img_s\": %.1f, \"best_img_s\": %.1f, "
      "\"best_decode_only_img_s\": %.1f}\n",
      shards ? "shards" : "files", recipe ? "recipe" : "plain", workers,
      static_cast<long long>(source->size()), passes, median(rates),
      *std::max_element(rates.begin(), rates.end()),
      decode_rates.empty() ? 0 : *std::max_element(decode_rates.begin(), decode_rates.end()));
  return 0;
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) try {
  const std::string steps = argc > 3 ? argv[3] : "plain";
  if (argc < 2 || (steps != "plain" && steps != "recipe"))
    return std::fprintf(stderr, "usage: bench_jpeg FOLDER [PASSES] [plain|recipe] [WORKERS]\n"), 2;
  return mullion::bench(argv[1], argc > 2 ? std::atoi(argv[2]) : 5, steps == "recipe",
                        argc > 4 ? std::atoi(argv[4]) : 0);
} catch (const std::exception& error) {
  return std::fprintf(stderr, "bench_jpeg: %s\n", error.what()), 1;
}
