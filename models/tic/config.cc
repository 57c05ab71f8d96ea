// Presets, names of choices, checks, and the counts of parameters and multiply-adds.
#include "models/tic/config.h"

#include <nlohmann/json.hpp>

#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {
namespace {

// The names of an enum's values, in their order.
template <typename E>
struct Names;
template <>
struct Names<TicConfig::Block> {
  static constexpr const char* field = "block";
  static constexpr const char* list[] = {"tic", "released", "global"};
};
template <>
struct Names<TicConfig::Variant> {
  static constexpr const char* field = "variant";
  static constexpr const char* list[] = {"standard", "dilated", "depthwise"};
};
template <>
struct Names<TicConfig::Shift> {
  static constexpr const char* field = "shift";
  static constexpr const char* list[] = {"off", "group", "roll_map", "per_layer"};
};
template <>
struct Names<TicConfig::Pool> {
  static constexpr const char* field = "pool";
  static constexpr const char* list[] = {"inter", "off", "kv"};
};
template <>
struct Names<MsaBorder> {
  static constexpr const char* field = "border";
  static constexpr const char* list[] = {"zero_logit", "masked"};
};

template <typename E>
void parse(const std::string& name, E& value) {
  const auto& names = Names<E>::list;
  const auto found = std::find(std::begin(names), std::end(names), name);
  CHECK_AS(Fault::usage, found != std::end(names), Names<E>::field, ": ", name, " is not one of ",
           joined(names));
  value = static_cast<E>(found - std::begin(names));
}
template <typename E>
std::string text(E value) {
  return Names<E>::list[static_cast<int>(value)];
}

constexpr int64_t kMost = 1 << 20;  // no size of a model is larger

}  // namespace

std::string to_name(TicConfig::Block v) { return text(v); }
std::string to_name(TicConfig::Variant v) { return text(v); }
std::string to_name(TicConfig::Shift v) { return text(v); }
std::string to_name(TicConfig::Pool v) { return text(v); }
std::string to_name(MsaBorder v) { return text(v); }
void from_name(const std::string& name, TicConfig::Block& v) { parse(name, v); }
void from_name(const std::string& name, TicConfig::Variant& v) { parse(name, v); }
void from_name(const std::string& name, TicConfig::Shift& v) { parse(name, v); }
void from_name(const std::string& name, TicConfig::Pool& v) { parse(name, v); }
void from_name(const std::string& name, MsaBorder& v) { parse(name, v); }

const std::vector<std::string>& tic_presets() {
  static const std::vector<std::string> names = {"tic-n", "tic-t", "tic-s", "tic-b", "tic-rel-t"};
  return names;
}

TicConfig tic_preset(const std::string& name) {
  TicConfig c;  // tic-t
  c.preset = name;
  if (name == "tic-n") {
    c.dim = 32;
    c.depths = {2, 2, 2};
    c.heads = {2, 4, 8};
    c.kernel_h = c.kernel_w = 5;
    c.patch = 2;
    c.num_classes = 10;
  } else if (name == "tic-s") {
    c.depths = {2, 2, 18, 2};
  } else if (name == "tic-b") {
    c.dim = 128;
    c.depths = {2, 2, 18, 2};
    c.heads = {4, 8, 16, 32};
  } else if (name == "tic-rel-t") {
    c.heads = {1, 1, 1, 1};
    c.kernel_h = c.kernel_w = 3;
    c.block = TicConfig::Block::released;
    c.shift = TicConfig::Shift::off;
  } else {
    CHECK_AS(Fault::usage, name == "tic-t", "model: ", name,
             " is not one of tic-n, tic-t, tic-s, tic-b, tic-rel-t");
  }
  return c;
}

size_t TicConfig::stage_of(int64_t layer) const {
  CHECK_AS(Fault::usage, layer >= 0 && layer < blocks(), "--layer ", layer, ": the model has 0 to ",
           blocks() - 1);
  size_t stage = 0;
  while (layer >= depths[stage]) layer -= depths[stage++];
  return stage;
}

std::string TicConfig::title() const {
  return name() + (is_global() ? " (the twin of " + preset + " with global attention)"
                               : " (this project's reconstruction)");
}

