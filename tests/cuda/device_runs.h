// What tests of a device share: which device, and running a computation in every way that must not
// change its result. On the emulator these are the orders of threads and blocks, the last of them
// with streams that run late; on a GPU, which chooses its own, repetitions.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tensor/check.h"
#include "tensor/kernel_table.h"
#ifdef MULLION_SIMT
#include "tensor/simt/simt.h"
#endif

namespace mullion::test {

constexpr Device kCuda{DeviceType::cuda};

// Why the device cannot be used; empty where it can.
inline std::string why_no_device() {
  if (device_count(DeviceType::cuda) > 0) return "";
  try {
    kernels(kCuda);
    return "no CUDA device";
  } catch (const Error& error) {
    return error.what();
  }
}

// A fixture for tests on the device: skipped with the reason where the machine has none.
template <typename Base = testing::Test>
class OnDevice : public Base {
 protected:
  void SetUp() override {
    if (const std::string reason = why_no_device(); !reason.empty()) GTEST_SKIP() << reason;
    // compute-sanitizer's initcheck looks for what this would hide from it.
    set_poison_fresh_memory(std::getenv("MULLION_NO_POISON") == nullptr);
  }
  void TearDown() override { set_poison_fresh_memory(false); }
};

// Calls f(name) once for each way of running; f's work must come to the same bits in all of them.
template <typename F>
void in_every_order(F f) {
#ifdef MULLION_SIMT
  const std::pair<const char*, simt::Schedule> orders[] = {
      {"forward", {simt::Order::forward}},
      {"again", {simt::Order::forward}},
      {"backward", {simt::Order::backward}},
      {"random", {simt::Order::random, 17}},
  };
  for (const auto& [name, order] : orders) {
    const simt::ScheduleGuard guard(order);
    const simt::LateStreams late(order.order == simt::Order::random);
    f(std::string(name));
  }
#else
  for (const char* name : {"first run", "second run", "third run"}) f(std::string(name));
#endif
}

}  // namespace mullion::test
