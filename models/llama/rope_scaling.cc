// Scaling of rotary frequencies: reading, writing, the table, and Position Interpolation.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "models/llama/config.h"
#include "tensor/check.h"
#include "tensor/io/json.h"

namespace mullion {

namespace {
using Kind = RopeScaling::Kind;
constexpr uint64_t kMaxContext = uint64_t{1} << 31;
constexpr double kMaxFactor = 1e6;

Kind kind_of(const std::string& name, const std::string& file) {
  if (name == "default" || name == "none") return Kind::none;
  if (name == "linear") return Kind::linear;
  if (name == "llama3") return Kind::llama3;
  fail(Fault::bad_file, file, ": \"", name, "\" is not supported; none, linear and llama3 are");
}

double factor_of(const nlohmann::json& json, const std::string& file, const char* key) {
  const double factor = get_number(json, file, key);
  CHECK_AS(Fault::bad_file, factor > 0 && factor <= kMaxFactor, file, ": ", key, " ", factor,
           " is not within 0 and ", kMaxFactor);
  return factor;
}

// Fields of another kind of scaling, or of none that is known, would be left out.
void check_fields(const nlohmann::json& json, const std::string& file, Kind kind) {
  for (const auto& [key, value] : json.items()) {
    const bool of_all = key == "type" || key == "rope_type" || key == "rope_theta" ||
                        key == "original_max_position_embeddings";
    const bool of_llama3 = key == "low_freq_factor" || key == "high_freq_factor";
    const bool used =
        of_all || (kind != Kind::none && key == "factor") || (kind == Kind::llama3 && of_llama3);
    const bool one = (key == "factor" || key == "partial_rotary_factor") && value == 1;
    CHECK_AS(Fault::bad_file, used || one || value.is_null(), file, ": ", key.substr(0, 60), " ",
             value.dump().substr(0, 60), " is not supported with this kind of scaling");
  }
}

double llama3_scaled(double theta, const RopeScaling& s) {
  const double wavelength = 2 * std::numbers::pi / theta;
  const double original = static_cast<double>(s.original_max_position_embeddings);
  if (wavelength < original / s.high_freq_factor) return theta;
  if (wavelength > original / s.low_freq_factor) return theta / s.factor;
  const double smooth =
      (original / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return (1 - smooth) * theta / s.factor + smooth * theta;
}
}  // namespace

RopeScaling parse_rope_scaling(const nlohmann::json& json, const std::string& file) {
  RopeScaling scaling;
  if (json.is_null()) return scaling;
  const std::string type = get_string_or(json, file, "type", "");
  const std::string rope_type = get_string_or(json, file, "rope_type", type);
  CHECK_AS(Fault::bad_file, !rope_type.empty(), file, ": no \"rope_type\"");
  CHECK_AS(Fault::bad_file, type.empty() || type == rope_type, file, ": says type \"", type,
           "\" and rope_type \"", rope_type, "\"");
  scaling.kind = kind_of(rope_type, file);
  check_fields(json, file, scaling.kind);
  if (scaling.kind == Kind::none) return scaling;
  scaling.factor = factor_of(json, file, "factor");
  CHECK_AS(Fault::bad_file, scaling.factor >= 1, file, ": factor ", scaling.factor, " is below 1");
  if (scaling.kind == Kind::llama3) {
    scaling.low_freq_factor = factor_of(json, file, "low_freq_factor");
    scaling.high_freq_factor = factor_of(json, file, "high_freq_factor");
    scaling.original_max_position_embeddings =
        static_cast<int64_t>(get_uint(json, file, "original_max_position_embeddings", kMaxContext));
    CHECK_AS(Fault::bad_file, scaling.low_freq_factor < scaling.high_freq_factor, file,
             ": low_freq_factor ", scaling.low_freq_factor, " is not below high_freq_factor ",
             scaling.high_freq_factor);
    CHECK_AS(Fault::bad_file, scaling.original_max_position_embeddings > 0, file,
             ": original_max_position_embeddings is 0");
  }
  return scaling;
}

nlohmann::json to_json(const RopeScaling& scaling) {
  switch (scaling.kind) {
    case Kind::none:
      return nullptr;
    case Kind::linear:  // a third field, or "rope_type" alone, breaks older readers
      return {{"type", "linear"}, {"factor", scaling.factor}};
    case Kind::llama3:
      return {{"rope_type", "llama3"},
              {"factor", scaling.factor},
              {"low_freq_factor", scaling.low_freq_factor},
              {"high_freq_factor", scaling.high_freq_factor},
              {"original_max_position_embeddings", scaling.original_max_position_embeddings}};
  }
  return nullptr;
}

std::vector<float> rope_inv_freq(const LlamaConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  std::vector<float> inv_freq(static_cast<size_t>(config.head_dim / 2));
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    double theta = std::pow(config.rope_theta, -exponent);
    if (scaling.kind == Kind::linear) theta /= scaling.factor;
    if (scaling.kind == Kind::llama3) theta = llama3_scaled(theta, scaling);
    inv_freq[i] = static_cast<float>(theta);
  }
  return inv_freq;
}

int64_t usable_context(const LlamaConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  if (scaling.kind != Kind::linear) return config.max_position_embeddings;
  const int64_t original = scaling.original_max_position_embeddings > 0
                               ? scaling.original_max_position_embeddings
                               : config.max_position_embeddings;
  return static_cast<int64_t>(static_cast<double>(original) * scaling.factor);
}

void extend_context(LlamaConfig& config, int64_t target) {
  CHECK_AS(Fault::usage, target > 0 && static_cast<uint64_t>(target) <= kMaxContext,
           "a context of ", target, " tokens, 1 to ", kMaxContext, " are possible");
  const int64_t usable = usable_context(config);
  if (target <= usable) return;
  RopeScaling& scaling = config.rope_scaling;
  CHECK_AS(Fault::usage, scaling.kind != Kind::llama3, "a context of ", target,
           " tokens: the model has llama3 rope scaling for ", usable,
           ", on which linear scaling cannot be put");
  const int64_t original = scaling.original_max_position_embeddings > 0
                               ? scaling.original_max_position_embeddings
                               : config.max_position_embeddings;
  const int64_t times = (target + usable - 1) / usable;
  const double factor = scaling.factor * static_cast<double>(times);
  const double extended = static_cast<double>(original) * factor;
  CHECK_AS(Fault::usage, factor <= kMaxFactor && extended <= static_cast<double>(kMaxContext),
           "a context of ", target, " tokens needs a rope factor of ", factor, " over ", original,
           " positions, at most ", kMaxFactor, " and ", kMaxContext, " in all are possible");
  scaling = {Kind::linear, factor, 1, 4, original};
  config.max_position_embeddings = static_cast<int64_t>(extended);
}

}  // namespace mullion
