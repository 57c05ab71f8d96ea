// What a trainer says in words before its first step: how long, over how much, in how much memory.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "apps/program/json_object.h"
#include "tensor/storage.h"

namespace mullion {

// What a process holds whose tensors take so many bytes at once, on the CPU.
double process_bytes(double live_bytes);

struct TrainingPlan {
  int64_t total_steps = 0;
  double steps_per_epoch = 0;     // an epoch is a pass over the data; 0: no epochs
  std::string data;               // of a pass, e.g. "120 rows of 512 tokens"
  std::string dropped;            // what of the data nothing is learned from; "": all is used
  int64_t dropped_count = 0;      // tokens or images, of a pass
  double passes_to_warn_of = 0;   // from which on it is said that they are many; 0: never
  double live_bytes = 0;          // of tensors in a step, on each rank, estimated; 0: unknown
  double passing_bytes = 0;       //   of them what a pass takes at its peak and gives back
  int64_t ranks = 1;              // of several, in a step:
  std::string shared;             //   what each of them does
  double sent_bytes = 0;          //   by the one that sends the most
  double spread_bytes = 0;        //   of live_bytes what --shard full has spread; 0: nothing
  uint64_t checkpoint_bytes = 0;  // estimated; also for the free disk
  int64_t checkpoints = 0;        // that stay, beside the best one
  double step_seconds = 0;        // 0: not known yet
  std::string step_source;        // where they come from, e.g. "measured on 2 images"

  double passes() const;        // over the data
  double memory_bytes() const;  // that a process holds for live_bytes; 0: unknown
  double hours() const;
  // The plan in lines of the log, and what looks like a mistake as warnings.
  void tell() const;
  // {steps, passes, dropped, memory_gib, checkpoint_gib, hours} as far as they are known, and of
  // several ranks {ranks, sent_mib_a_step, spread_gib}
  void add_to(JsonObject& facts) const;
};

std::string bytes_in_words(double bytes);   // "340 MiB", "1.4 GiB"
std::string time_in_words(double seconds);  // "30 ms", "45 s", "2 h 10 min", "3 days 4 h"

// Floating-point operations a second of a product of matrices of 1,024 x 1,024 in f32, measured.
double measured_product_rate(Device device);

}  // namespace mullion
