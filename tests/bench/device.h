// Where a bench computes (--device cpu|cuda[:N], --amp off|tf32|bf16), whether it records its steps
// of training as a graph (--cuda-graph), the clock of a device and
// what the device itself can do, measured in the same run. --smoke asks for the smallest sizes and
// one repetition: the figures mean nothing, but the bench has run, which the tests ask of each on
// the emulator.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "tensor/check.h"
#include "tensor/kernel_table.h"
#include "tensor/precision.h"
#include "tensor/tensor.h"

namespace mullion::bench {

struct Where {
  Device device;
  std::string amp = "off";
  bool smoke = false;
  bool graph = false;  // steps of training are recorded (autograd/step_graph.h)

  bool on_cpu() const { return device.type == DeviceType::cpu; }
  // Of activations.
  DType type() const { return amp == "bf16" && !on_cpu() ? DType::bf16 : DType::f32; }
  // The begin of a line of JSON, the device alone of a bench on the CPU.
  std::string json() const {
    const char* const products = on_cpu() ? nullptr : std::getenv("MULLION_CUDA_PRODUCTS");
    return concat("\"device\": \"", name_of(device), "\", \"amp\": \"", amp, "\"",
                  products ? concat(", \"products\": \"", products, "\"") : "");
  }
};

inline Device device_called(const std::string& name) {
  if (name == "cpu") return {};
  CHECK_AS(Fault::usage, name.substr(0, name.find(':')) == "cuda", "--device ", name,
           ": expected cpu, cuda or cuda:N");
  const size_t colon = name.find(':');
  const Device device{DeviceType::cuda,
                      colon == std::string::npos ? 0 : std::atoi(name.c_str() + colon + 1)};
  kernels(device);  // throws where it cannot be used
  return device;
}

// Takes the flags of this file out of argv and sets the precision of products, as programs do.
inline Where take_where(int& argc, char** argv) {
  Where where;
  std::string device = "cpu";
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--smoke") {
      where.smoke = true;
    } else if (flag == "--cuda-graph") {
      where.graph = true;
    } else if (flag == "--device" || flag == "--amp") {
      CHECK_AS(Fault::usage, i + 1 < argc, flag, ": needs a value");
      (flag == "--amp" ? where.amp : device) = argv[++i];
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  where.device = device_called(device);
  CHECK_AS(Fault::usage, where.amp == "off" || where.amp == "tf32" || where.amp == "bf16", "--amp ",
           where.amp, ": expected off, tf32 or bf16");
  CHECK_AS(Fault::usage, where.amp != "tf32" || !where.on_cpu(),
           "--amp tf32: the cpu has no products of TF32");
  CHECK_AS(Fault::usage, !where.graph || !where.on_cpu(), "--cuda-graph: the cpu has no graphs");
  set_product_precision({.tf32 = where.amp == "tf32", .bf16 = where.amp == "bf16"});
  return where;
}

// A bench's main: f(argc, argv, where), and an Error's message and exit code.
template <typename F>
int run(int argc, char** argv, F f) {
  try {
    const Where where = take_where(argc, argv);
    f(argc, argv, where);
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return static_cast<int>(error.fault());
  }
}

inline double wall_seconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

struct Spread {
  double median = 0, least = 0, most = 0;
  Spread() = default;
  explicit Spread(std::vector<double> times) {
    std::sort(times.begin(), times.end());
    median = times[times.size() / 2], least = times.front(), most = times.back();
  }
};

// Seconds a call of f() on a device, over 20 batches of calls, fewer where they take longer than
// `budget`. Calls of a batch are queued one after the other, which hides what a launch costs the
// host, as it does in a step; before and after a batch the device is waited for.
template <typename F>
Spread time_on_device(const Where& where, double budget, F f) {
  const auto batch = [&](int calls) {
    synchronize(where.device);
    const double start = wall_seconds();
    for (int i = 0; i < calls; ++i) f();
    synchronize(where.device);
    return (wall_seconds() - start) / calls;
  };
  if (where.smoke) return Spread({batch(1)});
  batch(1);  // algorithms and plans are chosen at the first
  constexpr double kBatch = 0.005;
  const int calls = std::clamp(static_cast<int>(std::ceil(kBatch / batch(1))), 1, 1000);
  std::vector<double> times;
  const double stop = wall_seconds() + budget;
  while (times.size() < 5 || (times.size() < 20 && wall_seconds() < stop))
    times.push_back(batch(calls));
  return Spread(times);
}

// Uniform in [-1, 1), made where they are used: zeros would be multiplied faster.
inline Tensor random_tensor(Shape shape, uint64_t stream, DType type, Device device) {
  const Tensor x = Tensor::empty(std::move(shape), DType::f32, device);
  kernels(device).random({.kind = RandomArgs::Kind::uniform,
                          .y = x.data<void>(),
                          .dtype = DType::f32,
                          .n = x.numel(),
                          .a = -1,
                          .b = 1,
                          .seed = 1,
                          .stream = stream});
  return raw::cast(x, type);
}

// c = a b^T: a is m x k, b n x k.
inline MatmulArgs product_args(const Tensor& a, const Tensor& b, const Tensor& c) {
  MatmulArgs args{};
  args.a = a.data<void>(), args.b = b.data<void>(), args.c = c.data<void>();
  args.a_type = a.dtype(), args.b_type = b.dtype(), args.c_type = c.dtype();
  args.batch = 1, args.m = a.dim(0), args.n = b.dim(0), args.k = a.dim(1);
  args.transpose_b = true, args.alpha = 1;
  args.lda = args.ldb = args.k, args.ldc = args.n;
  args.allow_bf16 = product_precision().bf16, args.allow_tf32 = product_precision().tf32;
  return args;
}

// What a figure is divided by.
struct DeviceLimits {
  double gflops;    // a product of 8192^3 in the type and precision of `where`
  double gb_per_s;  // bytes read and written by a copy that no cache holds
};
inline DeviceLimits device_limits(const Where& where) {
  const int64_t n = where.smoke ? 64 : 8192;
  const Tensor a = random_tensor({n, n}, 1, where.type(), where.device);
  const Tensor b = random_tensor({n, n}, 2, where.type(), where.device), c = raw::clone(a);
  const double product =
      time_on_device(where, 1, [&] { kernels(where.device).matmul(product_args(a, b, c)); }).median;
  const int64_t floats = where.smoke ? 4096 : int64_t{512} << 20;
  const Tensor from = random_tensor({floats}, 3, DType::f32, where.device), to = raw::clone(from);
  const double copy = time_on_device(where, 1, [&] { raw::copy_into(from, to); }).median;
  const auto side = static_cast<double>(n);
  return {2e-9 * side * side * side / product, 2e-9 * static_cast<double>(from.bytes()) / copy};
}

// The device, its limits, and the first line of a bench's output on it.
inline DeviceLimits print_limits(const char* bench, const Where& where) {
  const DeviceLimits limits = device_limits(where);
  std::printf(
      "{\"bench\": \"%s\", %s, \"name\": \"%s\", \"product_gflops\": %.0f, \"copy_gb_per_s\": "
      "%.0f}\n",
      bench, where.json().c_str(), describe(where.device).c_str(), limits.gflops, limits.gb_per_s);
  std::fflush(stdout);
  return limits;
}

}  // namespace mullion::bench
