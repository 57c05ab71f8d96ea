// Decodes the choices of all requests together, in the thread that calls turn(). Choices wait in
// the order in which they came; one that ends makes room for the next between two steps. A prompt
// is read in chunks between the steps of the others, so that a long one does not hold them up.
//
// A slot keeps its cache after its choice has ended. A prompt that begins as what a slot has seen
// is read from there on: the turns of a chat, questions with the same examples. Only a full cache
// can go back, so those with a budget start anew.
#pragma once
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "apps/llama/answer_stream.h"
#include "apps/llama/server/exchange.h"
#include "apps/llama/server/metrics.h"

namespace mullion::server {

struct SchedulerOptions {
  int64_t parallel = 4;                  // choices that run together
  int64_t queue = 256;                   // choices that wait, at most
  std::chrono::seconds time_limit{600};  // of a request, the waiting included
  KvCacheOptions cache = {};
};

class Scheduler {
 public:
  // Model and tokenizer must outlive it.
  Scheduler(const LanguageModel& model, const Tokenizer& tokenizer, std::vector<int32_t> stop_ids,
            const SchedulerOptions& options);

  // From any thread. ApiError(503) where the queue has no room for all jobs.
  std::shared_ptr<Exchange> submit(std::vector<Job> jobs);
  // A chunk of prompts and a step of all running choices; false where there was nothing to do.
  bool turn();
  // Until there is something to do, at most so long.
  void wait(std::chrono::milliseconds patience);
  bool idle() const;                      // nothing waits or runs
  void fail_all(const std::string& why);  // ends whatever waits or runs
  Metrics& metrics() { return metrics_; }
  const SchedulerOptions& options() const { return options_; }

 private:
  struct Running {
    Job job;
    std::shared_ptr<Exchange> exchange;
    size_t choice;
    AnswerStream text;
    Sampler sampler;
    size_t fed = 0;  // of the prompt
    int64_t reused = 0, made = 0;
    std::vector<ScoredToken> prompt_scores;
  };
  struct Waiting {
    Job job;
    std::shared_ptr<Exchange> exchange;
    size_t choice;
  };
  struct Slot {
    std::optional<Generation::Row> row;
    std::vector<int32_t> seen;  // by the cache, in order
    std::optional<Running> running;
    uint64_t used = 0;  // when, in turns
    bool decoding() const { return running && running->fed == running->job.prompt.size(); }
  };

  bool over(const Exchange& exchange, size_t choice, const std::shared_ptr<Exchange>& to);
  void drop_the_left();
  bool admit();
  void place(Slot& slot, const std::vector<int32_t>& prompt, bool reuse);
  void read_prompts();
  size_t read_chunk(Slot& slot, size_t most);
  void score_chunk(Slot& slot, std::span<const int32_t> ids);
  void decode();
  // The slot's next token, to be fed; nothing where its choice has ended.
  std::optional<int32_t> next(Slot& slot);
  void end(Slot& slot, Finish finish, Event event);
  void fail(Slot& slot, const std::string& why, int status);
  void measure();

  const LanguageModel& model_;
  const Tokenizer& tokenizer_;
  std::vector<int32_t> stop_ids_;
  SchedulerOptions options_;
  Metrics metrics_;
  Generation generation_;
  std::vector<Slot> slots_;
  uint64_t turns_ = 0;
  mutable std::mutex mutex_;  // of waiting_
  std::condition_variable came_;
  std::deque<Waiting> waiting_;
};

// log softmax(logits) of `id` and of the `top` likeliest, summed in double.
ScoredToken scored(std::span<const float> logits, int32_t id, int64_t top);

}  // namespace mullion::server
