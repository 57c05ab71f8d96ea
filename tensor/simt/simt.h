// The controls of the emulator, for tests. It runs the kernels of tensor/cuda/*.cu on the host and
// reports their faults as Finding (engine.h).
#pragma once
#include <map>
#include <string>

#include "tensor/simt/engine.h"

namespace mullion::simt {

// The order in which threads of a warp, warps of a block and blocks of a grid run. Right results do
// not depend on it. At the start: MULLION_SIMT_ORDER=forward|backward|random or random:SEED.
enum class Order { forward, backward, random };
struct Schedule {
  Order order = Order::forward;
  uint64_t seed = 1;
};
void set_schedule(Schedule schedule);
Schedule schedule();

// A schedule for a scope.
class ScheduleGuard {
 public:
  explicit ScheduleGuard(Schedule during) : before_(schedule()) { set_schedule(during); }
  ~ScheduleGuard() { set_schedule(before_); }
  ScheduleGuard(const ScheduleGuard&) = delete;

 private:
  Schedule before_;
};

// How often each kernel has run while this lives: which of several kernels took the sizes. Copies
// count as "copy from the host", matrix products as "product" and "product of batches".
class LaunchCounts {
 public:
  LaunchCounts();
  ~LaunchCounts();
  LaunchCounts(const LaunchCounts&) = delete;
  int of(const std::string& kernel) const { return counts_.count(kernel) ? counts_.at(kernel) : 0; }
  void add(const char* kernel) { ++counts_[kernel]; }

 private:
  std::map<std::string, int> counts_;
};

// Whether streams run their work as late as they may (streams.h). At the start:
// MULLION_SIMT_STREAMS=eager|late. Setting it finishes all streams first.
void set_late_streams(bool late);
bool late_streams();

// Late streams for a scope.
class LateStreams {
 public:
  explicit LateStreams(bool late = true) : before_(late_streams()) { set_late_streams(late); }
  ~LateStreams() { set_late_streams(before_); }
  LateStreams(const LateStreams&) = delete;

 private:
  bool before_;
};

// Whether ex2.approx and tensor cores are as inexact as a device's may be (arithmetic.h). At the
// start: MULLION_SIMT_ARITHMETIC=exact|device.
void set_device_arithmetic(bool on);
bool has_device_arithmetic();

// Such arithmetic for a scope.
class DeviceArithmetic {
 public:
  explicit DeviceArithmetic(bool on = true) : before_(has_device_arithmetic()) {
    set_device_arithmetic(on);
  }
  ~DeviceArithmetic() { set_device_arithmetic(before_); }
  DeviceArithmetic(const DeviceArithmetic&) = delete;

 private:
  bool before_;
};

}  // namespace mullion::simt
