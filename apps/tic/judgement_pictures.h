// What an evaluation says beyond top-1, as pictures (SVG).
#pragma once
#include <string>
#include <vector>

#include "apps/tic/judgement.h"

namespace mullion {

// A row a true class, a column a predicted one, coloured by the share of the row's images; the
// classes' names beside it where there is room for them.
std::string confusion_svg(const std::vector<Judged>& judged, const std::vector<std::string>& names);

// Accuracy over confidence by bins, beside the diagonal of a model that is as sure as it is right;
// and where the images are.
std::string reliability_svg(const Calibration& calibration);

}  // namespace mullion
