// Batches through the model, each image judged; sums of all ranks in the order of the batches.
#include "apps/tic/evaluate.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "apps/run/ranks.h"
#include "autograd/ops.h"

namespace mullion {

Tensor images_of(const Batch& batch, const SampleShape& shape, Device device) {
  const Shape size{batch.count, shape.height, shape.width, shape.channels};
  return Tensor::from(std::span(batch.images).first(static_cast<size_t>(size.numel())), size,
                      device);
}

namespace {
Tensor blank_image(const SampleShape& shape, Device device) {
  return Tensor::zeros({1, shape.height, shape.width, shape.channels}, DType::f32, device);
}

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
struct BatchLoss {
  int64_t batch;
  double loss;  // of its images, added up
};

// What all ranks have scored, in the order of the data set.
void gather_scores(Accuracy& total, std::vector<BatchLoss>& losses) {
  if (!ranks()) return;
  losses = items_of_ranks(losses);
  std::sort(losses.begin(), losses.end(),
            [](const BatchLoss& a, const BatchLoss& b) { return a.batch < b.batch; });
  total.judged = items_of_ranks(total.judged);
  std::stable_sort(total.judged.begin(), total.judged.end(),
                   [](const Judged& a, const Judged& b) { return a.sample < b.sample; });
  total.unreadable = std::llround(sum_over_ranks({static_cast<double>(total.unreadable)})[0]);
  std::string mine;
  for (const std::string& message : total.messages) mine += message + '\0';
  total.messages.clear();
  for (const std::string& text : texts_of_ranks(mine))
    for (size_t at = 0; at < text.size(); at = text.find('\0', at) + 1)
      total.messages.emplace_back(text.c_str() + at);
}
}  // namespace

Accuracy evaluate(const Tic& model, const Dataset& data, int batch_size, int workers,
                  const std::string& label, bool together) {
  NoGrad no_grad;
  LoaderOptions options;
  options.batch_size = batch_size;
  options.workers = workers;
  options.bad_sample = BadSample::leave_out;
  options.rank = rank();  // batches are dealt out to the ranks in turn
  options.world = options.dealt = rank_count();
  Loader loader(data, options);
  std::optional<Progress> progress;
  if (!label.empty()) progress.emplace(label, data.size());
  Accuracy total;
  std::vector<BatchLoss> losses;
  int64_t first = 0, seen = 0, scored = 0;
  Batch batch;
  while (true) {
    const bool mine = loader.next(batch);
    // Asked of all in each round: a signal to one, or the end of one, ends the evaluation of all.
    const auto all = sum_over_ranks({mine ? 1.0 : 0.0, stop_requested() ? 1.0 : 0.0});
    if (all[0] == 0) break;
    if (all[1] > 0) {
      total.complete = false;
      break;
    }
    if (!mine) {
      if (together) model(blank_image(data.shape(), model.device()));  // for the others' sake
      continue;
    }
    seen += batch_size * rank_count();
    const Tensor logits = model(images_of(batch, data.shape(), model.device()));
    const Tensor labels = Tensor::from(batch.labels, {batch.count});
    losses.push_back({batch.index, cross_entropy(logits, labels, 1).item()});
    const auto host = logits.to_vector<float>();
    const float* scores = host.data();
    for (int64_t i = 0; i < batch.count; ++i) {
      const auto at = static_cast<size_t>(i);
      total.judged.push_back(
          judge(batch.samples[at], batch.labels[at], scores + i * logits.dim(1), logits.dim(1)));
      first += total.judged.back().rank < 1;
    }
    scored += batch.count;
    if (progress)
      progress->update(
          std::min(seen, data.size()),
          concat("top-1 ", 100.0 * static_cast<double>(first) / static_cast<double>(scored), " %"));
  }
  const LoaderReport report = loader.report();
  total.unreadable = report.bad_samples;
  total.messages = report.bad_messages;
  gather_scores(total, losses);
  if (total.unreadable > 0)
    check_bad_samples(total.unreadable, data.size(), options.max_bad, total.messages.front());
  // In the order of the batches, so that sums have the same bits for any number of ranks.
  for (const BatchLoss& batch_loss : losses) total.loss += batch_loss.loss;
  int64_t five = 0;
  first = 0;
  for (const Judged& one : total.judged) first += one.rank < 1, five += one.rank < 5;
  total.count = std::ssize(total.judged);
  const double count = static_cast<double>(std::max<int64_t>(total.count, 1));
  total.top1 = 100.0 * static_cast<double>(first) / count;
  total.top5 = 100.0 * static_cast<double>(five) / count;
  total.loss /= count;
  return total;
}

}  // namespace mullion
