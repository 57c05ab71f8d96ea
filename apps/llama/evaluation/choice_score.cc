// Two ways to score choices: a copy of the context's cache each, or under a mask one pass each.
#include "apps/llama/evaluation/choice_score.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "data/utf8.h"

namespace mullion {
namespace {

double sum_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

// The ids that a text has whatever word follows: where it ends, the two may merge.
std::vector<int32_t> beginning_of(const Tokenizer& tokenizer, const std::string& text) {
  if (text.empty()) return {};
  const EncodeOptions how{.bos = tokenizer.add_bos()};
  const std::vector<int32_t> alone = tokenizer.encode(text, how),
                             before = tokenizer.encode(text + "A", how);
  return {alone.begin(), std::ranges::mismatch(alone, before).in1};
}

int64_t held_bytes(const KvCache& cache, const KvCacheShape& shape) {
  return cache.held() * 2 * shape.layers * shape.kv_heads * shape.head_dim *
         static_cast<int64_t>(size_of(shape.dtype));
}

}  // namespace

ScoredText scored_text(const Tokenizer& tokenizer, const std::string& context_in,
                       const std::string& continuation_in, int64_t most_ids) {
  std::string context = context_in, continuation = continuation_in;
  ScoredText text;
  if (context.empty()) {
    const std::optional<int32_t> first = tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
    CHECK_AS(Fault::usage, first.has_value(),
             "choice: the tokenizer has neither BOS nor EOS, with "
             "which an empty context begins");
    text.context = {*first};
    text.continuation = tokenizer.encode(continuation);
  } else {
    size_t end = context.size();
    while (end > 0 && ascii_space(context[end - 1])) --end;
    continuation = context.substr(end) + continuation;
    context.resize(end);
    const EncodeOptions how{.bos = tokenizer.add_bos()};
    text.context = tokenizer.encode(context, how);
    const std::vector<int32_t> whole = tokenizer.encode(context + continuation, how);
    const auto from = std::min(whole.size(), text.context.size());
    text.continuation.assign(whole.begin() + static_cast<std::ptrdiff_t>(from), whole.end());
  }
  CHECK_AS(Fault::bad_file, !text.continuation.empty() && !text.context.empty(), "choice: '",
           continuation_in, "' has no token of its own behind its context");
  text.cut = std::ssize(text.context) + std::ssize(text.continuation) - most_ids;
  if (text.cut <= 0) {
    text.cut = 0;
    return text;
  }
  CHECK_AS(Fault::usage, text.cut < std::ssize(text.context), "choice: a continuation of ",
           text.continuation.size(), " tokens, but the model's context is ", most_ids - 1);
  text.context.erase(text.context.begin(), text.context.begin() + text.cut);
  return text;
}

ChoiceScorer::ChoiceScorer(const LanguageModel& model, const Tokenizer& tokenizer,
                           const KvCacheOptions& cache, std::string few_shots)
    : model_(model),
      tokenizer_(tokenizer),
      cache_(cache),
      few_shots_(std::move(few_shots)),
      shot_ids_(beginning_of(tokenizer, few_shots_)),
      session_(model, cache) {
  if (std::ssize(shot_ids_) >= model.context()) shot_ids_.clear();  // every context is cut
}

std::vector<ChoiceScores> ChoiceScorer::operator()(std::span<const ChoiceQuestion> questions) {
  std::vector<ChoiceScores> scores;
  std::vector<Generation::Row> rows;
  std::vector<std::vector<int32_t>> ids;
  for (const ChoiceQuestion& question : questions) {
    std::vector<ScoredText> texts;
    ChoiceScores found;
    // The last token is nothing but a target, where a mask does not look at its query as well.
    const int64_t most_ids = model_.context() + (cache_.mode == KvMode::mask ? 0 : 1);
    for (size_t i = 0; i < question.choices.size(); ++i) {
      texts.push_back(scored_text(tokenizer_, few_shots_ + question.text_of(i),
                                  " " + question.choices[i], most_ids));
      found.tokens.push_back(std::ssize(texts.back().continuation));
      found.cut.push_back(texts.back().cut);
    }
    scores.push_back(std::move(found));
    ChoiceScores& mine = scores.back();
    if (cache_.mode == KvMode::mask) {
      for (const ScoredText& text : texts) mine.sum.push_back(sum_of(one_pass(text)));
    } else {
      // The context once where it is the same for all choices, and a copy of its cache for each.
      for (size_t i = 0; i < texts.size(); ++i) {
        if (i > 0 && texts[i].context == texts[i - 1].context) {
          rows.push_back(session_.fork(rows.back()));
        } else {
          rows.push_back(read(texts[i].context));
          cache_bytes_ =
              std::max(cache_bytes_, held_bytes(session_.cache(rows.back()), model_.cache_shape()));
        }
        ids.push_back(texts[i].continuation);
      }
    }
  }
  if (rows.empty()) return scores;
  const auto found = session_.score(rows, ids);
  size_t row = 0;
  for (ChoiceScores& s : scores)
    for (size_t i = 0; i < s.tokens.size(); ++i) s.sum.push_back(sum_of(found[row++]));
  for (const Generation::Row done : rows) session_.remove(done);
  return scores;
}

// A sequence that has read a context. Few shots with which it begins are not read again, and a
// question's bits are the same behind any other.
Generation::Row ChoiceScorer::read(const std::vector<int32_t>& context) {
  if (!shared_ && !shot_ids_.empty()) {
    shared_ = session_.add();
    session_.feed_beginning(*shared_, shot_ids_);
  }
  const bool begins = shared_ && shot_ids_.size() < context.size() &&
                      std::equal(shot_ids_.begin(), shot_ids_.end(), context.begin());
  const Generation::Row row = begins ? session_.fork(*shared_) : session_.add();
  session_.feed(row, std::span(context).subspan(begins ? shot_ids_.size() : 0));
  if (cache_.by_score() && kept_.empty()) {
    const KvCacheShape shape = model_.cache_shape();
    for (int64_t layer = 0; layer < shape.layers; ++layer) {
      std::vector<int>& heads = kept_.emplace_back(context.size());
      for (int64_t head = 0; head < shape.kv_heads; ++head)
        for (const int64_t position : session_.cache(row).kept(layer, head))
          ++heads[static_cast<size_t>(position)];
    }
  }
  return row;
}

// All tokens in one pass, in which the mask is found.
std::vector<double> ChoiceScorer::one_pass(const ScoredText& text) {
  std::vector<int32_t> all = text.context;
  all.insert(all.end(), text.continuation.begin(), text.continuation.end());
  const auto cache = make_kv_cache(cache_, model_.cache_shape());
  return score_in_one_pass(model_, all, std::ssize(text.context), *cache);
}

// One pass for all of them, the shorter ones padded: the weights are read once.
std::vector<double> ChoiceScorer::alone(const std::vector<std::string>& choices) const {
  std::vector<ScoredText> texts;
  std::vector<std::vector<int32_t>> rows;  // what is read: all but the last token
  size_t longest = 0;
  for (const std::string& choice : choices) {
    texts.push_back(scored_text(tokenizer_, "", choice, model_.context() + 1));
    std::vector<int32_t>& row = rows.emplace_back(texts.back().context);
    const std::vector<int32_t>& targets = texts.back().continuation;
    row.insert(row.end(), targets.begin(), targets.end() - 1);
    longest = std::max(longest, row.size());
  }
  std::vector<int64_t> ids;
  for (std::vector<int32_t>& row : rows) {
    row.resize(longest, row.back());
    ids.insert(ids.end(), row.begin(), row.end());
  }
  const NoGrad no_grad;
  const Tensor hidden =
      model_.hidden(Tensor::from(ids, {std::ssize(rows), static_cast<int64_t>(longest)}));
  std::vector<double> sums;
  for (size_t r = 0; r < texts.size(); ++r) {
    const int64_t begin = std::ssize(texts[r].context) - 1, row = static_cast<int64_t>(r),
                  end = begin + std::ssize(texts[r].continuation);
    const Tensor own = raw::slice(raw::slice(hidden, 0, row, row + 1), 1, begin, end);
    sums.push_back(sum_of(log_probabilities(model_, own, texts[r].continuation)));
  }
  return sums;
}

}  // namespace mullion
