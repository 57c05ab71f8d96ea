// The model's forward again, each step as nodes; windows are slices of padded maps, one a tap.
#include "apps/tic/export/tic_onnx.h"

#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "apps/tic/export/onnx_writer.h"
#include "nn/state.h"

namespace mullion {
namespace {

using Names = std::vector<std::string>;
constexpr int64_t kEnd = std::numeric_limits<int64_t>::max();

class TicGraph {
 public:
  TicGraph(Tic& model, const TicDescription& d) : c_(d.config) {
    for (const NamedParameter& p : named_parameters(model)) weights_[p.name] = p.value;
    g_.input("images", {"batch", c_.in_chans, "height", "width"});
    std::string x = patch_conv("images", "stem", c_.patch);
    int64_t shifted = 0;
    for (size_t i = 0; i < c_.depths.size(); ++i) x = stage(x, i, shifted);
    x = norm(x, "norm");
    x = g_.node("ReduceMean", {x}, {{"axes", std::vector<int64_t>{1, 2}}, {"keepdims", 0}});
    x = g_.node("MatMul", {x, transposed("head.weight")});
    g_.node("Add", {x, parameter("head.bias")}, {}, "logits");
    g_.output("logits", {"batch", c_.num_classes});
  }
  const OnnxGraph& graph() const { return g_; }

