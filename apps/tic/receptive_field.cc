// The effective receptive field (Luo et al. 2016, arXiv 1701.04128): the gradient of the last map's
// centre token with respect to the input, its size averaged over images. After a LayerNorm the
// channels of a token have a fixed sum, whose gradient says nothing; so they are summed with fixed
// random signs.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "apps/options/device.h"
#include "apps/program/log.h"
#include "apps/tic/heat.h"
#include "apps/tic/image_data.h"
#include "apps/tic/model_choice.h"
#include "apps/tic/tool_verbs.h"
#include "autograd/engine.h"
#include "data/cue_task.h"
#include "data/png.h"
#include "tensor/io/file_place.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
constexpr uint64_t kSigns = 0x5169, kNoise = 0x401f;  // streams of random numbers
constexpr int kShown = 224;

// Whether untrained models are compared, rather than one looked into.
bool draws_arms(const Options& o) {
  return !o.has("model.checkpoint") && o.get<std::string>("model.block") != "global" &&
         tic_preset(o.get<std::string>("model.name")).block != TicConfig::Block::released;
}

OptionTable field_table() {
  OptionTable table("tool_tic receptive-field",
                    "How far the centre of the last map sees: a picture, and the radii that hold "
                    "half and 90 % of it. Without --checkpoint: untrained models, plain, with the "
                    "shift, with the pooling, with both.");
  add_model_choice(table);
  table.add_optional<std::string>(
      "data.dir", "--data-dir",
      "class folders, shards or \"cue\" to take images from (default: normal noise)");
  table
      .add("data.val_split", "--val-split", "",
           "folder below --data-dir (default: val, else test, else --data-dir itself)")
      .only_with("data.dir");
  add_folder_options(table);
  table.at("data.follow_links").only_with("data.dir");
  tie_to_scenes(table, {}, {"data.val_split", "data.follow_links"});
  table.add("data.images", "--images", 32, "images to average over").range(1, 100000);
  table.add("data.img_size", "--img-size", 0, "side, pixels (0: the model's)")
      .range(0, kMostImageSide);
  table.add_optional<fs::path>("field.output", "-o,--output", "PNG file to write").required();
  table.add_common();
  table.at("run.seed")
      .only_where(
          [](const Options& o) {
            const bool images = o.has("data.dir") && o.get<std::string>("data.dir") != "cue";
            return !o.has("model.checkpoint") || !images;
          },
          "with a model and images that are given");
  for (const char* key : {"model.shift", "model.pool"})
    table.at(key).only_where(
        [key](const Options& o) { return !draws_arms(o) || o.get<std::string>(key) != "off"; },
        "here: of the four models two are without it and two have it");
  return table;
}

struct Field {
  std::string name;
  HeatMap map;                // adds up to 1
  double half = 0, most = 0;  // radii, pixels
};

double radius_of(const HeatMap& map, double centre_x, double centre_y, double share) {
  std::vector<std::pair<double, float>> by_distance;
  for (int y = 0; y < map.height; ++y)
    for (int x = 0; x < map.width; ++x)
      by_distance.emplace_back(std::hypot(x + 0.5 - centre_x, y + 0.5 - centre_y), map.at(x, y));
  std::sort(by_distance.begin(), by_distance.end());
  double sum = 0;
  for (const auto& [distance, value] : by_distance)
    if ((sum += value) >= share) return distance;
  return by_distance.back().first;
}

class Images {
 public:
  Images(const Options& o, const TicDescription& d, int side) : seed_(o.seed()), side_(side) {
    if (!o.has("data.dir")) return;
    const std::string root = o.get<std::string>("data.dir");
    if (root == "cue") {
      data_ = std::make_unique<CueDataset>(CueOptions{side, side, false}, 1 << 20, seed_, false);
      return;
    }
    const auto source =
        open_images(root, validation_split(root, o.get<std::string>("data.val_split")),
                    folder_options(o, nullptr));
    tell_of(*source);
    data_ = std::make_unique<ImageDataset>(source, d.transform(side, side), d.exif);
  }
  int64_t size() const { return data_ ? data_->size() : INT64_MAX; }
  // Number `i` of `count`, spread over the data.
  Tensor image(int64_t i, int64_t count) const {
    const Tensor image = Tensor::empty({1, side_, side_, 3});
    if (data_) {
      data_->load({.seed = seed_, .epoch = 0, .index = (2 * i + 1) * data_->size() / (2 * count)},
                  image.data<float>());
      return image;
    }
    Philox random{seed_, kNoise + static_cast<uint64_t>(i)};
    float* pixels = image.data<float>();
    for (int64_t k = 0; k < image.numel(); ++k) pixels[k] = random.normal();
    return image;
  }

 private:
  uint64_t seed_;
  int side_;
  std::unique_ptr<Dataset> data_;
};

