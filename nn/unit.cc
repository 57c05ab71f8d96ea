// The watch of this thread.
#include "nn/unit.h"

#include <utility>

namespace mullion {
namespace {
thread_local UnitWatch* current = nullptr;
}  // namespace

UnitWatch::UnitWatch() : before_(std::exchange(current, this)) {}
UnitWatch::~UnitWatch() { current = before_; }

UnitScope::UnitScope(const Module& unit) : watch_(current), unit_(unit) {
  if (watch_) watch_->begin_unit(unit_);
}
UnitScope::~UnitScope() {
  if (watch_) watch_->end_unit(unit_);
}

}  // namespace mullion
