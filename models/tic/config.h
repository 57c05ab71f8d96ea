// What a TiC is made of (arXiv 2310.04134). The paper's abstract and released operator fix the
// operator; every other choice here is this project's reconstruction (docs/tic.md), and each is a
// named field, so that someone who knows better changes a configuration, not code.
#pragma once
#include <algorithm>
#include <nlohmann/json_fwd.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "tensor/kernel_args/msa_conv.h"

namespace mullion {

struct TicConfig {
  // tic: ours; released: steps 1-5 of the released operator (docs/tic.md); global: the twin to
  // compare with, in which each pixel of a map attends to all others (models/tic/global.h).
  enum class Block { tic, released, global };
  enum class Variant { standard, dilated, depthwise };  // depthwise: one head a channel
  enum class Shift { off, group, roll_map, per_layer };
  // inter: the largest of 2 x 2, then a 1 x 1 convolution; off: a convolution of 2 x 2, stride 2.
  enum class Pool { inter, off, kv };

  std::string preset = "tic-t";
  int64_t dim = 96;  // C of the first stage; doubles from stage to stage
  std::vector<int64_t> depths = {2, 2, 6, 2};
  std::vector<int64_t> heads = {3, 6, 12, 24};  // of depthwise: not used
  int64_t kernel_h = 7, kernel_w = 7, dilation = 1;
  int64_t patch = 4, in_chans = 3, num_classes = 1000;
  Block block = Block::tic;
  Variant variant = Variant::standard;
  MsaBorder border = MsaBorder::zero_logit;
  Shift shift = Shift::group;
  int64_t shift_size = 0;  // 0: the kernel's longer side
  Pool pool = Pool::inter;
  int64_t kv_pool = 2;  // r of pool = kv
  int64_t mlp_ratio = 4;
  bool mlp_dwconv = false;
  double layer_norm_eps = 1e-5;
  int64_t positions = 0;  // block global: side of the table of learned positions, patches

  int64_t width(size_t stage) const { return dim << stage; }
  // Pixels of the image from one token of a stage's map to the next. Where they do not divide the
  // image's side, the last token stands over its edge.
  int64_t stride(size_t stage) const { return patch << stage; }
  size_t stage_of(int64_t layer) const;  // of a block, counted over all stages
  int64_t blocks() const { return std::accumulate(depths.begin(), depths.end(), int64_t{0}); }
  int64_t shift_amount() const { return shift_size ? shift_size : std::max(kernel_h, kernel_w); }
  bool is_global() const { return block == Block::global; }
  std::string name() const { return is_global() ? preset + "-global" : preset; }
  std::string title() const;  // the name, and whose choice the model is
  // Throws Error (usage) that names the field and its value.
  void check() const;
};

TicConfig tic_preset(const std::string& name);
const std::vector<std::string>& tic_presets();  // tic-n, tic-t, tic-s, tic-b, tic-rel-t

// Names as in flags and files: "zero_logit", "group", ...; from_name throws on an unknown one.
std::string to_name(TicConfig::Block v);
std::string to_name(TicConfig::Variant v);
std::string to_name(TicConfig::Shift v);
std::string to_name(TicConfig::Pool v);
std::string to_name(MsaBorder v);
void from_name(const std::string& name, TicConfig::Block& v);
void from_name(const std::string& name, TicConfig::Variant& v);
void from_name(const std::string& name, TicConfig::Shift& v);
void from_name(const std::string& name, TicConfig::Pool& v);
void from_name(const std::string& name, MsaBorder& v);

// The `model_args` of config.json, in timm's form.
nlohmann::json tic_model_args(const TicConfig& config);
TicConfig tic_from_model_args(const nlohmann::json& args, const std::string& file);

// Elements of all parameters; a double, since a configuration from a file may describe any number.
double tic_parameters(const TicConfig& config);

// Multiply-adds of one image of the given size; norms, softmax, pooling and additions not counted.
int64_t tic_macs(const TicConfig& config, int64_t height, int64_t width);

}  // namespace mullion
