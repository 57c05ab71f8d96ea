// Accuracy of a TiC over a data set.
#pragma once
#include "apps/tic/judgement.h"
#include "data/loader.h"
#include "models/tic/model.h"

namespace mullion {

struct Accuracy {
  double top1 = 0, top5 = 0;  // percent
  double loss = 0;            // mean cross-entropy, nats
  int64_t count = 0;          // images scored; unreadable ones are left out and counted here:
  int64_t unreadable = 0;
  std::vector<std::string> messages;  // of the first few of these
  bool complete = true;               // false: stopped by a signal
  std::vector<Judged> judged;         // every image that was scored
};

// `label`: for the progress line; empty shows none. `together`: all ranks make as many passes, as
// weights that are spread over them need it.
Accuracy evaluate(const Tic& model, const Dataset& data, int batch_size, int workers,
                  const std::string& label, bool together = false);

// The batch's images as a tensor (count, H, W, C) on a device.
Tensor images_of(const Batch& batch, const SampleShape& shape, Device device);

}  // namespace mullion
