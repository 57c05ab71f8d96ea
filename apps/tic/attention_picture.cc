// tool_tic attention: where a pixel of an image looks, laid over the image.
#include <cmath>
#include <numeric>

#include "apps/options/device.h"
#include "apps/tic/heat.h"
#include "apps/tic/image_data.h"
#include "apps/tic/model_choice.h"
#include "apps/tic/tool_verbs.h"
#include "data/png.h"
#include "tensor/io/file_place.h"
#include "tensor/words.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
constexpr int kShown = 224;  // pixels: smaller pictures are enlarged to at least about this

OptionTable attention_table() {
  OptionTable table("tool_tic attention", "Where a pixel of an image looks, laid over the image.");
  add_checkpoint_options(table);
  table.add_optional<fs::path>("data.image", "IMAGE", "a JPEG or PNG file").required();
  table.add_optional<int>("data.img_size", "--img-size", "side of the centre crop, pixels")
      .range(1, kMostImageSide);
  add_exif_option(table);
  table.add("attention.layer", "--layer", 0, "block, counted from 0 over all stages").at_least(0);
  table.add_optional<int64_t>("attention.head", "--head", "head, from 0 (default: a sheet of all)")
      .at_least(0);
  table.add_optional<std::string>("attention.at", "--at",
                                  "X,Y: the pixel that looks, in the image as the model sees it, "
                                  "resized and cropped (default: its middle)");
  table.add_optional<fs::path>("attention.output", "-o,--output", "PNG file to write").required();
  table.add_common_without(true, false);
  return table;
}

std::vector<int64_t> pixel_of(const Options& o, int side) {
  if (!o.has("attention.at")) return {side / 2, side / 2};
  std::vector<int64_t> at;
  for (const std::string& part : split(o.get<std::string>("attention.at"), ','))
    at.push_back(number_in<int64_t>(part).value_or(-1));
  CHECK_AS(Fault::usage, at.size() == 2 && at[0] >= 0 && at[0] < side && at[1] >= 0 && at[1] < side,
           "--at ", o.get<std::string>("attention.at"), ": expected X,Y, each from 0 to ",
           side - 1);
  return at;
}

Image picture_of(const Tensor& input, int side, const Normalization& n) {
  Batch batch;
  batch.count = 1;
  batch.images = input.to_vector<float>();
  return preview(batch, {side, side}, n);
}

Outcome draw_attention(const Options& o) {
  const auto output = o.get<fs::path>("attention.output");
  check_file_place(output, ".png");  // before the work
  const LoadedTic loaded = checkpoint_model(o, device_of(o));
  const TicDescription& d = loaded.description;
  const int side = o.has("data.img_size") ? o.get<int>("data.img_size") : d.img_size;
  const Tensor input =
      PictureFile(o.get<std::string>("data.image"), exif_of(o, d)).input(d.transform(side, side));
  const std::vector<int64_t> at = pixel_of(o, side);
  const auto layer = o.get<int64_t>("attention.layer");
  const auto stride = static_cast<int>(d.config.stride(d.config.stage_of(layer)));
  const Tensor seen = loaded.model->attention_from(raw::to_device(input, loaded.model->device()),
                                                   layer, at[1], at[0]);
  const int64_t heads = seen.dim(0);
  const int height = static_cast<int>(seen.dim(1)), width = static_cast<int>(seen.dim(2));
  int64_t first = 0, last = heads;
  if (o.has("attention.head")) {
    first = o.get<int64_t>("attention.head");
    CHECK_AS(Fault::usage, first < heads, "--head ", first, ": layer ", layer, " has heads 0 to ",
             heads - 1);
    last = first + 1;
  }
  const auto values = seen.to_vector<float>();
  const int times = std::max(1, (kShown + side - 1) / side);
  const Image picture = enlarged(picture_of(input, side, d.normalization), times);
  const int cell = stride * times, cell_x = static_cast<int>(at[0]) / stride,
            cell_y = static_cast<int>(at[1]) / stride;
  std::vector<Image> images;
  std::vector<JsonObject> results;
  print_text(o, concat("layer ", layer, ", map of ", height, "x", width, ", from (", at[0], ", ",
                       at[1], "); each head by itself, red is its largest weight\n"));
  for (int64_t head = first; head < last; ++head) {
    HeatMap map{width, height, {}};
    map.values.assign(values.begin() + head * height * width,
                      values.begin() + (head + 1) * height * width);
    images.push_back(overlaid(picture, map, cell));
    frame(images.back(), cell_x * cell, cell_y * cell, cell, cell);
    // How far its keys lie on average, and what keys outside the map take.
    double inside = 0, distance = 0;
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        const double weight = map.at(x, y);
        inside += weight;
        distance += weight * std::hypot(x - cell_x, y - cell_y);
      }
    const double pixels = inside > 0 ? distance / inside * stride : 0;
    print_text(o, concat("head ", head, ": ", 100 * inside, " % inside the map, mean distance ",
                         pixels, " pixels\n"));
    results.push_back(
        JsonObject().set("head", head).set("inside", inside).set("mean_distance", pixels));
  }
  const int across = static_cast<int>(std::ceil(std::sqrt(static_cast<double>(images.size()))));
  write_png(output.string(), sheet(images, across));
  print_result(o, concat("wrote ", output.string(),
                         images.size() > 1
                             ? concat(": heads ", first, " to ", last - 1, ", ", across, " a row")
                             : std::string()));
  return JsonObject()
      .set("output", output.string())
      .set("layer", layer)
      .set("map", std::vector<int64_t>{height, width})
      .set("heads", results);
}

}  // namespace

Verb attention_verb() { return {attention_table(), draw_attention}; }

}  // namespace mullion
