// Counts of calls by name, compared with the plans.
#include "tensor/simt/fault_plan.h"

#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "tensor/check.h"

namespace mullion::simt {
namespace {

struct Plan {
  std::string call;
  int left;
  cudaError_t error;
  bool stays;
};

std::vector<Plan> plans_of_environment() {
  const char* variable = std::getenv("MULLION_SIMT_FAULT");
  const std::string text = variable ? variable : "";
  if (text.empty()) return {};
  std::istringstream in(text);
  Plan plan{};
  int error = 0;
  char colon = 0;
  std::getline(in, plan.call, ':');
  in >> plan.left;
  plan.stays = in.peek() == '+';
  if (plan.stays) in.get();
  in >> colon >> error;
  CHECK(!in.fail() && colon == ':' && in.peek() == EOF && plan.left > 0 && error > 0,
        "MULLION_SIMT_FAULT is CALL:N:ERROR or CALL:N+:ERROR, not ", text);
  plan.error = static_cast<cudaError_t>(error);
  return {plan};
}

std::vector<Plan> plans = plans_of_environment();
int happened = 0;

}  // namespace

void plan_fault(const char* call, int nth, cudaError_t error, bool stays) {
  plans.push_back({call, nth, error, stays});
}

int clear_faults() {
  plans.clear();
  const int count = happened;
  happened = 0;
  return count;
}

cudaError_t planned_fault(const char* call) {
  for (Plan& plan : plans) {
    if ((plan.call != call && plan.call != "any") || plan.left == 0) continue;
    if (--plan.left > 0) continue;
    plan.left = plan.stays ? 1 : 0;
    ++happened;
    return plan.error;
  }
  return cudaSuccess;
}

}  // namespace mullion::simt
