// A measured rate of products turns arithmetic into hours; all in words people use.
#include "apps/run/training_plan.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "apps/program/log.h"
#include "autograd/ops.h"
#include "tensor/allocation.h"

namespace mullion {

namespace {
// Two digits, or all of a larger number's before the point.
std::string short_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, value < 99.5 ? "%.2g" : "%.0f", value);
  return text;
}
}  // namespace

std::string bytes_in_words(double bytes) {
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB"};
  double value = bytes / 1024;
  size_t unit = 0;
  for (; unit < 2 && value >= 999.5; ++unit) value /= 1024;
  return short_number(value) + " " + kUnits[unit];
}

std::string time_in_words(double seconds) {
  if (seconds < 0.995) return short_number(1000 * seconds) + " ms";
  if (seconds < 9.95) return short_number(seconds) + " s";
  const auto two = [&](double large, const char* a, double small, const char* b) {
    const auto all = std::llround(seconds / small);
    const auto ratio = std::llround(large / small);
    const std::string rest = all % ratio ? concat(" ", all % ratio, " ", b) : "";
    return concat(all / ratio, " ", a, rest);
  };
  if (seconds < 119.5) return concat(std::llround(seconds), " s");
  if (seconds < 48 * 3600.0) {
    return seconds < 3570 ? concat(std::llround(seconds / 60), " min") : two(3600, "h", 60, "min");
  }
  return two(86400, "days", 3600, "h");
}

double TrainingPlan::passes() const {
  return steps_per_epoch > 0 ? static_cast<double>(total_steps) / steps_per_epoch : 0;
}

// Of what the allocator of the CPU may keep beside what lives (tensor/allocation.h) the middle, so
// that the error is a sixteenth at most; and the program with its libraries and threads.
double process_bytes(double live_bytes) {
  constexpr double kProgram = 23 << 20;
  return live_bytes + static_cast<double>(kept_beyond(std::llround(live_bytes))) / 2 + kProgram;
}

double TrainingPlan::memory_bytes() const { return live_bytes > 0 ? process_bytes(live_bytes) : 0; }

double TrainingPlan::hours() const {
  return step_seconds * static_cast<double>(total_steps) / 3600;
}

void TrainingPlan::tell() const {
  std::string plan = concat(total_steps, total_steps == 1 ? " step" : " steps");
  if (steps_per_epoch > 0)
    plan += concat(", ", short_number(passes()), passes() == 1 ? " pass" : " passes", " over ");
  else
    plan += ", ";
  log_info("plan       ", plan, data, dropped.empty() ? "" : "; " + dropped);
  const auto checkpoint = static_cast<double>(checkpoint_bytes);
  log_info("space      ",
           live_bytes > 0 ? concat("about ", bytes_in_words(memory_bytes()), " of memory",
                                   ranks > 1 ? " on each rank; " : "; ")
                          : "",
           "a checkpoint takes about ", bytes_in_words(checkpoint), ", and up to ", checkpoints + 1,
           " stay (", bytes_in_words(checkpoint * static_cast<double>(checkpoints + 1)), ")");
  if (ranks > 1)
    log_info("ranks      ", ranks, ": ", shared, "; a step has each send ",
             bytes_in_words(sent_bytes), " at most",
             spread_bytes > 0 ? concat("; weights, gradients and moments take at most ",
                                       bytes_in_words(spread_bytes), " of each")
                              : "");
  if (step_seconds > 0)
    log_info("time       about ", time_in_words(3600 * hours()), ", ", time_in_words(step_seconds),
             " a step (", step_source, ")");
  if (passes_to_warn_of > 0 && passes() > passes_to_warn_of)
    log_warning(total_steps, " steps are ", std::llround(passes()), " passes over ", data,
                ", which will be learned by heart: --epochs says how often it is to be read");
}

void TrainingPlan::add_to(JsonObject& facts) const {
  facts.set("steps", total_steps);
  if (steps_per_epoch > 0) facts.set("passes", passes());
  facts.set("dropped", dropped_count);
  if (live_bytes > 0) facts.set("memory_gib", memory_bytes() / 0x1p30);
  if (ranks > 1) {
    facts.set("ranks", ranks).set("sent_mib_a_step", sent_bytes / 0x1p20);
    if (spread_bytes > 0) facts.set("spread_gib", spread_bytes / 0x1p30);
  }
  facts.set("checkpoint_gib", static_cast<double>(checkpoint_bytes) / 0x1p30);
  if (step_seconds > 0) facts.set("hours", hours()).set("hours_from", step_source);
}

double measured_product_rate(Device device) {
  constexpr int64_t kSide = 1024;
  constexpr int kProducts = 4;
  NoGrad no_grad;
  const Tensor a = raw::to_device(Tensor::zeros({kSide, kSide}), device);
  double best = 0;
  for (int repeat = 0; repeat < 3; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    Tensor product = a;
    for (int i = 0; i < kProducts; ++i) product = matmul(a, product);
    product.to_vector<float>();  // waits for the device
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    best = std::max(best, kProducts * 2.0 * kSide * kSide * kSide / time.count());
  }
  return best;
}

}  // namespace mullion