void TicConfig::check() const {
  const auto positive = [](const char* field, int64_t value) {
    CHECK_AS(Fault::usage, value > 0 && value <= kMost, field, ": ", value, ", expected 1 to ",
             kMost);
  };
  positive("dim", dim);
  positive("patch", patch);
  positive("in_chans", in_chans);
  positive("num_classes", num_classes);
  positive("kv_pool", kv_pool);
  positive("mlp_ratio", mlp_ratio);
  CHECK_AS(Fault::usage, shift_size >= 0, "shift_size: ", shift_size, " is negative");
  CHECK_AS(Fault::usage, !depths.empty() && depths.size() <= 8, "depths: ", depths.size(),
           " stages, expected 1 to 8");
  CHECK_AS(Fault::usage, heads.size() == depths.size(), "heads: ", heads.size(), " numbers for ",
           depths.size(), " stages");
  CHECK_AS(Fault::usage, variant != Variant::dilated || dilation > 1,
           "variant: dilated with dilation ", dilation, ", expected 2 or more (--msa-dilation)");
  for (size_t i = 0; i < depths.size(); ++i) {
    positive("depths", depths[i]);
    positive("heads", heads[i]);
    CHECK_AS(Fault::usage, width(i) % heads[i] == 0, "heads: ", heads[i], " do not divide the ",
             width(i), " channels of stage ", i);
    CHECK_AS(Fault::usage, heads[i] >= 4 || width(i) % 4 == 0 || shift != Shift::group,
             "shift: ", width(i), " channels of stage ", i, " cannot be quartered");
  }
  CHECK_AS(Fault::usage, !is_global() || (positions > 0 && positions <= kMost),
           "positions: ", positions, ", block global expects 1 to ", kMost);
  CHECK_AS(Fault::usage, !is_global() || pool != Pool::kv,
           "pool: kv, but with block global there is no window whose keys could be pooled");
  // Said here by the flags, of which an operator knows nothing.
  CHECK_AS(Fault::usage, dilation % 2 == 0 || (kernel_h % 2 == 1 && kernel_w % 2 == 1),
           "kernel: ", kernel_h, "x", kernel_w, " with dilation ", dilation,
           ": an even kernel needs an even dilation, or the window has no middle "
           "(--msa-kernel, --msa-dilation)");
  MsaConvGeometry geometry;
  geometry.kernel_h = kernel_h;
  geometry.kernel_w = kernel_w;
  geometry.dilation = dilation;
  check_msa_conv(geometry);
}

nlohmann::json tic_model_args(const TicConfig& c) {
  nlohmann::json args = {{"preset", c.preset},
                         {"dim", c.dim},
                         {"depths", c.depths},
                         {"heads", c.heads},
                         {"kernel", {c.kernel_h, c.kernel_w}},
                         {"dilation", c.dilation},
                         {"patch", c.patch},
                         {"in_chans", c.in_chans},
                         {"num_classes", c.num_classes},
                         {"block", to_name(c.block)},
                         {"variant", to_name(c.variant)},
                         {"border", to_name(c.border)},
                         {"shift", to_name(c.shift)},
                         {"shift_size", c.shift_size},
                         {"pool", to_name(c.pool)},
                         {"kv_pool", c.kv_pool},
                         {"mlp_ratio", c.mlp_ratio},
                         {"mlp_dwconv", c.mlp_dwconv}};
  if (c.is_global()) args["positions"] = c.positions;
  return args;
}

