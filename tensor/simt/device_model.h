// What the emulated machine has: how many devices, of which compute capability, with which limits.
// For a program as a whole the environment says it, any of
//   MULLION_SIMT_DEVICE=devices=2,driver=12020,capability=9.0/8.6,shared=101376,memory=1000000,
//   nccl=22800,first=2
// `capability` names one device after the other, the last one stands for all that follow; `shared`
// replaces what the capability has, in bytes a block; `first` says which of the machine's devices
// is the process's device 0, as CUDA_VISIBLE_DEVICES does for a GPU.
#pragma once
#include <cstddef>
#include <vector>

namespace mullion::simt {

struct Capability {
  int major = 9, minor = 0;
};

struct DeviceModel {
  int devices = 1, first = 0;
  int driver = 13000;  // 0: no driver
  std::vector<Capability> capabilities = {{}};
  int multiprocessors = 132;
  size_t memory = size_t{16} << 30;
  int nccl = 22800;             // NCCL's version, as ncclGetVersion gives it
  size_t shared_per_block = 0;  // 0: as the capability has it
};
DeviceModel& device_model();  // as the environment says, until a test changes it

// CUDA C++ programming guide, "Technical specifications per compute capability".
struct Limits {
  size_t shared_per_block;           // the most that a kernel may ask for, in all
  size_t shared_per_multiprocessor;  // of which each block takes 1 KB more than it asked for
  int threads_per_multiprocessor, blocks_per_multiprocessor;
  static constexpr int kThreadsPerBlock = 1024;
  static constexpr int kRegistersPerBlock = 65536;
  static constexpr size_t kStaticShared = 48 << 10;
};
Capability capability_of(int device);
Limits limits_of(int device);

// The model for a scope.
class DeviceModelGuard {
 public:
  DeviceModelGuard() : before_(device_model()) {}
  ~DeviceModelGuard() { device_model() = before_; }
  DeviceModelGuard(const DeviceModelGuard&) = delete;

 private:
  DeviceModel before_;
};

}  // namespace mullion::simt
