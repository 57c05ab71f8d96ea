// JPEG file to a normalised 224×224 random resized crop, flipped at random, on one core: images a
// second over a folder, as one line of JSON. The peer is tests/bench/peer_jpeg.py.
//   bench_jpeg FOLDER [PASSES]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>

#include "data/augmentation.h"
#include "data/dataset.h"

namespace {

// Processor time of this process: others may share the core.
double seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

std::vector<std::string> pictures(const std::string& root) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (entry.is_regular_file()) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

int main(int argc, char** argv) try {
  using namespace mullion;
  if (argc < 2) return std::fprintf(stderr, "usage: bench_jpeg FOLDER [PASSES]\n"), 2;
  const std::vector<std::string> paths = pictures(argv[1]);
  const int passes = argc > 2 ? std::atoi(argv[2]) : 5;
  const TrainTransform transform;
  TransformScratch scratch;
  std::vector<uint8_t> bytes;
  std::vector<float> out(224 * 224 * 3);
  std::vector<double> times, decode_times;
  for (int pass = 0; pass < passes; ++pass) {
    const double start = seconds();
    for (size_t i = 0; i < paths.size(); ++i) {
      read_regular_file(paths[i], bytes);
      const SampleKey key{42, pass, static_cast<int64_t>(i)};
      transform.apply(EncodedImage(bytes, paths[i]), key, scratch, out.data());
    }
    times.push_back(seconds() - start);
    const double again = seconds();
    for (size_t i = 0; i < paths.size(); ++i) {  // the same crops, decoded only
      read_regular_file(paths[i], bytes);
      const EncodedImage image(bytes, paths[i]);
      Philox random = SampleKey{42, pass, static_cast<int64_t>(i)}.random(Purpose::crop);
      const CropRect crop = random_resized_crop(image.width(), image.height(), {}, random);
      image.decode(crop, 224, 224, scratch.image);
    }
    decode_times.push_back(seconds() - again);
  }
  std::sort(times.begin(), times.end());
  std::sort(decode_times.begin(), decode_times.end());
  const double n = static_cast<double>(paths.size());
  std::printf(
      "{\"bench\": \"jpeg\", \"images\": %zu, \"passes\": %d, \"median_img_s\": %.1f, "
      "\"best_img_s\": %.1f, \"best_decode_only_img_s\": %.1f}\n",
      paths.size(), passes, n / times[times.size() / 2], n / times[0], n / decode_times[0]);
  return 0;
} catch (const std::exception& error) {
  return std::fprintf(stderr, "bench_jpeg: %s\n", error.what()), 1;
}
