// The sampler, sessions over caches, and loops that step all rows together until each has ended.
#include "models/llama/generate.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "autograd/node.h"
#include "models/llama/likeliest_first.h"
#include "tensor/random.h"
#include "tensor/rounded_products.h"

namespace mullion {
namespace {

constexpr uint64_t kStream = 0x73616d706c65;  // of random numbers, apart from those of others

// Tokens of a prompt at a time. They bound the activations (SmolLM2's to 6 MiB, a fifteenth of its
// weights in 4 bits) and are enough rows for the products of a CPU; a GPU wants more.
int64_t prefill_tokens(Device device) { return device.type == DeviceType::cpu ? 256 : 2048; }

Tensor ids_tensor(std::span<const int32_t> ids) {
  return Tensor::from(std::vector<int64_t>(ids.begin(), ids.end()),
                      {1, static_cast<int64_t>(ids.size())});
}

int32_t likeliest(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

Sampler::Sampler(const SamplerOptions& o) : options_(o) {
  CHECK_AS(Fault::usage, o.temperature >= 0 && std::isfinite(o.temperature),
           "sampling: temperature ", o.temperature, " is negative");
  CHECK_AS(Fault::usage, o.top_k >= 0, "sampling: top-k ", o.top_k, " is negative");
  CHECK_AS(Fault::usage, o.top_p > 0 && o.top_p <= 1, "sampling: top-p ", o.top_p,
           " is not in (0, 1]");
  CHECK_AS(Fault::usage, o.min_p >= 0 && o.min_p <= 1, "sampling: min-p ", o.min_p,
           " is not in [0, 1]");
  CHECK_AS(Fault::usage, o.repeat_penalty > 0 && std::isfinite(o.repeat_penalty),
           "sampling: repeat penalty ", o.repeat_penalty, " is not above 0");
}

int32_t Sampler::pick(std::span<const float> logits, uint64_t draw,
                      std::span<const int32_t> present) const {
  if (!penalizes() || present.empty()) return pick_of(logits, draw);
  std::vector<float> penalized(logits.begin(), logits.end());
  const auto penalty = static_cast<float>(options_.repeat_penalty);
  for (const int32_t id : present) {
    float& z = penalized[static_cast<size_t>(id)];
    z = z > 0 ? z / penalty : z * penalty;
  }
  return pick_of(penalized, draw);
}

int32_t Sampler::pick_of(std::span<const float> logits, uint64_t draw) const {
  if (options_.temperature == 0) return likeliest(logits);
  LikeliestFirst order(logits);
  const float top = logits[static_cast<size_t>(order[0])];
  // Of the likeliest token this is 1.
  const auto weight = [&](int32_t id) {
    return std::exp((logits[static_cast<size_t>(id)] - top) / options_.temperature);
  };
  size_t kept = order.size();
  double sum = 0;
  if (options_.top_k > 0 && static_cast<size_t>(options_.top_k) < kept) {
    kept = static_cast<size_t>(options_.top_k);
    for (size_t i = 0; i < kept; ++i) sum += weight(order[i]);
  } else {
    for (size_t id = 0; id < kept; ++id) sum += weight(static_cast<int32_t>(id));
  }
  if (options_.top_p < 1 || options_.min_p > 0) {
    const double enough = options_.top_p * sum;
    double seen = 0;
    size_t i = 0;
    while (i < kept && (i == 0 || (seen < enough && weight(order[i]) >= options_.min_p)))
      seen += weight(order[i++]);
    kept = i;
    sum = seen;
  }
  const PhiloxBlock block = philox(options_.seed, kStream, draw);
  const uint64_t bits = (uint64_t{block.v[0]} << 32 | block.v[1]) >> 11;
  double left = static_cast<double>(bits) * 0x1p-53 * sum;
  for (size_t i = 0; i < kept; ++i) {
    left -= weight(order[i]);
    if (left < 0) return order[i];
  }
  return order[kept - 1];
}

Generation::Generation(const LanguageModel& model, const KvCacheOptions& cache, int64_t context)
    : model_(model),
      options_(cache),
      context_(context > 0 ? std::min(context, model.context()) : model.context()) {
  validate(cache);
}

const Generation::Sequence& Generation::at(Row row) const {
  CHECK(row >= 0 && row < std::ssize(rows_) && rows_[static_cast<size_t>(row)].cache,
        "generation: no sequence ", row);
  return rows_[static_cast<size_t>(row)];
}
Generation::Sequence& Generation::at(Row row) {
  return const_cast<Sequence&>(std::as_const(*this).at(row));
}

Generation::Row Generation::place(Sequence sequence) {
  for (size_t i = 0; i < rows_.size(); ++i)
    if (!rows_[i].cache) {
      rows_[i] = std::move(sequence);
      return static_cast<Row>(i);
    }
  rows_.push_back(std::move(sequence));
  return std::ssize(rows_) - 1;
}

Generation::Row Generation::add() {
  return place({make_kv_cache(options_, model_.cache_shape()), {}, 0});
}
Generation::Row Generation::fork(Row row) {
  return place({at(row).cache->clone(), at(row).logits, at(row).begun});
}
void Generation::remove(Row row) { at(row) = {}; }

int64_t Generation::room(Row row) const { return at(row).cache->room(context_); }

void Generation::feed(Row row, std::span<const int32_t> ids) {
  Sequence& s = at(row);
  feed_part(s, ids, std::exchange(s.begun, 0) + std::ssize(ids));
}

void Generation::feed_beginning(Row row, std::span<const int32_t> ids) {
  Sequence& s = at(row);
  CHECK(s.begun == 0, "generate: a block begins within another");
  feed_part(s, ids, KvCache::kOpenBlock);
  s.begun = std::ssize(ids);
}

void Generation::feed_part(Sequence& s, std::span<const int32_t> ids, int64_t block) {
  const auto length = static_cast<int64_t>(ids.size());
  CHECK_AS(Fault::usage, length > 0, "generate: the prompt is empty and there is no BOS");
  CHECK_AS(Fault::usage, s.cache->reach(length) <= context_, "generate: a prompt of ",
           s.cache->reach(length), " tokens, but the context is ", context_);
  const NoGrad no_grad;
  s.cache->begin_block(block);
  // A cache that evicts takes a block layer by layer, so that no layer holds all of it for long.
  const int64_t chunk = options_.is_bounded() ? length : prefill_tokens(model_.device());
  for (int64_t begin = 0; begin < length; begin += chunk) {
    const int64_t end = std::min(begin + chunk, length);
    const Tensor x = model_.hidden(
        ids_tensor(ids.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin))),
        s.cache.get());
    if (end == length)
      s.logits = model_.head(raw::contiguous(raw::slice(x, 1, end - begin - 1, end - begin)))
                     .to_vector<float>();
  }
}

void Generation::step(std::span<const Next> next) {
  const RoundedProducts rounded;
  see(next);
}

void Generation::see(std::span<const Next> next) {
  const NoGrad no_grad;
  std::vector<KvCache*> caches;
  std::vector<int64_t> ids;
  for (const Next& n : next) {
    CHECK_AS(Fault::usage, room(n.row) > 0, "generate: the context of ", context_,
             " tokens is full");
    caches.push_back(at(n.row).cache.get());
    ids.push_back(n.id);
  }
  const auto rows = static_cast<int64_t>(ids.size());
  if (rows == 0) return;
  KvCacheRows cache(caches);
  const std::vector<float> all =
      model_.logits(Tensor::from(ids, {rows, 1}), &cache).to_vector<float>();
  const auto vocab = static_cast<std::ptrdiff_t>(all.size() / next.size());
  for (int64_t i = 0; i < rows; ++i)
    at(next[static_cast<size_t>(i)].row)
        .logits.assign(all.begin() + i * vocab, all.begin() + (i + 1) * vocab);
}

namespace {

// log softmax(logits)[id], summed in double.
double log_probability(std::span<const float> logits, int32_t id) {
  CHECK(id >= 0 && id < std::ssize(logits), "token ", id, " is outside the vocabulary of ",
        logits.size());
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float z : logits) sum += std::exp(z - top);
  return logits[static_cast<size_t>(id)] - top - std::log(sum);
}

}  // namespace

