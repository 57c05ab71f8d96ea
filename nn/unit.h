// Units: parts of a model whose weights are used at the same time, such as a block. A model says
// where it computes with one; a watch, where there is one, sees to it that the weights are there by
// then (optim/parallel/full_shard.h). Without one nothing happens.
#pragma once

namespace mullion {

class Module;

// Sees all units on the thread that made it, until it ends. Of several watches the last one does.
class UnitWatch {
 public:
  UnitWatch();
  virtual ~UnitWatch();
  UnitWatch(const UnitWatch&) = delete;
  UnitWatch& operator=(const UnitWatch&) = delete;
  virtual void begin_unit(const Module& unit) = 0;
  virtual void end_unit(const Module& unit) noexcept = 0;

 private:
  UnitWatch* before_;
};

// While one lives the unit is computed with, its own parameters and those of its children that are
// no units of their own. What a backward needs of them its closures keep.
class UnitScope {
 public:
  explicit UnitScope(const Module& unit);
  ~UnitScope();
  UnitScope(const UnitScope&) = delete;
  UnitScope& operator=(const UnitScope&) = delete;

 private:
  UnitWatch* watch_;
  const Module& unit_;
};

}  // namespace mullion
