// Faults on order: a test names a call of the runtime and which time it fails. For a program as a
// whole the environment orders them:
//   MULLION_SIMT_DEVICE=devices=1,driver=12020,capability=7.5,memory=1000000   any of these
//   MULLION_SIMT_FAULT=cudaMallocAsync:300:2    the 300th such call returns error 2
//   MULLION_SIMT_FAULT=any:3000+:700            from the 3000th call on, all do: a device that died
#pragma once
#include "tests/simt/runtime_api.h"

namespace mullion::simt {

// The n-th call from now (1: the next) of the named function returns `error` and does nothing
// (a call of cuBLASLt: the status that fits); `stays`: and all that follow it.
// "launch" names the launches of kernels, whose error cudaGetLastError() then gives; "any" all
// calls.
void plan_fault(const char* call, int nth, cudaError_t error, bool stays = false);
// No more faults; returns how many of the planned ones have happened.
int clear_faults();

cudaError_t planned_fault(const char* call);  // asked by each call

bool launch_fails();  // asked by each launch

// What the emulated machine has. A driver of version 0 is none.
struct DeviceModel {
  int devices = 1, current = 0, driver = 13000;
  int major = 9, minor = 0, multiprocessors = 132;
  size_t memory = size_t{16} << 30;
};
DeviceModel& device_model();  // as the environment says, until a test changes it

}  // namespace mullion::simt
