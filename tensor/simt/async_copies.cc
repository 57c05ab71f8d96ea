// cp.async: the target is poisoned at once and written as late as allowed, so that a kernel that
// reads it before it has waited for its group finds NaN.
#include <cstring>

#include "tensor/simt/access_counters.h"
#include "tensor/simt/engine_state.h"
#include "tensor/simt/shared_memory.h"
#include "tensor/simt/shared_shadow.h"

namespace mullion::simt {
namespace {

void write_copies(Lane& lane, int groups) {
  size_t done = 0;
  while (done < lane.copies.size() && lane.copies[done].group < groups) {
    const PendingCopy& copy = lane.copies[done++];
    if (copy.global)
      std::memcpy(copy.shared, copy.global, 16);
    else
      std::memset(copy.shared, 0, 16);
    end_of_copy(copy.shared, 16);
  }
  lane.copies.erase(lane.copies.begin(), lane.copies.begin() + static_cast<std::ptrdiff_t>(done));
}

}  // namespace

void end_copies(Lane& lane) {
  if (lane.copies.empty()) return;
  if (const PendingCopy& last = lane.copies.back(); last.group == lane.groups)
    report(concat("ends with a cp.async into ", describe_address(last.shared),
                  " that was never committed"));
  write_copies(lane, lane.groups);
}

void forget_copies(Lane& lane) {
  for (const PendingCopy& copy : lane.copies) end_of_copy(copy.shared, 16);
  lane.copies.clear();
}

void check_aligned(const char* operation, const void* address, size_t alignment) {
  if (reinterpret_cast<uintptr_t>(address) % alignment == 0) return;
  report(concat(operation, ": misaligned address: ", describe_address(address),
                " is not a multiple of ", alignment));
}

void async_copy(void* shared, const void* global, bool valid) {
  check_shared("cp.async", shared, 16, 16);
  if (valid) check_aligned("cp.async", global, 16);
  if (counting_accesses) {
    if (valid) count_access(__builtin_return_address(0), global, 16, false);
    count_access(__builtin_return_address(0), shared, 16, true);
  }
  begin_copy(shared, 16);
  std::memset(shared, 0xff, 16);
  Lane& lane = *engine().current;
  lane.copies.push_back({shared, valid ? global : nullptr, lane.groups});
}
void async_commit() { ++engine().current->groups; }
void async_wait(int pending) {
  Lane& lane = *engine().current;
  if (!lane.copies.empty()) write_copies(lane, lane.groups - pending);
}

}  // namespace mullion::simt
