// A table of operations: name, direction, and what a magnitude means for it.
#include "data/rand_augment.h"

#include <algorithm>

#include "tensor/check.h"
#include "tensor/words.h"

namespace mullion {
namespace {

using Context = const AugmentContext&;

// The enhancements' factor; the increasing ones move away from 1 to both sides.
float factor(double magnitude) { return static_cast<float>(magnitude / 10 * 1.8 + 0.1); }
float factor_from_one(double magnitude, double sign) {
  return static_cast<float>(std::max(0.1, 1 + sign * (magnitude / 10 * 0.9)));
}
int bits(double magnitude) { return static_cast<int>(magnitude / 10 * 4); }
int threshold(double magnitude) { return std::min(256, static_cast<int>(magnitude / 10 * 256)); }

void shear_x(Image& image, double m, double sign, Context c) {
  affine(image, {1, sign * (m / 10 * 0.3), 0, 0, 1, 0}, c.interpolation, c.fill);
}
void shear_y(Image& image, double m, double sign, Context c) {
  affine(image, {1, 0, 0, sign * (m / 10 * 0.3), 1, 0}, c.interpolation, c.fill);
}
void translate_x(Image& image, double m, double sign, Context c) {
  affine(image, {1, 0, sign * (m / 10 * 0.45) * image.width, 0, 1, 0}, c.interpolation, c.fill);
}
void translate_y(Image& image, double m, double sign, Context c) {
  affine(image, {1, 0, 0, 0, 1, sign * (m / 10 * 0.45) * image.height}, c.interpolation, c.fill);
}

#define OPERATION(code)                                                                            \
  [](Image& i, [[maybe_unused]] double m, [[maybe_unused]] double s, [[maybe_unused]] Context c) { \
    code;                                                                                          \
  }
constexpr AugmentOperation kOperations[] = {
    {"AutoContrast", OPERATION(auto_contrast(i))},
    {"Equalize", OPERATION(equalize(i))},
    {"Invert", OPERATION(invert(i))},
    {"Rotate", OPERATION(rotate(i, s*(m / 10 * 30), c.interpolation, c.fill))},
    {"Posterize", OPERATION(posterize(i, bits(m)))},
    {"PosterizeIncreasing", OPERATION(posterize(i, 4 - bits(m)))},
    {"Solarize", OPERATION(solarize(i, threshold(m)))},
    {"SolarizeIncreasing", OPERATION(solarize(i, 256 - threshold(m)))},
    {"SolarizeAdd", OPERATION(solarize_add(i, std::min(128, static_cast<int>(m / 10 * 110))))},
    {"Color", OPERATION(adjust_color(i, factor(m)))},
    {"ColorIncreasing", OPERATION(adjust_color(i, factor_from_one(m, s)))},
    {"Contrast", OPERATION(adjust_contrast(i, factor(m)))},
    {"ContrastIncreasing", OPERATION(adjust_contrast(i, factor_from_one(m, s)))},
    {"Brightness", OPERATION(adjust_brightness(i, factor(m)))},
    {"BrightnessIncreasing", OPERATION(adjust_brightness(i, factor_from_one(m, s)))},
    {"Sharpness", OPERATION(adjust_sharpness(i, factor(m)))},
    {"SharpnessIncreasing", OPERATION(adjust_sharpness(i, factor_from_one(m, s)))},
    {"ShearX", shear_x},
    {"ShearY", shear_y},
    {"TranslateXRel", translate_x},
    {"TranslateYRel", translate_y},
};
#undef OPERATION

template <typename T>
T number(std::string_view text, double low, double high, const std::string& part) {
  const auto value = number_in<T>(text);
  CHECK_AS(Fault::usage,
           value && static_cast<double>(*value) >= low && static_cast<double>(*value) <= high,
           "--aa: ", part, ": expected a number in [", low, ", ", high, "]");
  return *value;
}

}  // namespace

const AugmentOperation& augment_operation(std::string_view name) {
  for (const AugmentOperation& operation : kOperations)
    if (name == operation.name) return operation;
  fail(Fault::usage, "no augmentation is named ", name);
}

RandAugmentPolicy parse_rand_augment(const std::string& text) {
  RandAugmentPolicy p;
  bool increasing = false;
  std::string_view rest = text;
  for (bool first = true; !rest.empty(); first = false) {
    const size_t dash = rest.find('-');
    const std::string part(rest.substr(0, dash));
    rest = dash == std::string_view::npos ? "" : rest.substr(dash + 1);
    if (first) {
      CHECK_AS(Fault::usage, part == "rand", "--aa: ", text,
               ", expected e.g. rand-m9-mstd0.5-inc1");
      continue;
    }
    const size_t digit = std::min(part.find_first_of("0123456789."), part.size());
    const std::string key = part.substr(0, digit);
    const std::string_view value = std::string_view(part).substr(digit);
    if (key == "m") {
      p.magnitude = number<int>(value, 0, 100, part);
    } else if (key == "n") {
      p.count = number<int>(value, 1, 100, part);
    } else if (key == "p") {
      p.probability = number<double>(value, 0, 1, part);
    } else if (key == "mstd") {
      p.noise = number<double>(value, 0, 1e9, part);
      p.uniform = p.noise > 100;
    } else if (key == "mmax") {
      p.most = number<int>(value, 1, 100, part);
    } else if (key == "inc") {
      // timm takes inc0 as inc1.
      CHECK_AS(Fault::usage, value == "1", "--aa: ", part, ": expected inc1, or no inc at all");
      increasing = true;
    } else {
      fail(Fault::usage, "--aa: ", part, " of ", text, ": known are m, n, p, mstd, mmax and inc1");
    }
  }
  const std::string suffix = increasing ? "Increasing" : "";
  for (const char* name : {"AutoContrast", "Equalize", "Invert", "Rotate"})
    p.operations.push_back(&augment_operation(name));
  p.operations.push_back(&augment_operation("Posterize" + suffix));
  p.operations.push_back(&augment_operation("Solarize" + suffix));
  p.operations.push_back(&augment_operation("SolarizeAdd"));
  for (const char* name : {"Color", "Contrast", "Brightness", "Sharpness"})
    p.operations.push_back(&augment_operation(name + suffix));
  for (const char* name : {"ShearX", "ShearY", "TranslateXRel", "TranslateYRel"})
    p.operations.push_back(&augment_operation(name));
  return p;
}

void apply(const RandAugmentPolicy& p, const AugmentContext& context, Image& image,
           Philox& random) {
  for (int i = 0; i < p.count; ++i) {
    // All numbers are drawn whether they are used or not, so that a step's place in the stream is
    // the same in every sample.
    const auto which = random.below(static_cast<uint32_t>(p.operations.size()));
    const bool done = random.uniform() < p.probability;
    const double sign = random.uniform() < 0.5f ? -1 : 1, share = random.uniform();
    double magnitude = p.magnitude + p.noise * random.normal();
    if (p.uniform) magnitude = p.magnitude * share;
    magnitude = std::clamp(magnitude, 0.0, p.most);
    if (done) p.operations[which]->apply(image, magnitude, sign, context);
  }
}

}  // namespace mullion
