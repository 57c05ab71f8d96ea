// A TiC training step fed from JPEGs against the same step on images that lie on the device: images
// a second of both and the part that the first keeps. Decoding, random resized crop and flip in
// worker threads, each batch sent while the one before is computed, as train_tic does. The JPEGs
// are synthetic, written for the run below a folder: of ImageNet's common size and bytes a file,
// waves and noise, so that decoding has as much to do. The last line of stdout is one JSON object.
//   bench_tic_feed FOLDER [PRESET] [SIZE] [BATCH] [STEPS] [WORKERS] [--device cpu|cuda] [--amp
//   MODE] e.g. jpegs tic-t 224 128 20 16 --device cuda --amp bf16; FOLDER is written where it is
//   not there
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "data/image_folder.h"
#include "data/loader.h"
#include "models/tic/model.h"
#include "optim/optimizer.h"
#include "tensor/parallel.h"
#include "tests/bench/device.h"

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

namespace mullion {
namespace {

namespace fs = std::filesystem;
constexpr int kWidth = 500, kHeight = 375, kQuality = 90;  // ImageNet's commonest picture
constexpr int kClasses = 4;

// Slow waves of each channel, and noise that gives a file of about 100 KB.
Image picture(uint64_t number) {
  Image image;
  image.resize(kWidth, kHeight);
  Philox random(7, number, 0);
  float waves[3][4];
  for (auto& channel : waves)
    for (float& x : channel) x = static_cast<float>(random.uniform());
  uint64_t bits = number * 2 + 1;
  for (int y = 0; y < kHeight; ++y)
    for (int x = 0; x < kWidth; ++x)
      for (int c = 0; c < 3; ++c) {
        const float* w = waves[c];
        const float slow = std::sin(
            0.01f * (w[0] * static_cast<float>(x) + w[1] * static_cast<float>(y)) * 6 + 6 * w[2]);
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        const float noise = static_cast<float>(bits >> 40) * 0x1p-24f - 0.5f;
        image.row(y)[3 * x + c] = static_cast<uint8_t>(128 + 70 * slow + (40 + 60 * w[3]) * noise);
      }
  return image;
}

void append(void* file, void* bytes, int n) {
  static_cast<std::ofstream*>(file)->write(static_cast<const char*>(bytes), n);
}

#ifdef MULLION_HAVE_TURBOJPEG
constexpr const char* kDecoder = "libjpeg-turbo";
#else
constexpr const char* kDecoder = "stb_image";
#endif

void write_pictures(const fs::path& folder, int64_t count) {
  const auto class_of = [&](int64_t i) {
    return folder / ("class-" + std::to_string(i % kClasses));
  };
  for (int64_t i = 0; i < kClasses; ++i) fs::create_directories(class_of(i));
  const auto write = [&](int64_t i) {
    const Image image = picture(static_cast<uint64_t>(i));
    std::ofstream file(class_of(i) / (std::to_string(i) + ".jpg"), std::ios::binary);
    stbi_write_jpg_to_func(append, &file, kWidth, kHeight, 3, image.pixels.data(), kQuality);
    CHECK_AS(Fault::disk, file.flush().good(), folder.string(), ": could not be written");
  };
  parallel_for(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) write(i);
  });
}

double mean_bytes(const ImageFolder& folder) {
  double sum = 0;
  for (int64_t i = 0; i < folder.size(); ++i)
    sum += static_cast<double>(fs::file_size(folder.path(i)));
  return sum / static_cast<double>(folder.size());
}

struct Step {
  Tensor images, labels;
};

// Batches of the folder, one ahead of the step that is computed.
class Feed {
 public:
  Feed(const Dataset& data, const LoaderOptions& options, Device device)
      : shape_(data.shape()), loader_(data, options), device_(device), ahead_(fetch()) {}
  Step next() { return std::exchange(ahead_, {}); }
  void send_ahead() { ahead_ = fetch(); }
  double seconds_waited() const { return loader_.report().seconds_waited; }

 private:
  Step fetch() {
    loader_.next(batch_);
    const Shape shape{batch_.count, shape_.height, shape_.width, shape_.channels};
    return {Tensor::from(batch_.images, shape, device_),
            Tensor::from(batch_.labels, {batch_.count}, device_)};
  }

  SampleShape shape_;
  Loader loader_;
  Batch batch_;
  Device device_;
  Step ahead_;
};

