// A turn: admit who waits, read a chunk of one prompt, decode a token for all, drop who has left.
#include "apps/llama/server/scheduler.h"

#include <algorithm>
#include <cmath>

#include "apps/llama/server/api_error.h"
#include "autograd/node.h"
#include "models/llama/likeliest_first.h"

namespace mullion::server {
namespace {

using Clock = std::chrono::steady_clock;

// Tokens of prompts between two steps: the others wait so long at most.
constexpr size_t kChunk = 256;
// Of a prompt that is scored, whose logits exist: 64 rows of the vocabulary.
constexpr size_t kScoredChunk = 64;
// Fewer tokens in common are not worth the copy of a cache.
constexpr size_t kWorthACopy = 16;

size_t common(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
  return static_cast<size_t>(end - a.begin());
}

}  // namespace

ScoredToken scored(std::span<const float> logits, int32_t id, int64_t top) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float z : logits) sum += std::exp(z - most);
  const double log_sum = most + std::log(sum);
  const auto of = [&](int32_t i) { return logits[static_cast<size_t>(i)] - log_sum; };
  ScoredToken token{.id = id, .logprob = of(id), .top = {}};
  if (top <= 0) return token;
  LikeliestFirst order(logits);
  for (size_t i = 0; i < std::min(static_cast<size_t>(top), order.size()); ++i)
    token.top.emplace_back(order[i], of(order[i]));
  return token;
}

Scheduler::Scheduler(const LanguageModel& model, const Tokenizer& tokenizer,
                     std::vector<int32_t> stop_ids, const SchedulerOptions& options)
    : model_(model),
      tokenizer_(tokenizer),
      stop_ids_(std::move(stop_ids)),
      options_(options),
      generation_(model, options.cache),
      slots_(static_cast<size_t>(options.parallel)) {
  metrics_.slots = options.parallel;
}

std::shared_ptr<Exchange> Scheduler::submit(std::vector<Job> jobs) {
  auto exchange = std::make_shared<Exchange>(jobs.size(), Clock::now() + options_.time_limit);
  const std::lock_guard lock(mutex_);
  if (std::ssize(waiting_) + std::ssize(jobs) > options_.queue)
    throw ApiError(503,
                   concat("the queue is full: ", waiting_.size(), " of ", options_.queue,
                          " places are taken and the request needs ", jobs.size()),
                   "", "queue_full");
  for (size_t i = 0; i < jobs.size(); ++i) waiting_.push_back({std::move(jobs[i]), exchange, i});
  metrics_.waiting = std::ssize(waiting_);
  came_.notify_one();
  return exchange;
}

void Scheduler::wait(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  came_.wait_for(lock, patience, [&] { return !waiting_.empty(); });
}

bool Scheduler::idle() const {
  const std::lock_guard lock(mutex_);
  return waiting_.empty() && metrics_.running == 0;
}

// Whether nobody wants the choice any more. Who waited too long gets a message.
bool Scheduler::over(const Exchange& exchange, size_t choice, const std::shared_ptr<Exchange>& to) {
  const bool late = Clock::now() > exchange.deadline();
  if (!late && !exchange.cancelled()) return false;
  ++metrics_.cancelled;
  Event event{.choice = choice};
  event.finish = Finish::failed;
  event.error = concat("the time limit of ", options_.time_limit.count(), " s is over");
  event.status = 504;
  to->post(std::move(event));
  return true;
}

void Scheduler::drop_the_left() {
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(waiting_,
                  [&](const Waiting& w) { return over(*w.exchange, w.choice, w.exchange); });
    metrics_.waiting = std::ssize(waiting_);
  }
  for (Slot& slot : slots_)
    if (slot.running && over(*slot.running->exchange, slot.running->choice, slot.running->exchange))
      slot.running.reset();
}