std::vector<double> log_probabilities(const LanguageModel& model, const Tensor& hidden,
                                      std::span<const int32_t> ids) {
  CHECK(!ids.empty() && hidden.dim(1) == std::ssize(ids), "generate: hidden states ",
        hidden.shape(), " for ", ids.size(), " ids");
  const NoGrad no_grad;
  const std::vector<float> all = model.head(raw::contiguous(hidden)).to_vector<float>();
  const size_t vocab = all.size() / ids.size();
  std::vector<double> found;
  for (size_t i = 0; i < ids.size(); ++i)
    found.push_back(log_probability(std::span(all).subspan(i * vocab, vocab), ids[i]));
  return found;
}

std::vector<double> score_in_one_pass(const LanguageModel& model, std::span<const int32_t> ids,
                                      int64_t from, KvCache& cache) {
  const auto length = std::ssize(ids);
  CHECK(from > 0 && from < length, "generate: to score ids ", from, " to ", length);
  const NoGrad no_grad;
  const Tensor x = model.hidden(ids_tensor(ids), &cache);
  return log_probabilities(model, raw::slice(x, 1, from - 1, length - 1),
                           ids.subspan(static_cast<size_t>(from)));
}

std::vector<std::vector<double>> Generation::score(std::span<const Row> rows,
                                                   std::span<const std::vector<int32_t>> ids) {
  CHECK(rows.size() == ids.size(), "generate: ", ids.size(), " lists of ids for ", rows.size(),
        " sequences");
  std::vector<std::vector<double>> found(rows.size());
  std::vector<Next> next(1);
  for (size_t t = 0; !next.empty(); ++t) {
    next.clear();
    for (size_t i = 0; i < rows.size(); ++i) {
      if (t >= ids[i].size()) continue;
      found[i].push_back(log_probability(logits(rows[i]), ids[i][t]));
      if (t + 1 < ids[i].size()) next.push_back({rows[i], ids[i][t]});
    }
    see(next);  // scores are of exact products, as in one pass
  }
  return found;
}

