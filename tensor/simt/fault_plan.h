// Faults on order: a test names a call of the runtime and which time it fails. For a program as a
// whole the environment orders them:
//   MULLION_SIMT_FAULT=cudaMallocAsync:300:2    the 300th such call returns error 2
//   MULLION_SIMT_FAULT=any:3000+:700            from the 3000th call on, all do: a device that died
#pragma once
#include "tensor/simt/runtime_api.h"

namespace mullion::simt {

// The n-th call from now (1: the next) of the named function returns `error` and does nothing
// (a call of cuBLASLt: the status that fits); `stays`: and all that follow it.
// "launch" names the launches of kernels, whose error cudaGetLastError() then gives; "any" all
// calls.
void plan_fault(const char* call, int nth, cudaError_t error, bool stays = false);
// No more faults; returns how many of the planned ones have happened.
int clear_faults();

cudaError_t planned_fault(const char* call);  // asked by each call

// Asked by each launch: it fails as planned, or because the stream is another device's than the
// thread's current one.
bool launch_fails(cudaStream_t stream);

}  // namespace mullion::simt