Field field_of(const Tic& model, const Images& images, int64_t count, int side) {
  Field field{model.config().name(), {side, side, {}}};
  std::vector<double> sums(static_cast<size_t>(side) * side);
  const auto stride = static_cast<double>(model.config().stride(model.config().depths.size() - 1));
  double centre_x = 0, centre_y = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Tensor input = raw::to_device(images.image(i, count), model.device());
    set_requires_grad(input, true);
    const Tensor out = model.features(input);
    const int64_t H = out.dim(1), W = out.dim(2), C = out.dim(3);
    const int64_t row = H / 2, column = W / 2;
    std::vector<float> signs(static_cast<size_t>(H * W * C));
    Philox random{kSigns, 0};
    for (int64_t c = 0; c < C; ++c)
      signs[static_cast<size_t>((row * W + column) * C + c)] = random.uniform() < 0.5f ? -1 : 1;
    backward(out, raw::to_device(Tensor::from(signs, {1, H, W, C}), model.device()));
    const auto g = grad(input).to_vector<float>();
    for (size_t p = 0; p < sums.size(); ++p)
      for (size_t c = 0; c < 3; ++c) sums[p] += std::abs(g[3 * p + c]);
    centre_y = (static_cast<double>(row) + 0.5) * stride;
    centre_x = (static_cast<double>(column) + 0.5) * stride;
  }
  const double total = std::accumulate(sums.begin(), sums.end(), 0.0);
  CHECK(total > 0 && std::isfinite(total), "receptive-field: the gradients add up to ", total);
  for (const double s : sums) field.map.values.push_back(static_cast<float>(s / total));
  field.half = radius_of(field.map, centre_x, centre_y, 0.5);
  field.most = radius_of(field.map, centre_x, centre_y, 0.9);
  return field;
}

// The four arms of the ablation; a strategy that the model lacks is the default one.
std::vector<std::pair<std::string, TicConfig>> arms_of(const TicConfig& c) {
  std::vector<std::pair<std::string, TicConfig>> arms;
  for (const bool pool : {false, true})
    for (const bool shift : {false, true}) {
      TicConfig arm = c;
      const bool has_shift = c.shift != TicConfig::Shift::off,
                 has_pool = c.pool != TicConfig::Pool::off;
      arm.shift = !shift ? TicConfig::Shift::off : has_shift ? c.shift : TicConfig::Shift::group;
      arm.pool = !pool ? TicConfig::Pool::off : has_pool ? c.pool : TicConfig::Pool::inter;
      arms.emplace_back(shift && pool ? "both"
                        : shift       ? "+ shift"
                        : pool        ? "+ pooling"
                                      : "plain",
                        arm);
    }
  return arms;
}

Outcome receptive_field(const Options& o) {
  const auto output = o.get<fs::path>("field.output");
  check_file_place(output, ".png");  // before the work
  const LoadedTic loaded = chosen_model(o, o.get<int>("data.img_size"), device_of(o));
  const TicDescription& d = loaded.description;
  const int side = o.get<int>("data.img_size") ? o.get<int>("data.img_size") : d.img_size;
  const Images images(o, d, side);
  const auto count = std::min<int64_t>(o.get<int64_t>("data.images"), images.size());
  if (count < o.get<int64_t>("data.images"))
    log_info("--images ", o.get<int64_t>("data.images"), ": there are ", count);
  std::vector<Field> fields;
  if (!draws_arms(o)) {
    fields.push_back(field_of(*loaded.model, images, count, side));
  } else {
    for (const auto& [name, config] : arms_of(d.config)) {
      Tic model(config);
      model.initialize(o.seed());
      move_to(model, loaded.model->device());
      fields.push_back(field_of(model, images, count, side));
      fields.back().name = name;
    }
  }
  std::vector<Image> pictures;
  std::vector<JsonObject> results;
  for (const Field& field : fields) {
    HeatMap shown = field.map;  // roots, so that the outer parts can be seen
    for (float& value : shown.values) value = std::sqrt(value);
    pictures.push_back(coloured(shown, std::max(1, kShown / side)));
    print_text(o, concat(field.name, ": 50 % within ", field.half, " pixels, 90 % within ",
                         field.most, "\n"));
    results.push_back(JsonObject()
                          .set("name", field.name)
                          .set("radius_50", field.half)
                          .set("radius_90", field.most));
  }
  write_png(output.string(), sheet(pictures, 4));
  print_result(o, concat("wrote ", output.string(), ": ", count, " images of ", side, "x", side,
                         ", from left to right as above; colours follow the root of the "
                         "gradient's size"));
  if (results.size() == 1)
    return results[0].set("output", output.string()).set("images", count).set("img_size", side);
  return JsonObject()
      .set("output", output.string())
      .set("images", count)
      .set("img_size", side)
      .set("results", results);
}

}  // namespace

Verb receptive_field_verb() { return {field_table(), receptive_field}; }

}  // namespace mullion