namespace {

// A text under way: picks from its row's logits until a reason to stop.
class Continuation {
 public:
  // `before`: the text so far, as far as the repeat penalty is concerned.
  Continuation(const Generation& session, Generation::Row row, const Sampler& sampler,
               const GenerateOptions& options, std::span<const int32_t> before)
      : session_(session), row_(row), sampler_(sampler), options_(options) {
    for (const int32_t id : before) note(id);
    const int64_t room = session.room(row) + 1;  // the last token need not be seen
    CHECK_AS(Fault::usage, options.max_tokens > 0 || room < KvCache::kNoEnd,
             "generate: rolled positions never fill the context; say how many tokens are wanted");
    wanted_ = options.max_tokens > 0 ? std::min(options.max_tokens, room) : room;
  }
  Generation::Row row() const { return row_; }
  // The next token to be fed; nothing where the text has ended.
  std::optional<int32_t> next() {
    const auto& stops = options_.stop_ids;
    const int32_t id = pick();
    if (std::find(stops.begin(), stops.end(), id) != stops.end()) return end("eos");
    result.ids.push_back(id);
    note(id);
    if (options_.on_token && !options_.on_token(id)) return end("stopped");
    if (std::ssize(result.ids) == wanted_)
      return end(wanted_ == options_.max_tokens ? "length" : "context");
    return id;
  }
  Generated result;

 private:
  int32_t pick() const {
    const std::vector<float>& logits = session_.logits(row_);
    if (std::ssize(result.ids) >= options_.min_tokens)
      return sampler_.pick(logits, result.ids.size(), present_);
    std::vector<float> without_end = logits;
    for (const int32_t stop : options_.stop_ids) without_end[static_cast<size_t>(stop)] = -INFINITY;
    return sampler_.pick(without_end, result.ids.size(), present_);
  }
  std::optional<int32_t> end(const char* why) {
    result.stop = why;
    return std::nullopt;
  }
  void note(int32_t id) {
    if (!sampler_.penalizes()) return;
    const auto at = static_cast<size_t>(id);
    if (at >= is_present_.size()) is_present_.resize(at + 1);
    if (!is_present_[at]) present_.push_back(id);
    is_present_[at] = true;
  }
  const Generation& session_;
  Generation::Row row_;
  const Sampler& sampler_;
  const GenerateOptions& options_;
  int64_t wanted_ = 0;
  std::vector<int32_t> present_;  // each id of the text once, where there is a penalty
  std::vector<bool> is_present_;
};

}  // namespace

Generated continue_text(Generation& session, Generation::Row row, const GenerateOptions& options) {
  const Sampler sampler(options.sampling);
  Continuation text(session, row, sampler, options, options.before);
  while (const auto id = text.next()) session.step(std::vector{Generation::Next{row, *id}});
  return text.result;
}

Generated generate(const LanguageModel& model, std::span<const int32_t> prompt,
                   const GenerateOptions& options) {
  const std::vector<int32_t> one(prompt.begin(), prompt.end());
  return generate(model, std::span(&one, 1), options, 1)[0];
}

std::vector<Generated> generate(const LanguageModel& model,
                                std::span<const std::vector<int32_t>> prompts,
                                const GenerateOptions& options, int64_t batch,
                                const GenerateEvents& events) {
  CHECK(batch > 0, "generate: a batch of ", batch);
  const Sampler sampler(options.sampling);
  Generation session(model, options.cache, options.context);
  std::vector<Generated> results(prompts.size());
  struct Running {
    size_t prompt;
    std::unique_ptr<GenerateOptions> options;  // what the text refers to
    Continuation text;
  };
  std::vector<Running> running;
  bool begins = true;
  for (size_t begun = 0; (begins && begun < prompts.size()) || !running.empty();) {
    while (begins && begun < prompts.size() && std::ssize(running) < batch) {
      const Generation::Row row = session.add();
      session.feed(row, prompts[begun]);
      auto own = std::make_unique<GenerateOptions>(options);
      if (events.on_token)
        own->on_token = [&events, begun](int32_t id) { return events.on_token(begun, id); };
      Continuation text(session, row, sampler, *own, prompts[begun]);
      running.push_back({begun++, std::move(own), std::move(text)});
    }
    std::vector<Generation::Next> next;
    std::vector<Running> left;
    for (Running& r : running) {
      if (const auto id = r.text.next()) {
        next.push_back({r.text.row(), *id});
        left.push_back(std::move(r));
        continue;
      }
      session.remove(r.text.row());
      results[r.prompt] = std::move(r.text.result);
      if (events.on_end) begins = events.on_end(r.prompt, results[r.prompt]) && begins;
    }
    session.step(next);
    running = std::move(left);
  }
  return results;
}

}  // namespace mullion
