// The MSA-Conv kernels against unfold in PyTorch (tests/golden/msa_conv.*): forward and the three
// gradients in f32 and f64. Two of the options are not the kernel's but its caller's, and are done
// here: averaging K and V, and rolling the whole map.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "tensor/check.h"
#include "tensor/cpu/kernels.h"
#include "tests/golden.h"

namespace mullion {
namespace {

struct Map {
  int64_t batch, height, width, channels;
  std::vector<double> values;

  double& at(int64_t b, int64_t y, int64_t x, int64_t c) {
    return values[static_cast<size_t>(((b * height + y) * width + x) * channels + c)];
  }
};

template <typename F>
void each_element(const Map& map, const F& visit) {
  for (int64_t b = 0; b < map.batch; ++b)
    for (int64_t y = 0; y < map.height; ++y)
      for (int64_t x = 0; x < map.width; ++x)
        for (int64_t c = 0; c < map.channels; ++c) visit(b, y, x, c);
}

Map empty_map(int64_t batch, int64_t height, int64_t width, int64_t channels) {
  return {batch, height, width, channels,
          std::vector<double>(static_cast<size_t>(batch * height * width * channels))};
}

Map golden_map(const test::Golden& golden, const std::string& name) {
  const Tensor map = golden.tensor(name);
  const auto [batch, height, width, channels] = dims<4>("golden", "map", map);
  return {batch, height, width, channels, map.to_vector<double>()};
}

Map rolled(Map map, int64_t dy, int64_t dx) {
  Map out = map;
  each_element(map, [&](int64_t b, int64_t y, int64_t x, int64_t c) {
    const int64_t ty = ((y + dy) % map.height + map.height) % map.height;
    const int64_t tx = ((x + dx) % map.width + map.width) % map.width;
    out.at(b, ty, tx, c) = map.at(b, y, x, c);
  });
  return out;
}

// The number of pixels of (height, width) in a cell of the averaged map.
double cell_size(int64_t r, int64_t y, int64_t x, int64_t height, int64_t width) {
  return static_cast<double>(std::min(r, height - y * r) * std::min(r, width - x * r));
}

Map averaged(Map map, int64_t r) {
  Map out = empty_map(map.batch, (map.height + r - 1) / r, (map.width + r - 1) / r, map.channels);
  each_element(map, [&](int64_t b, int64_t y, int64_t x, int64_t c) {
    out.at(b, y / r, x / r, c) +=
        map.at(b, y, x, c) / cell_size(r, y / r, x / r, map.height, map.width);
  });
  return out;
}

Map averaged_backward(Map grad, int64_t r, int64_t height, int64_t width) {
  Map out = empty_map(grad.batch, height, width, grad.channels);
  each_element(out, [&](int64_t b, int64_t y, int64_t x, int64_t c) {
    out.at(b, y, x, c) = grad.at(b, y / r, x / r, c) / cell_size(r, y / r, x / r, height, width);
  });
  return out;
}

MsaConvGeometry geometry_of(const nlohmann::json& o, const Map& q) {
  MsaConvGeometry g;
  g.batch = q.batch, g.height = q.height, g.width = q.width;
  g.heads = o.at("heads"), g.head_dim = q.channels / g.heads;
  g.kernel_h = o.at("kernel")[0], g.kernel_w = o.at("kernel")[1], g.dilation = o.at("dilation");
  g.border = o.at("border") == "masked" ? MsaBorder::masked : MsaBorder::zero_logit;
  g.pool = o.at("kv_pool");
  g.scale = 1 / std::sqrt(static_cast<double>(g.head_dim));
  const auto& offsets = o.at("group_offsets");
  if (offsets.is_null()) return g;
  const int64_t dy = offsets[0][0], dx = offsets[0][1];
  g.shift = offsets.size() == 1 ? MsaShift::one_direction : MsaShift::directions;
  g.shift_size = std::abs(dy + dx);
  g.direction = dy > 0 ? 0 : dy < 0 ? 1 : dx > 0 ? 2 : 3;
  return g;
}

struct Result {
  Map out, grad_q, grad_k, grad_v;
};

template <typename T>
Result run(const MsaConvGeometry& g, const Map& q, const Map& k, const Map& v, const Map& grad) {
  constexpr DType kType = std::is_same_v<T, float> ? DType::f32 : DType::f64;
  const auto as_t = [](const Map& m) { return std::vector<T>(m.values.begin(), m.values.end()); };
  const auto as_map = [](Map m, const std::vector<T>& values) {
    m.values.assign(values.begin(), values.end());
    return m;
  };
  const int64_t c = q.channels;
  const auto tq = as_t(q), tk = as_t(k), tv = as_t(v), tg = as_t(grad);
  std::vector<T> o(tq.size()), dq(tq.size()), dk(tk.size()), dv(tk.size());
  std::vector<T> lse(tq.size() / static_cast<size_t>(g.head_dim));
  cpu::msa_conv({.geometry = g,
                 .dtype = kType,
                 .q = tq.data(),
                 .k = tk.data(),
                 .v = tv.data(),
                 .q_stride = c,
                 .k_stride = c,
                 .v_stride = c,
                 .o = o.data(),
                 .o_stride = c,
                 .lse = lse.data()});
  cpu::msa_conv_backward({.geometry = g,
                          .dtype = kType,
                          .q = tq.data(),
                          .k = tk.data(),
                          .v = tv.data(),
                          .q_stride = c,
                          .k_stride = c,
                          .v_stride = c,
                          .o = o.data(),
                          .lse = lse.data(),
                          .grad_o = tg.data(),
                          .o_stride = c,
                          .grad_o_stride = c,
                          .dq = dq.data(),
                          .dk = dk.data(),
                          .dv = dv.data(),
                          .dq_stride = c,
                          .dk_stride = c,
                          .dv_stride = c});
  return {as_map(q, o), as_map(q, dq), as_map(k, dk), as_map(k, dv)};
}

template <typename T>
Result run_case(const test::Golden& golden, const nlohmann::json& options) {
  const std::string name = options.at("name");
  Map q = golden_map(golden, name + ".q"), k = golden_map(golden, name + ".k"),
      v = golden_map(golden, name + ".v"), grad = golden_map(golden, name + ".grad_out");
  const int64_t height = q.height, width = q.width;
  const auto& offset = options.at("map_offset");
  const int64_t dy = offset.is_null() ? 0 : offset[0].get<int64_t>();
  const int64_t dx = offset.is_null() ? 0 : offset[1].get<int64_t>();
  for (Map* map : {&q, &k, &v, &grad}) *map = rolled(*map, dy, dx);
  const MsaConvGeometry g = geometry_of(options, q);
  Result r = run<T>(g, q, averaged(k, g.pool), averaged(v, g.pool), grad);
  r.grad_k = averaged_backward(r.grad_k, g.pool, height, width);
  r.grad_v = averaged_backward(r.grad_v, g.pool, height, width);
  for (Map* map : {&r.out, &r.grad_q, &r.grad_k, &r.grad_v}) *map = rolled(*map, -dy, -dx);
  return r;
}

// The largest difference over the largest value.
void expect_close(const Map& actual, const Map& expected, double tolerance,
                  const std::string& what) {
  ASSERT_EQ(actual.values.size(), expected.values.size()) << what;
  double largest = 1e-3, error = 0;
  for (size_t i = 0; i < expected.values.size(); ++i) {
    ASSERT_TRUE(std::isfinite(actual.values[i])) << what << " at " << i;
    largest = std::max(largest, std::abs(expected.values[i]));
    error = std::max(error, std::abs(actual.values[i] - expected.values[i]));
  }
  EXPECT_LE(error, tolerance * largest) << what;
}

template <typename T>
void check_all(double tolerance) {
  const test::Golden golden("msa_conv");
  ASSERT_GE(golden.cases().size(), 20U);
  for (const auto& options : golden.cases()) {
    const std::string name = options.at("name");
    const Result r = run_case<T>(golden, options);
    const auto want = [&](const char* part) { return golden_map(golden, name + "." + part); };
    expect_close(r.out, want("out"), tolerance, name + " out");
    expect_close(r.grad_q, want("grad_q"), tolerance, name + " grad_q");
    expect_close(r.grad_k, want("grad_k"), tolerance, name + " grad_k");
    expect_close(r.grad_v, want("grad_v"), tolerance, name + " grad_v");
  }
}

TEST(MsaConvGolden, F32EqualsUnfold) { check_all<float>(1e-5); }
// The goldens are results in f64 rounded to f32.
TEST(MsaConvGolden, F64EqualsUnfold) { check_all<double>(1.2e-7); }

}  // namespace
}  // namespace mullion
