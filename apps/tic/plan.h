// What train_tic says in words before its first step.
#pragma once
#include "apps/run/training_plan.h"
#include "apps/tic/training.h"

namespace mullion {

// The model, the data, the start, the rate: into the log.
void describe_training(const Options& options, const TicConfig& config, const TicData& data,
                       const TicSchedule& schedule);
// With memory, and time where `measure_time`, from forward and backward passes over one image and
// over three. Without `measure_time`, where those would take long, the memory follows from passes
// over smaller images (on the CPU), as where three images are beyond the machine's memory; then
// there is no time. Error(memory) where the weights are beyond it: whether the step is, the caller
// asks of the plan.
TrainingPlan tic_plan(const Options& options, const TicConfig& config, const TicData& data,
                      const TicSchedule& schedule, Device device, bool measure_time);

}  // namespace mullion
