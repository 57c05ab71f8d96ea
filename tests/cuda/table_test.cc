// The device's kernel table has no empty slot.
#include <cstring>
#include <vector>

#include "tests/cuda/device_runs.h"

namespace mullion::test {
namespace {

class CudaTable : public OnDevice<> {};

TEST_F(CudaTable, EverySlotIsFilled) {
  // The table is nothing but pointers to functions, so it can be read as an array of them.
  using Slot = void (*)();
  static_assert(sizeof(KernelTable) % sizeof(Slot) == 0);
  std::vector<Slot> slots(sizeof(KernelTable) / sizeof(Slot));
  const KernelTable& table = kernels(kCuda);
  std::memcpy(slots.data(), &table, sizeof table);
  ASSERT_GT(slots.size(), 40u);
  for (size_t i = 0; i < slots.size(); ++i) EXPECT_NE(slots[i], nullptr) << "slot " << i;
  // And none of them is the CPU's by mistake.
  std::vector<Slot> cpu(slots.size());
  std::memcpy(cpu.data(), &kernels({}), sizeof kernels({}));
  for (size_t i = 0; i < slots.size(); ++i) EXPECT_NE(slots[i], cpu[i]) << "slot " << i;
}

}  // namespace
}  // namespace mullion::test