// Gives the slot a row that has seen as much of the prompt as any slot has, but not all of it: the
// last token is what the answer follows.
void Scheduler::place(Slot& slot, const std::vector<int32_t>& prompt, bool reuse) {
  Slot* best = nullptr;
  size_t shared = 0;
  if (reuse && !options_.cache.is_bounded())
    for (Slot& other : slots_) {
      const size_t n = other.row ? std::min(common(other.seen, prompt), prompt.size() - 1) : 0;
      if (n > shared || (n == shared && n > 0 && &other == &slot)) best = &other, shared = n;
    }
  if (best != &slot && shared >= kWorthACopy) {
    if (slot.row) generation_.remove(*slot.row);
    slot.row = generation_.fork(*best->row);
    slot.seen = best->seen;
  } else if (best != &slot) {
    shared = 0;
  }
  if (slot.row && options_.cache.is_bounded()) {
    generation_.remove(*slot.row);
    slot.row.reset();
  }
  if (!slot.row) slot.row = generation_.add();
  generation_.cache(*slot.row).rewind(static_cast<int64_t>(shared));
  slot.seen.resize(shared);
}

// The choice that came first gets a slot: the one that has seen most of its prompt, unless another
// conversation would lose most of its own by that; else the one that was used longest ago.
bool Scheduler::admit() {
  Slot* target = nullptr;
  for (Slot& slot : slots_) {
    if (slot.running) continue;
    if (!target || slot.used < target->used) target = &slot;
  }
  if (!target) return false;
  std::optional<Waiting> first;
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.empty()) return false;
    first = std::move(waiting_.front());
    waiting_.pop_front();
    metrics_.waiting = std::ssize(waiting_);
    ++metrics_.running;
  }
  Job& job = first->job;
  size_t most = 0;
  for (Slot& slot : slots_) {
    const size_t n = slot.running || !slot.row ? 0 : common(slot.seen, job.prompt);
    if (n > most && 2 * n >= slot.seen.size()) target = &slot, most = n;
  }
  target->used = ++turns_;
  AnswerStream text(tokenizer_, {.strip_space_prefix = false}, job.stops, job.lead);
  const Sampler sampler(job.sampling);
  target->running.emplace(Running{std::move(job),
                                  std::move(first->exchange),
                                  first->choice,
                                  std::move(text),
                                  sampler,
                                  0,
                                  0,
                                  0,
                                  {}});
  Running& running = *target->running;
  try {
    place(*target, running.job.prompt, !running.job.score_prompt);
  } catch (const std::exception& error) {
    fail(*target, error.what(), 500);
    return true;
  }
  running.fed = target->seen.size();
  running.reused = static_cast<int64_t>(running.fed);
  metrics_.reused_tokens += running.reused;
  metrics_.prompt_tokens += std::ssize(running.job.prompt);
  if (running.job.score_prompt)
    running.prompt_scores.push_back({.id = running.job.prompt[0], .logprob = {}, .top = {}});
  return true;
}

void Scheduler::score_chunk(Slot& slot, std::span<const int32_t> ids) {
  const NoGrad no_grad;
  Running& r = *slot.running;
  const auto length = std::ssize(ids);
  const std::vector<float> all =
      model_
          .logits(Tensor::from(std::vector<int64_t>(ids.begin(), ids.end()), {1, length}),
                  &generation_.cache(*slot.row))
          .to_vector<float>();
  const size_t vocabulary = all.size() / ids.size();
  for (size_t i = 0; i < ids.size(); ++i)
    r.prompt_scores.push_back(scored(std::span(all).subspan(i * vocabulary, vocabulary),
                                     r.job.prompt[r.fed + i + 1], r.job.top));
}

// Feeds up to `most` more tokens of the slot's prompt. A cache with a budget takes the prompt as
// one block, by its definition.
size_t Scheduler::read_chunk(Slot& slot, size_t most) {
  Running& r = *slot.running;
  const std::span<const int32_t> left = std::span(r.job.prompt).subspan(r.fed);
  size_t n = options_.cache.is_bounded() ? left.size() : std::min(most, left.size());
  if (r.job.score_prompt && left.size() > 1) {
    n = std::min({n, kScoredChunk, left.size() - 1});
    score_chunk(slot, left.first(n));
  } else {
    generation_.feed(*slot.row, left.first(n));
  }
  slot.seen.insert(slot.seen.end(), left.begin(), left.begin() + static_cast<std::ptrdiff_t>(n));
  r.fed += n;
  return n;
}

