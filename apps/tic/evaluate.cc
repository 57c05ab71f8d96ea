#include "apps/tic/evaluate.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "autograd/ops.h"

namespace mullion {

Tensor images_of(const Batch& batch, const SampleShape& shape, Device device) {
  const Shape size{batch.count, shape.height, shape.width, shape.channels};
  return Tensor::from(std::span(batch.images).first(static_cast<size_t>(size.numel())), size,
                      device);
}

namespace {
// The place of the label among the row's scores, 0 the highest; equal scores count against it.
int64_t rank_of(const float* scores, int64_t classes, int64_t label) {
  int64_t rank = 0;
  for (int64_t c = 0; c < classes; ++c) rank += c != label && !(scores[c] < scores[label]);
  return rank;
}

Judged judge(int64_t sample, int64_t label, const float* scores, int64_t classes) {
  const float* best = std::max_element(scores, scores + classes);
  double sum = 0;
  for (int64_t c = 0; c < classes; ++c) sum += std::exp(static_cast<double>(scores[c]) - *best);
  return {sample, label, rank_of(scores, classes, label), best - scores, 1 / sum};
}
}  // namespace

Accuracy evaluate(const Tic& model, const Dataset& data, int batch_size, int workers,
                  const std::string& label) {
  NoGrad no_grad;
  LoaderOptions options;
  options.batch_size = batch_size;
  options.workers = workers;
  options.bad_sample = BadSample::leave_out;
  Loader loader(data, options);
  std::optional<Progress> progress;
  if (!label.empty()) progress.emplace(label, data.size());
  Accuracy total;
  int64_t first = 0, five = 0, seen = 0;
  Batch batch;
  while (loader.next(batch)) {
    if (stop_requested()) {
      total.complete = false;
      break;
    }
    seen += batch_size;
    if (batch.count == 0) continue;
    const Tensor logits = model(images_of(batch, data.shape(), model.device()));
    const Tensor labels = Tensor::from(batch.labels, {batch.count});
    total.loss += cross_entropy(logits, labels, 1).item();
    const auto host = logits.to_vector<float>();
    const float* scores = host.data();
    for (int64_t i = 0; i < batch.count; ++i) {
      const auto at = static_cast<size_t>(i);
      total.judged.push_back(
          judge(batch.samples[at], batch.labels[at], scores + i * logits.dim(1), logits.dim(1)));
      first += total.judged.back().rank < 1;
      five += total.judged.back().rank < 5;
    }
    total.count += batch.count;
    if (progress)
      progress->update(
          std::min(seen, data.size()),
          concat("top-1 ", 100.0 * static_cast<double>(first) / static_cast<double>(total.count),
                 " %"));
  }
  const double count = static_cast<double>(std::max<int64_t>(total.count, 1));
  total.top1 = 100.0 * static_cast<double>(first) / count;
  total.top5 = 100.0 * static_cast<double>(five) / count;
  total.loss /= count;
  const LoaderReport report = loader.report();
  total.unreadable = report.bad_samples;
  total.messages = report.bad_messages;
  return total;
}

}  // namespace mullion
