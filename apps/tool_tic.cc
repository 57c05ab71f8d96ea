// tool_tic: what a TiC is (info: parameters and multiply-adds) what it says (predict), and
// the same for other programs (export).
#include <algorithm>
#include <cstdio>
#include <numeric>

#include "apps/options/device.h"
#include "apps/program/log.h"
#include "apps/program/main.h"
#include "apps/tic/export/export.h"
#include "apps/tic/image_data.h"
#include "apps/tic/model_folder.h"
#include "apps/tic/training.h"
#include "autograd/ops.h"
#include "data/decode.h"
#include "tensor/parallel.h"

namespace mullion {
namespace {

OptionTable info_table() {
  OptionTable table("tool_tic info",
                    "Parameters and multiply-adds (MACs) of a model, by image size.");
  add_tic_architecture(table);
  table.add_optional<std::string>("model.checkpoint", "--checkpoint",
                                  "model folder or run, instead of a preset and its changes");
  table
      .add("model.img_size", "--img-size", std::vector<int>{},
           "sizes (default: 224,384,512,1024; tic-n: 32)")
      .range(1, 1 << 14);
  table.add_common();
  return table;
}

Outcome info(const Options& options) {
  const TicConfig config =
      options.has("model.checkpoint")
          ? load_tic(options.get<std::string>("model.checkpoint"), false).description.config
          : tic_config_of(options, tic_preset(options.get<std::string>("model.name")).num_classes);
  Tic model(config);
  const int64_t params = parameter_count(named_parameters(model));
  auto sizes = options.get<std::vector<int>>("model.img_size");
  if (sizes.empty())
    sizes = config.preset == "tic-n" ? std::vector<int>{32} : std::vector<int>{224, 384, 512, 1024};
  char line[160];
  std::snprintf(line, sizeof line, "%s (this project's reconstruction): %.3f M parameters\n",
                config.preset.c_str(), static_cast<double>(params) / 1e6);
  print_text(options, line);
  std::vector<JsonObject> by_size;
  for (const int size : sizes) {
    const int64_t macs = tic_macs(config, size, size);
    std::snprintf(line, sizeof line, "  %5d x %-5d %10.4f GMACs\n", size, size,
                  static_cast<double>(macs) / 1e9);
    print_text(options, line);
    by_size.push_back(JsonObject().set("img_size", size).set("macs", macs));
  }
  return JsonObject()
      .set("model", config.preset)
      .set("params", params)
      .set("macs", tic_macs(config, sizes[0], sizes[0]))
      .set("sizes", by_size);
}

OptionTable predict_table() {
  OptionTable table("tool_tic predict", "The most likely classes of images.");
  table.add_optional<std::string>("model.checkpoint", "--checkpoint", "model folder or run")
      .required();
  table.add("model.use_ema", "--use-ema", false, "the averaged weights");
  table.add_optional<int>("data.img_size", "--img-size", "side of the centre crop, pixels")
      .range(1, kMostImageSide);
  table
      .add_optional<double>("data.crop_pct", "--crop-pct",
                            "share of the image kept by the centre crop")
      .range(0.01, 1);
  add_exif_option(table);
  table.add("log.probabilities", "--probabilities", false,
            "also give the probabilities of all classes");
  table.add_optional<std::vector<std::string>>("data.images", "IMAGE", "JPEG and PNG files")
      .required();
  table.add_common();
  return table;
}

Outcome predict(const Options& options) {
  set_num_threads(options.threads());
  const LoadedTic loaded = load_tic(options.get<std::string>("model.checkpoint"),
                                    options.get<bool>("model.use_ema"), device_of(options));
  const TicDescription& d = loaded.description;
  const int size = options.has("data.img_size") ? options.get<int>("data.img_size") : d.img_size;
  EvalTransform transform = d.transform(size, size);
  if (options.has("data.crop_pct")) transform.crop_pct = options.get<float>("data.crop_pct");
  const ExifUse exif = exif_of(options, d);
  explain_cost(d.config, transform.height, transform.width);
  NoGrad no_grad;
  TransformScratch scratch;
  std::vector<JsonObject> images;
  for (const auto& file : options.get<std::vector<std::string>>("data.images")) {
    std::vector<uint8_t> bytes;
    read_regular_file(file, bytes);
    const Tensor input = Tensor::empty({1, transform.height, transform.width, 3});
    const EncodedImage encoded(bytes, file, {}, exif);
    apply(transform, encoded, scratch, input.data<float>());
    const auto p =
        softmax((*loaded.model)(raw::to_device(input, loaded.model->device()))).to_vector<float>();
    std::vector<size_t> order(p.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
    order.resize(std::min<size_t>(5, order.size()));
    std::vector<std::string> names;
    std::string line = printable(file) + ":";
    for (const size_t c : order) {
      names.push_back(d.classes[c]);
      char number[16];
      std::snprintf(number, sizeof number, " %.4f", p[c]);
      line += "  " + printable(d.classes[c]) + number;
    }
    print_text(options, line + "\n");
    JsonObject image;
    image.set("file", file).set("top5", names);
    std::vector<std::string> notes = encoded.notes().texts();
    if (encoded.orientation() > 0) image.set("orientation", encoded.orientation());
    if (encoded.orientation() > 1 && exif == ExifUse::apply)
      notes.push_back(concat("turned by EXIF orientation ", encoded.orientation()));
    if (!notes.empty()) image.set("notes", notes);
    for (const std::string& note : notes) log_warning(printable(file), ": ", note);
    if (options.get<bool>("log.probabilities")) image.set("probabilities", p);
    images.push_back(image);
  }
  return JsonObject().set("images", images);
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  using namespace mullion;
  return run_program(argc, argv, "Looks into a TiC: its size, its answers.",
                     {{info_table(), info}, {predict_table(), predict}, export_verb()});
}