 private:
  // Maps are (B, H, W, C) between layers, as in models/tic/model.cc, and (B, C, H, W) inside
  // convolutions and windows.
  std::string to_nchw(const std::string& x) {
    return g_.node("Transpose", {x}, {{"perm", std::vector<int64_t>{0, 3, 1, 2}}});
  }
  std::string to_nhwc(const std::string& x) {
    return g_.node("Transpose", {x}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
  }

  std::string parameter(const std::string& name) {
    const Tensor& w = weights_.at(name);
    return g_.tensor(name, {w.shape().begin(), w.shape().end()}, w.to_vector<float>());
  }
  std::string transposed(const std::string& name) {
    const Tensor& w = weights_.at(name);
    const auto values = w.to_vector<float>();
    const auto rows = static_cast<size_t>(w.dim(0)), columns = static_cast<size_t>(w.dim(1));
    std::vector<float> turned(values.size());
    for (size_t r = 0; r < rows; ++r)
      for (size_t k = 0; k < columns; ++k) turned[k * rows + r] = values[r * columns + k];
    return g_.tensor(name + ".T", {w.dim(1), w.dim(0)}, turned);
  }
  std::string linear(const std::string& x, const std::string& name) {
    const std::string y = g_.node("MatMul", {x, transposed(name + ".weight")});
    return g_.node("Add", {y, parameter(name + ".bias")});
  }
  std::string norm(const std::string& x, const std::string& name) {
    return g_.node("LayerNormalization",
                   {x, parameter(name + ".weight"), parameter(name + ".bias")},
                   {{"axis", -1}, {"epsilon", static_cast<float>(c_.layer_norm_eps)}});
  }

  // The size of one axis of a (B, C, H, W) map, as one number in a list.
  std::string size_of(const std::string& x, int64_t axis) {
    return g_.node("Gather", {g_.node("Shape", {x}), g_.ints({axis})}, {{"axis", 0}});
  }
  // Zeros at the end of both axes, up to a multiple of n.
  std::string padded_to(const std::string& x, int64_t n) {
    const auto missing = [&](int64_t axis) {
      return g_.node("Mod", {g_.node("Neg", {size_of(x, axis)}), g_.ints({n})});
    };
    const std::string pads =
        g_.node("Concat", {g_.ints({0, 0, 0, 0, 0, 0}), missing(2), missing(3)}, {{"axis", 0}});
    return g_.node("Pad", {x, pads});
  }
  std::string conv(const std::string& x, const std::string& name, int64_t stride, int64_t dilation,
                   const std::vector<int64_t>& pads, int64_t groups, bool bias) {
    Names inputs = {x, parameter(name + ".weight")};
    if (bias) inputs.push_back(parameter(name + ".bias"));
    return g_.node("Conv", inputs,
                   {{"strides", std::vector<int64_t>{stride, stride}},
                    {"dilations", std::vector<int64_t>{dilation, dilation}},
                    {"pads", pads},
                    {"group", groups}});
  }
  std::string patch_conv(const std::string& nchw, const std::string& name, int64_t side) {
    const std::string x = side > 1 ? padded_to(nchw, side) : nchw;
    return norm(to_nhwc(conv(x, name + ".conv", side, 1, {0, 0, 0, 0}, 1, true)), name + ".norm");
  }

  // torch.roll of a map by (dy, dx): what leaves at one end comes back at the other.
  std::string rolled(std::string x, int64_t dy, int64_t dx) {
    for (const auto& [axis, by] : {std::pair<int64_t, int64_t>{2, dy}, {3, dx}}) {
      if (by == 0) continue;
      const std::string cut = g_.node("Mod", {g_.ints({-by}), size_of(x, axis)});
      const std::string at = g_.ints({axis});
      x = g_.node("Concat",
                  {g_.node("Slice", {x, cut, g_.ints({kEnd}), at}),
                   g_.node("Slice", {x, g_.ints({0}), cut, at})},
                  {{"axis", axis}});
    }
    return x;
  }
  // The direction of a channel, as in tensor/kernel_args/msa_conv.h.
  std::string rolled_channels(const std::string& x, int64_t channels, int64_t heads, int64_t only) {
    const int64_t s = c_.shift_amount();
    const std::pair<int64_t, int64_t> directions[] = {{s, 0}, {-s, 0}, {0, s}, {0, -s}};
    if (only >= 0) return rolled(x, directions[only].first, directions[only].second);
    const int64_t parts = heads < 4 ? channels : heads, width = channels / parts;
    Names groups;
    for (int64_t direction = 0, begin = 0; direction < 4; ++direction) {
      int64_t end = begin;
      while (end < parts && 4 * end / parts == direction) ++end;
      if (end > begin) {
        const std::string part =
            g_.node("Slice", {x, g_.ints({begin * width}), g_.ints({end * width}), g_.ints({1})});
        groups.push_back(rolled(part, directions[direction].first, directions[direction].second));
      }
      begin = end;
    }
    return groups.size() == 1 ? groups[0] : g_.node("Concat", groups, {{"axis", 1}});
  }

  // (B, C, H, W) to (B, C taps, H, W): each channel's neighbours, by a convolution with ones.
  std::string taps(const std::string& x, int64_t channels) {
    const int64_t T = c_.kernel_h * c_.kernel_w;
    std::vector<float> ones(static_cast<size_t>(channels * T * T));
    for (int64_t i = 0; i < channels * T; ++i) ones[static_cast<size_t>(i * T + i % T)] = 1;
    const std::string weight =
        g_.tensor(concat("taps_of_", channels), {channels * T, 1, c_.kernel_h, c_.kernel_w}, ones);
    const int64_t above = c_.dilation * (c_.kernel_h - 1) / 2,
                  left = c_.dilation * (c_.kernel_w - 1) / 2;
    return g_.node("Conv", {x, weight},
                   {{"dilations", std::vector<int64_t>{c_.dilation, c_.dilation}},
                    {"pads", std::vector<int64_t>{above, left, above, left}},
                    {"group", channels}});
  }
  std::string ones_like(const std::string& x) {
    const std::string shape =
        g_.node("Concat", {g_.ints({1, 1}), size_of(x, 2), size_of(x, 3)}, {{"axis", 0}});
    return g_.node("Expand", {g_.number(1), shape});
  }
  // Means over r x r cells; of those that the border cuts, of what is inside.
  std::string average_pooled(const std::string& x) {
    const auto pooled = [&](const std::string& z) {
      return g_.node("AveragePool", {padded_to(z, c_.kv_pool)},
                     {{"kernel_shape", std::vector<int64_t>{c_.kv_pool, c_.kv_pool}},
                      {"strides", std::vector<int64_t>{c_.kv_pool, c_.kv_pool}}});
    };
    return g_.node("Div", {pooled(x), pooled(ones_like(x))});
  }
  // Of a map with a cell for r x r queries: for each query its cell.
  std::string spread(const std::string& x, const std::string& like) {
    std::string out = x;
    for (const int64_t axis : {2, 3}) {
      const std::string zero = g_.node("Squeeze", {g_.ints({0})}),
                        one = g_.node("Squeeze", {g_.ints({1})}),
                        end = g_.node("Squeeze", {size_of(like, axis)});
      const std::string cells =
          g_.node("Div", {g_.node("Range", {zero, end, one}), g_.ints({c_.kv_pool})});
      out = g_.node("Gather", {out, cells}, {{"axis", axis}});
    }
    return out;
  }
  // (B, n, H, W) as (B, dims..., H, W), H and W those of `like`.
  std::string split(const std::string& x, const std::vector<int64_t>& dims,
                    const std::string& like) {
    std::vector<int64_t> first = {0};
    first.insert(first.end(), dims.begin(), dims.end());
    return g_.node("Reshape",
                   {x, g_.node("Concat", {g_.ints(first), size_of(like, 2), size_of(like, 3)},
                               {{"axis", 0}})});
  }

  struct Shift {
    bool map = false, channels = false;
    int64_t only = -1;  // the one direction of all channels
  };
  std::string attention(const std::string& x, const std::string& name, int64_t C, int64_t heads,
                        const Shift& shift, bool project) {
    const int64_t T = c_.kernel_h * c_.kernel_w, width = C / heads, s = c_.shift_amount();
    const bool pooled = c_.pool == TicConfig::Pool::kv && c_.kv_pool > 1;
    std::string packed = to_nchw(linear(x, name + ".qkv"));
    if (shift.map) packed = rolled(packed, -s, -s);
    const auto part = [&](int64_t i) {
      return g_.node("Slice", {packed, g_.ints({i * C}), g_.ints({(i + 1) * C}), g_.ints({1})});
    };
    const std::string q = part(0);
    std::string k = part(1), v = part(2), inside;
    for (std::string* z : {&k, &v}) {
      if (pooled) *z = average_pooled(*z);
      if (shift.channels) *z = rolled_channels(*z, C, heads, shift.only);
    }
    if (c_.border == MsaBorder::masked) inside = taps(ones_like(k), 1);
    for (std::string* z : {&k, &v}) *z = taps(*z, C);
    if (pooled)
      for (std::string* z : {&k, &v, &inside})
        if (!z->empty()) *z = spread(*z, q);
    k = split(k, {heads, width, T}, q);
    v = split(v, {heads, width, T}, q);
    std::string logits = g_.node("Mul", {split(q, {heads, width, 1}, q), k});
    logits = g_.node("ReduceSum", {logits, g_.ints({2})}, {{"keepdims", 0}});
    logits = g_.node(
        "Mul", {logits, g_.number(static_cast<float>(1 / std::sqrt(static_cast<double>(width))))});
    if (!inside.empty()) {
      const std::string zero = g_.number(0);
      const std::string seen = g_.node("Greater", {inside, zero});
      const std::string any = g_.node(
          "Greater", {g_.node("ReduceMax", {inside}, {{"axes", std::vector<int64_t>{1}}}), zero});
      // A window may lie outside as a whole, and then is seen as it is.
      const std::string keep = g_.node("Or", {seen, g_.node("Not", {any})});
      logits = g_.node("Where", {keep, logits, g_.number(-std::numeric_limits<float>::infinity())});
    }
    std::string a = g_.node("Softmax", {logits}, {{"axis", 2}});
    a = g_.node("Unsqueeze", {a, g_.ints({2})});
    std::string o = g_.node("ReduceSum", {g_.node("Mul", {a, v}), g_.ints({3})}, {{"keepdims", 0}});
    o = split(o, {C}, q);
    if (shift.map) o = rolled(o, s, s);
    o = to_nhwc(o);
    return project ? linear(o, name + ".proj") : o;
  }

  std::string gelu(const std::string& x) {
    const std::string erf =
        g_.node("Erf", {g_.node("Mul", {x, g_.number(static_cast<float>(std::sqrt(0.5)))})});
    return g_.node("Mul",
                   {g_.node("Mul", {x, g_.number(0.5f)}), g_.node("Add", {erf, g_.number(1)})});
  }

  std::string block(std::string x, const std::string& name, int64_t C, int64_t heads,
                    const Shift& shift) {
    const std::string z = norm(x, name + ".norm1");
    if (c_.block == TicConfig::Block::released) {
      const Tensor& w = weights_.at(name + ".conv.weight");
      const int64_t above = c_.dilation * (c_.kernel_h - 1) / 2,
                    left = c_.dilation * (c_.kernel_w - 1) / 2;
      x = g_.node("Add", {attention(z, name + ".attn", C, heads, shift, false), z});
      x = conv(to_nchw(x), name + ".conv", w.dim(0) / w.dim(1), c_.dilation,
               {above, left, above, left}, 1, false);
      return to_nhwc(g_.node("Relu", {x}));
    }
    x = g_.node("Add", {x, attention(z, name + ".attn", C, heads, shift, true)});
    std::string y = linear(norm(x, name + ".norm2"), name + ".mlp.fc1");
    if (c_.mlp_dwconv)
      y = to_nhwc(
          conv(to_nchw(y), name + ".mlp.dwconv", 1, 1, {1, 1, 1, 1}, c_.mlp_ratio * C, true));
    return g_.node("Add", {x, linear(gelu(y), name + ".mlp.fc2")});
  }

  std::string stage(std::string x, size_t i, int64_t& shifted) {
    const std::string name = concat("stages.", i);
    const int64_t C = c_.width(i);
    const int64_t heads = c_.variant == TicConfig::Variant::depthwise ? C : c_.heads[i];
    for (int64_t j = 0; j < c_.depths[i]; ++j) {
      Shift shift;
      if (j % 2 == 1) {
        shift.map = c_.shift == TicConfig::Shift::roll_map;
        shift.channels =
            c_.shift == TicConfig::Shift::group || c_.shift == TicConfig::Shift::per_layer;
        if (c_.shift == TicConfig::Shift::per_layer) shift.only = shifted % 4;
      }
      x = block(x, concat(name, ".blocks.", j), C, heads, shift);
      shifted += j % 2;
    }
    if (i + 1 == c_.depths.size() || c_.block == TicConfig::Block::released) return x;
    x = to_nchw(x);
    if (c_.pool != TicConfig::Pool::inter) return patch_conv(x, name + ".downsample", 2);
    x = g_.node("MaxPool", {x},
                {{"kernel_shape", std::vector<int64_t>{2, 2}},
                 {"strides", std::vector<int64_t>{2, 2}},
                 {"ceil_mode", 1}});
    return patch_conv(x, name + ".downsample", 1);
  }

  const TicConfig& c_;
  std::map<std::string, Tensor> weights_;
  OnnxGraph g_;
};

}  // namespace

std::string tic_as_onnx(Tic& model, const TicDescription& d) {
  const TicGraph graph(model, d);
  const auto text = [](const nlohmann::json& json) { return json.dump(); };
  return graph.graph().model(17, d.config.preset,
                             {{"label_names", text(d.classes)},
                              {"mean", text(d.normalization.mean)},
                              {"std", text(d.normalization.std)},
                              {"input_size", text({3, d.img_size, d.img_size})},
                              {"crop_pct", text(d.crop_pct)},
                              {"interpolation", to_name(d.interpolation)},
                              {"model_args", text(tic_model_args(d.config))}});
}

}  // namespace mullion