TicConfig tic_from_model_args(const nlohmann::json& args, const std::string& file) {
  const auto integer = [&](const char* key, int64_t& value) {
    value = static_cast<int64_t>(get_uint_or(args, file, key, kMost, static_cast<uint64_t>(value)));
  };
  const auto integers = [&](const char* key, std::vector<int64_t>& values) {
    const nlohmann::json* field = find_field(args, file, key);
    if (!field) return;
    CHECK_AS(Fault::bad_file, field->is_array() && field->size() <= 8, file, ": ", key,
             " is not a list of at most 8 numbers");
    values.clear();
    for (const auto& v : *field)
      values.push_back(static_cast<int64_t>(as_uint(v, file, key, kMost)));
  };
  const auto named = [&](const char* key, auto& value) {
    from_name(get_string_or(args, file, key, to_name(value)), value);
  };
  nlohmann::json known = tic_model_args(TicConfig());
  known["positions"] = 0;
  for (const auto& [key, value] : args.items())
    CHECK_AS(Fault::bad_file, known.contains(key), file, ": model_args: ", key,
             " is no setting of a TiC");
  // Where these are not as in training, a model computes something else from the same weights.
  for (const char* key : {"preset", "patch", "kernel", "dilation", "variant", "border", "shift",
                          "shift_size", "pool", "in_chans"})
    CHECK_AS(Fault::bad_file, args.contains(key), file, ": model_args: ", key, " is missing");
  try {
    TicConfig c = tic_preset(get_string(args, file, "preset"));
    std::vector<int64_t> kernel = {c.kernel_h, c.kernel_w};
    integers("kernel", kernel);
    CHECK_AS(Fault::usage, kernel.size() == 2, "kernel: ", kernel.size(), " numbers, expected 2");
    c.kernel_h = kernel[0];
    c.kernel_w = kernel[1];
    integers("depths", c.depths);
    integers("heads", c.heads);
    for (auto [key, value] : {std::pair{"dim", &c.dim},
                              {"dilation", &c.dilation},
                              {"patch", &c.patch},
                              {"in_chans", &c.in_chans},
                              {"num_classes", &c.num_classes},
                              {"shift_size", &c.shift_size},
                              {"kv_pool", &c.kv_pool},
                              {"mlp_ratio", &c.mlp_ratio},
                              {"positions", &c.positions}})
      integer(key, *value);
    named("block", c.block);
    named("variant", c.variant);
    named("border", c.border);
    named("shift", c.shift);
    named("pool", c.pool);
    c.mlp_dwconv = get_bool_or(args, file, "mlp_dwconv", c.mlp_dwconv);
    c.check();
    return c;
  } catch (const Error& e) {
    if (e.fault() != Fault::usage) throw;
    throw Error(file + ": " + e.what(), Fault::bad_file, e.hint());
  }
}

double tic_parameters(const TicConfig& c) {
  const auto dim = static_cast<double>(c.dim), patch = static_cast<double>(c.patch);
  const auto taps = static_cast<double>(c.kernel_h) * static_cast<double>(c.kernel_w);
  const auto ratio = static_cast<double>(c.mlp_ratio), classes = static_cast<double>(c.num_classes);
  double total = static_cast<double>(c.in_chans) * patch * patch * dim + 3 * dim, C = dim;
  for (size_t i = 0; i < c.depths.size(); ++i, C *= 2) {
    const auto depth = static_cast<double>(c.depths[i]);
    const double stride = i + 1 == c.depths.size() ? 0 : 1;
    if (c.block == TicConfig::Block::released) {  // norm, qkv, convolution; the last one widens
      total += depth * (2 * C + 3 * C * C + 3 * C + taps * C * C) + stride * taps * C * C;
      continue;
    }
    total += depth * (4 * C + 4 * C * C + 4 * C + 2 * ratio * C * C + ratio * C + C);
    if (c.mlp_dwconv) total += depth * 10 * ratio * C;
    total += stride * (2 * C * C * (c.pool == TicConfig::Pool::inter ? 1 : 4) + 6 * C);
  }
  if (c.is_global())
    total += static_cast<double>(c.positions) * static_cast<double>(c.positions * c.dim);
  C /= 2;
  return total + 2 * C + C * classes + classes;
}

int64_t tic_macs(const TicConfig& c, int64_t height, int64_t width) {
  const int64_t taps = c.kernel_h * c.kernel_w;
  int64_t h = (height + c.patch - 1) / c.patch, w = (width + c.patch - 1) / c.patch;
  int64_t total = h * w * c.in_chans * c.patch * c.patch * c.dim;
  for (size_t i = 0; i < c.depths.size(); ++i) {
    const int64_t C = c.width(i), pixels = h * w, depth = c.depths[i];
    const bool last = i + 1 == c.depths.size();
    if (!last) {
      h = (h + 1) / 2;
      w = (w + 1) / 2;
    }
    const int64_t keys = c.is_global() ? pixels : taps;
    total += depth * pixels * (3 * C * C + 2 * keys * C);
    if (c.block == TicConfig::Block::released) {
      total += (depth - 1) * pixels * taps * C * C + h * w * taps * C * C * (last ? 1 : 2);
    } else {
      total += depth * pixels *
               (C * C + 2 * c.mlp_ratio * C * C + (c.mlp_dwconv ? 9 * c.mlp_ratio * C : 0));
      if (!last) total += h * w * 2 * C * C * (c.pool == TicConfig::Pool::inter ? 1 : 4);
    }
  }
  return total + c.width(c.depths.size() - 1) * c.num_classes;
}

}  // namespace mullion
