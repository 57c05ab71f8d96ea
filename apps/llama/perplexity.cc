// Windows in batches: logits, the log-probability of each target in double, sums by window.
#include "apps/llama/perplexity.h"

#include <algorithm>
#include <cmath>

#include "apps/llama/perplexity_sums.h"
#include "autograd/node.h"
#include "data/text_rows.h"

namespace mullion {

namespace {
// A batch of windows and what each position is to predict; kNoTarget: not scored.
struct Windows {
  Tensor ids, targets;
  int64_t scored = 0;
};

Windows read_windows(const std::vector<int64_t>& starts, const ReadIds& read,
                     const PerplexityOptions& o, int64_t vocab) {
  const auto rows = static_cast<int64_t>(starts.size());
  const int64_t T = o.context, first_scored = o.llamacpp ? T / 2 : 0;
  std::vector<int64_t> ids(static_cast<size_t>(rows * T));
  std::vector<int64_t> targets(ids.size(), kNoTarget);
  std::vector<int32_t> window(static_cast<size_t>(T));
  for (int64_t row = 0; row < rows; ++row) {
    read(starts[static_cast<size_t>(row)], window);
    if (o.first_id) window[0] = *o.first_id;
    for (int64_t t = 0; t < T; ++t) {
      const int32_t id = window[static_cast<size_t>(t)];
      CHECK_AS(Fault::bad_file, id >= 0 && id < vocab, "token ", id,
               " is outside the model's vocabulary of ", vocab);
      const auto place = static_cast<size_t>(row * T + t);
      ids[place] = id;
      if (t > first_scored) targets[place - 1] = id;
    }
  }
  return {Tensor::from(ids, {rows, T}), Tensor::from(targets, {rows, T}),
          rows * (T - 1 - first_scored)};
}
}  // namespace

std::vector<int64_t> perplexity_windows(int64_t length, const PerplexityOptions& o) {
  CHECK_AS(Fault::usage, o.context >= (o.llamacpp ? 4 : 2) && o.stride > 0 && o.batch > 0,
           "perplexity: a context of ", o.context, " tokens, a stride of ", o.stride,
           " and a batch of ", o.batch, " are too small");
  std::vector<int64_t> starts;
  if (o.llamacpp) {
    for (int64_t begin = 0; begin + o.context <= length; begin += o.context)
      starts.push_back(begin);
  } else {
    for (int64_t begin = 0; begin < length - o.context; begin += o.stride) starts.push_back(begin);
    if (!starts.empty()) starts.pop_back();  // as eval.py
  }
  CHECK_AS(Fault::usage, !starts.empty(), "perplexity: ", length,
           " tokens are too few for a window of ", o.context, ", at least ",
           o.llamacpp ? o.context : o.context + o.stride + 1, " are needed");
  if (o.max_windows > 0 && static_cast<int64_t>(starts.size()) > o.max_windows)
    starts.resize(static_cast<size_t>(o.max_windows));
  return starts;
}

Perplexity perplexity(const LanguageModel& model, int64_t length, const ReadIds& read,
                      const PerplexityOptions& o,
                      const std::function<bool(int64_t, double)>& progress) {
  NoGrad no_grad;
  const std::vector<int64_t> starts = perplexity_windows(length, o);
  PerplexitySums sums;
  bool complete = true;
  for (size_t begin = 0; begin < starts.size(); begin += static_cast<size_t>(o.batch)) {
    const size_t end = std::min(starts.size(), begin + static_cast<size_t>(o.batch));
    if (sums.takes_next()) {
      const Windows windows = read_windows({starts.begin() + static_cast<std::ptrdiff_t>(begin),
                                            starts.begin() + static_cast<std::ptrdiff_t>(end)},
                                           read, o, model.vocabulary());
      sums.add(model.loss(windows.ids, windows.targets, 1).item(), windows.scored,
               static_cast<int64_t>(end - begin));
    }
    const bool last = end == starts.size();
    if (!sums.all_go_on(progress, static_cast<int64_t>(end), last)) {
      complete = last;
      break;
    }
  }
  return sums.total(complete);
}

}  // namespace mullion
