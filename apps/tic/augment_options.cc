// An option for each that a step declares; the tables of all steps are one.
#include "apps/tic/augment_options.h"

#include <cmath>

namespace mullion {
namespace {

std::string key_of(const AugmentOption& option) { return "augment." + option.key; }

}  // namespace

void add_augment_options(OptionTable& table) {
  for (const AugmentationKind& kind : augmentation_kinds()) {
    for (const AugmentOption& option : kind.options) {
      std::visit(
          [&](const auto& fallback) {
            OptionSpec& spec = table.add(key_of(option), option.flags, fallback, option.help);
            spec.repeats();  // lists are bounds here: two that are equal leave nothing to chance
            if (!option.choices.empty()) spec.one_of(option.choices);
            if (std::isfinite(option.low) || std::isfinite(option.high))
              spec.range(option.low, option.high);
          },
          option.fallback);
    }
  }
}

AugmentSettings augment_settings(const Options& options, int size, Interpolation interpolation,
                                 const Normalization& normalization) {
  AugmentSettings settings;
  settings.height = settings.width = size;
  settings.interpolation = interpolation;
  settings.normalization = normalization;
  for (const AugmentationKind& kind : augmentation_kinds()) {
    for (const AugmentOption& option : kind.options) {
      if (options.is_default(key_of(option))) continue;
      std::visit(
          [&](const auto& fallback) {
            using T = std::decay_t<decltype(fallback)>;
            settings.set(option.key, options.get<T>(key_of(option)));
          },
          option.fallback);
    }
  }
  return settings;
}

}  // namespace mullion
