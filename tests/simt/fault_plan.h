// Faults on order: a test names a call of the runtime and which time it fails.
#pragma once
#include "tests/simt/runtime_api.h"

namespace mullion::simt {

// The n-th call from now (1: the next) of the named function returns `error` and does nothing
// (a call of cuBLASLt: the status that fits).
// "launch" names the launches of kernels, whose error cudaGetLastError() then gives.
void plan_fault(const char* call, int nth, cudaError_t error);
// No more faults; returns how many of the planned ones have happened.
int clear_faults();

cudaError_t planned_fault(const char* call);  // asked by each call

bool launch_fails();  // asked by each launch

// What the emulated machine has. A driver of version 0 is none.
struct DeviceModel {
  int devices = 1, current = 0, driver = 13000;
  int major = 9, minor = 0, multiprocessors = 132;
};
DeviceModel& device_model();

}  // namespace mullion::simt