// Images a second over all steps but the first three; between them nothing waits for the device
// but the loss that is read, as in training.
template <typename Next, typename Ahead>
double rate(Tic& model, Optimizer& optimizer, const std::vector<NamedParameter>& parameters,
            int64_t steps, const bench::Where& where, Next next, Ahead ahead) {
  const int64_t untimed = where.smoke ? 1 : 3;
  int64_t images = 0;
  double start = 0;
  for (int64_t i = 0; i < untimed + steps; ++i) {
    if (i == untimed) {
      synchronize(where.device);
      start = bench::wall_seconds();
    }
    const Step step = next();
    clear_grads(parameters);
    const Tensor loss = cross_entropy(model(step.images), step.labels,
                                      1.0 / static_cast<double>(step.labels.dim(0)));
    backward(loss);
    ahead();
    optimizer.step(1e-4, grad_sum_squares(parameters), 5);
    loss.item();
    if (i >= untimed) images += step.labels.dim(0);
  }
  synchronize(where.device);
  return static_cast<double>(images) / (bench::wall_seconds() - start);
}

void run(int argc, char** argv, const bench::Where& where) {
  CHECK_AS(Fault::usage, argc > 1,
           "usage: bench_tic_feed FOLDER [PRESET] [SIZE] [BATCH] [STEPS] [WORKERS]");
  const fs::path folder = argv[1];
  const std::string preset = argc > 2 && !where.smoke ? argv[2] : "tic-n";
  const auto number = [&](int i, int64_t otherwise) {
    return argc > i ? std::strtoll(argv[i], nullptr, 10) : otherwise;
  };
  const int64_t size = where.smoke ? 16 : number(3, 32), batch = where.smoke ? 2 : number(4, 64);
  const int64_t steps = where.smoke ? 1 : number(5, 10);
  const int64_t workers = number(6, std::max(1u, std::thread::hardware_concurrency()));
  if (!fs::exists(folder)) write_pictures(folder, where.smoke ? 8 : 512);
  const auto pictures = std::make_shared<ImageFolder>(folder.string());
  AugmentSettings settings;
  settings.height = settings.width = static_cast<int>(size);
  settings.set("mode", "crop");
  const ImageDataset data(pictures, TrainTransform(settings));

  Tic model(tic_preset(preset));
  model.initialize(1);
  move_to(model, where.device);
  model.set_compute_type(where.type());
  set_trainable(model, [](const std::string&) { return true; });
  const auto parameters = trainable_parameters(model);
  const auto optimizer = make_adamw({{parameters, 1, 0.05}});
  const auto rate_of = [&](auto next, auto ahead) {
    return rate(model, *optimizer, parameters, steps, where, next, ahead);
  };
  Step there{
      Tensor::empty({batch, size, size, 3}, DType::f32, where.device),
      Tensor::from(std::vector<int64_t>(static_cast<size_t>(batch), 1), {batch}, where.device)};
  kernels(where.device)
      .random({.kind = RandomArgs::Kind::normal,
               .y = there.images.data<void>(),
               .dtype = DType::f32,
               .n = there.images.numel(),
               .a = 0,
               .b = 1,
               .seed = 3,
               .stream = 0});
  const double alone = rate_of([&] { return there; }, [] {});
  LoaderOptions options;
  options.batch_size = static_cast<int>(batch);
  options.workers = static_cast<int>(workers);
  options.shuffle = options.drop_last = true;
  options.epochs = -1;
  Feed feed(data, options, where.device);
  const double fed = rate_of([&] { return feed.next(); }, [&] { feed.send_ahead(); });
  std::printf(
      "{\"bench\": \"tic_feed\", %s, \"preset\": \"%s\", \"img_size\": %lld, \"batch\": %lld, "
      "\"workers\": %lld, \"cores\": %u, \"images\": \"%lld synthetic JPEGs of %dx%d, %.0f KB, by "
      "%s\", "
      "\"img_s_random\": %.1f, \"img_s_jpeg\": %.1f, \"seconds_waited\": %.3f, \"of_random\": "
      "%.3f}\n",
      where.json().c_str(), preset.c_str(), static_cast<long long>(size),
      static_cast<long long>(batch), static_cast<long long>(workers),
      std::thread::hardware_concurrency(), static_cast<long long>(pictures->size()), kWidth,
      kHeight, 1e-3 * mean_bytes(*pictures), kDecoder, alone, fed, feed.seconds_waited(),
      fed / alone);
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) { return mullion::bench::run(argc, argv, mullion::run); }