void Scheduler::read_prompts() {
  for (size_t left = kChunk; left > 0;) {
    // One prompt at a time, so that the next one finds what this one has read.
    Slot* reading = nullptr;
    for (Slot& slot : slots_)
      if (slot.running && !slot.decoding()) reading = &slot;
    if (!reading) {
      if (!admit()) return;
      continue;
    }
    try {
      left -= std::min(left, read_chunk(*reading, left));
    } catch (const std::exception& error) {
      fail(*reading, error.what(), 500);
      continue;
    }
    Running& r = *reading->running;
    if (!reading->decoding()) continue;
    Event event{.choice = r.choice, .of_prompt = true};
    event.tokens = std::move(r.prompt_scores);
    event.reused = r.reused;
    if (r.job.max_tokens == 0)
      end(*reading, Finish::length, std::move(event));
    else
      r.exchange->post(std::move(event));
  }
}

void Scheduler::end(Slot& slot, Finish finish, Event event) {
  event.finish = finish;
  slot.running->exchange->post(std::move(event));
  slot.running.reset();
}

void Scheduler::fail(Slot& slot, const std::string& why, int status) {
  Event event{.choice = slot.running->choice};
  event.error = why;
  event.status = status;
  end(slot, Finish::failed, std::move(event));
  // What its cache holds is not known.
  if (slot.row) generation_.remove(*slot.row);
  slot.row.reset();
  slot.seen.clear();
}

std::optional<int32_t> Scheduler::next(Slot& slot) {
  Running& r = *slot.running;
  const std::vector<float>& logits = generation_.logits(*slot.row);
  const int32_t id = r.sampler.pick(logits, static_cast<uint64_t>(r.made));
  CHECK(std::isfinite(logits[static_cast<size_t>(id)]), "the model's logits are not finite");
  Event event{.choice = r.choice};
  if (r.job.top >= 0) event.tokens.push_back(scored(logits, id, r.job.top));
  event.generated = 1;
  ++metrics_.generated_tokens;
  ++r.made;
  const bool is_end = std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end();
  if (!is_end) event.text = r.text.push(id);
  const bool full = r.made == r.job.max_tokens;
  if (!is_end && !r.text.at_stop_string() && !full) {
    r.exchange->post(std::move(event));
    return id;
  }
  if (!r.text.at_stop_string()) event.text += r.text.finish();
  end(slot, is_end || r.text.at_stop_string() ? Finish::stop : Finish::length, std::move(event));
  return std::nullopt;
}

void Scheduler::decode() {
  std::vector<Generation::Next> feed;
  std::vector<Slot*> of;
  for (Slot& slot : slots_) {
    if (!slot.decoding()) continue;
    try {
      if (const auto id = next(slot)) {
        feed.push_back({*slot.row, *id});
        of.push_back(&slot);
      }
    } catch (const std::exception& error) {
      fail(slot, error.what(), 500);
    }
  }
  if (feed.empty()) return;
  try {
    generation_.step(feed);
    for (size_t i = 0; i < feed.size(); ++i) of[i]->seen.push_back(feed[i].id);
    ++metrics_.steps;
    metrics_.step_rows += std::ssize(feed);
  } catch (const std::exception& error) {
    for (Slot* slot : of) fail(*slot, error.what(), 500);
  }
}

void Scheduler::measure() {
  int64_t running = 0, tokens = 0, bytes = 0;
  for (const Slot& slot : slots_) {
    running += slot.running ? 1 : 0;
    if (!slot.row) continue;
    tokens += generation_.cache(*slot.row).held();
    bytes += generation_.cache(*slot.row).bytes();
  }
  const std::lock_guard lock(mutex_);
  metrics_.running = running;
  metrics_.cache_tokens = tokens;
  metrics_.cache_bytes = bytes;
}

bool Scheduler::turn() {
  drop_the_left();
  const auto begin = Clock::now();
  read_prompts();
  decode();
  measure();
  const bool worked = metrics_.running > 0;
  if (worked)
    metrics_.busy_micros +=
        std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begin).count();
  return worked;
}

void Scheduler::fail_all(const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    for (Waiting& w : waiting_) {
      Event event{.choice = w.choice};
      event.finish = Finish::failed;
      event.error = why;
      event.status = 503;
      w.exchange->post(std::move(event));
    }
    waiting_.clear();
    metrics_.waiting = 0;
  }
  for (Slot& slot : slots_)
    if (slot.running) fail(slot, why, 503);
  measure();
}

}  // namespace mullion::server
