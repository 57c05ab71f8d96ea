#include "tests/simt/fault_plan.h"

#include <string>
#include <vector>

namespace mullion::simt {
namespace {

struct Plan {
  std::string call;
  int left;
  cudaError_t error;
};
std::vector<Plan> plans;
int happened = 0;

}  // namespace

void plan_fault(const char* call, int nth, cudaError_t error) {
  plans.push_back({call, nth, error});
}

int clear_faults() {
  plans.clear();
  const int count = happened;
  happened = 0;
  return count;
}

cudaError_t planned_fault(const char* call) {
  if (plans.empty()) return cudaSuccess;
  for (Plan& plan : plans)
    if (plan.call == call && plan.left > 0 && --plan.left == 0) {
      ++happened;
      return plan.error;
    }
  return cudaSuccess;
}

}  // namespace mullion::simt
