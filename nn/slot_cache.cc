// A block either fits and is appended, or attends beside what is held and is evicted at its end.
#include "nn/slot_cache.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "autograd/attention_sums.h"
#include "autograd/ops.h"

namespace mullion {
namespace {

constexpr int64_t kSlotsAtOnce = 64;
constexpr int64_t kSlotsAhead =
    256;  // a copy of the cache each so many tokens costs next to nothing

Tensor tokens_of(const Tensor& x, int64_t begin, int64_t end) {
  return raw::slice(x, 1, begin, end);
}

Tensor turned(const Tensor& x, const AttentionCall& call, int64_t position) {
  const RopeTable::Slice angles = call.rope->at(position, x.dim(1), x.device());
  return rope_in_place(x, angles.cos, angles.sin);
}

void copy_row(const Tensor& from, int64_t from_slot, const Tensor& to, int64_t to_slot,
              int64_t head) {
  const auto row = [head](const Tensor& x, int64_t slot) {
    return raw::slice(tokens_of(x, slot, slot + 1), 2, head, head + 1);
  };
  raw::copy_into(row(from, from_slot), row(to, to_slot));
}

}  // namespace

SlotCache::SlotCache(const KvCacheOptions& options, const KvCacheShape& shape)
    : options_(options),
      policy_(&options.policy()),
      shape_(shape),
      layers_(static_cast<size_t>(shape.layers)) {
  CHECK(shape.layers > 0 && shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0,
        "KV cache: ", shape.layers, " layers, ", shape.heads, " heads, ", shape.kv_heads,
        " KV heads");
  validate(options);
}

void SlotCache::begin_block(int64_t tokens) {
  const int64_t fed = layers_.back().block;
  CHECK(tokens > fed && (expected_ == 0 || fed > 0), "KV cache: a block of ", tokens,
        " tokens begins after ", fed, " tokens of one of ", expected_);
  const bool first = fed > 0 && fed == position();  // it goes on: its length decides the budget
  if (is_bounded() && (first || limit_ == 0)) {
    shares_ = kv_shares(options_, tokens);  // or the block is none
    limit_ = shares_.total();
  }
  expected_ = tokens;
}

int64_t SlotCache::reach(int64_t tokens) const {
  return (is_rolled() ? held() : position()) + tokens;
}

int64_t SlotCache::room(int64_t context) const {
  if (is_rolled() && limit_ > 0 && limit_ < context) return kNoEnd;
  return context - reach(0);
}

Tensor SlotCache::attend(int64_t layer, const Tensor& q, const Tensor& k, const Tensor& v,
                         const AttentionCall& call) {
  CHECK(layer >= 0 && layer < shape_.layers, "KV cache: layer ", layer, " of ", shape_.layers);
  refuse_gradients("KV cache", {k, v});
  CHECK(q.dim(0) == 1 && k.dim(2) == shape_.kv_heads && q.dim(2) == shape_.heads,
        "KV cache: of one sequence, ", shape_.heads, " heads and ", shape_.kv_heads,
        " KV heads, for q of shape ", q.shape(), " and k of shape ", k.shape());
  Layer& l = layers_[static_cast<size_t>(layer)];
  const int64_t tokens = q.dim(1);
  if (expected_ == 0) begin_block(tokens);
  const int64_t block = expected_;
  CHECK(l.block + tokens <= block, "KV cache: ", l.block + tokens, " tokens of a block of ", block);
  const bool fits = !is_bounded() || l.held - l.block + block <= limit_;
  Tensor o;
  if (!l.block_k.defined() && fits)
    o = append(l, q, k, v, call);
  else if (block == 1)
    o = decode(l, q, k, v, call);
  else
    o = attend_block(l, q, k, v, call);
  l.seen += tokens;
  l.block += tokens;
  if (l.block == block) {
    if (l.block_k.defined()) evict_block(l);
    l.block = 0;
    if (layer + 1 == shape_.layers) expected_ = 0;
  }
  return o;
}

// The tokens behind those that are held, while nothing has been lost: a slot is a position.
Tensor SlotCache::append(Layer& l, Tensor q, Tensor k, const Tensor& v, const AttentionCall& call) {
  const int64_t begin = l.held, end = begin + k.dim(1);
  // What is left of a block comes at once: a prompt in parts would be copied at each.
  reserve(l, expected_ < kOpenBlock ? begin - l.block + expected_ : end);
  q = turned(q, call, begin);
  if (!is_rolled()) k = turned(k, call, begin);
  raw::copy_into(k, tokens_of(l.k, begin, end));
  raw::copy_into(v, tokens_of(l.v, begin, end));
  l.held = end;
  const Tensor keys = tokens_of(l.k, 0, end);
  return run(l, q, is_rolled() ? rotated(l, keys, call) : keys, tokens_of(l.v, 0, end), call,
             begin);
}

// One token with the budget full: it takes the free slot of each head, and one goes.
Tensor SlotCache::decode(Layer& l, const Tensor& q, Tensor k, const Tensor& v,
                         const AttentionCall& call) {
  start_heads(l);
  reserve(l, limit_ + 1);
  const Tensor query = turned(q, call, is_rolled() ? limit_ : l.seen);
  if (!is_rolled()) k = turned(k, call, l.seen);
  for (size_t h = 0; h < l.heads.size(); ++h) {
    Head& head = l.heads[h];
    copy_row(k, 0, l.k, head.free, static_cast<int64_t>(h));
    copy_row(v, 0, l.v, head.free, static_cast<int64_t>(h));
    head.position[static_cast<size_t>(head.free)] = static_cast<int32_t>(l.seen);
    head.rank[static_cast<size_t>(head.free)] = static_cast<int32_t>(limit_);
  }
  const Tensor keys = tokens_of(l.k, 0, limit_ + 1);
  const Tensor o = run(l, query, is_rolled() ? rotated(l, keys, call) : keys,
                       tokens_of(l.v, 0, limit_ + 1), call, limit_);
  for (size_t h = 0; h < l.heads.size(); ++h) evict_one(l, h);
  return o;
}

// Part of a block that does not fit: it attends to all that is held and to the block so far.
Tensor SlotCache::attend_block(Layer& l, const Tensor& q, Tensor k, const Tensor& v,
                               const AttentionCall& call) {
  if (l.block == 0) close_gaps(l);
  const int64_t begin = l.held + l.block;
  const Tensor query = turned(q, call, is_rolled() ? begin : l.seen);
  if (!is_rolled()) k = turned(k, call, l.seen);
  l.block_k = l.block_k.defined() ? concat({l.block_k, k}, 1) : k;
  l.block_v = l.block_v.defined() ? concat({l.block_v, v}, 1) : v;
  note_peak();
  const auto with_held = [&](const Tensor& held, const Tensor& block) {
    return l.held > 0 ? concat({tokens_of(held, 0, l.held), block}, 1) : block;
  };
  const Tensor keys = with_held(l.k, l.block_k);
  return run(l, query, is_rolled() ? rotated(l, keys, call) : keys, with_held(l.v, l.block_v), call,
             begin);
}

Tensor SlotCache::run(Layer& l, const Tensor& q, const Tensor& k, const Tensor& v,
                      const AttentionCall& call, int64_t query_offset) {
  note_peak();
  if (!needs_scores()) return attention(q, k, v, *call.pattern, call.scale, query_offset);
  const AttentionSums found = attention_with_sums(q, k, v, *call.pattern, call.scale, query_offset);
  const Tensor sums = raw::to_device(found.sums, {});
  const float* from = sums.data<float>();
  const int64_t keys = k.dim(1), share = shape_.heads / shape_.kv_heads;
  const bool by_query_head = options_.scores == KvScores::max;
  l.scores.resize(static_cast<size_t>(by_query_head ? shape_.heads : shape_.kv_heads));
  for (int64_t h = 0; h < shape_.heads; ++h, from += keys) {
    auto& to = l.scores[static_cast<size_t>(by_query_head ? h : h / share)];
    if (std::ssize(to) < keys) to.resize(static_cast<size_t>(keys));
    for (int64_t j = 0; j < keys; ++j) to[static_cast<size_t>(j)] += from[j];
  }
  return found.o;
}

float SlotCache::score(const Layer& l, size_t head, int64_t slot) const {
  const auto at = static_cast<size_t>(slot);
  if (options_.scores == KvScores::sum) return l.scores[head][at];
  const auto share = static_cast<size_t>(shape_.heads / shape_.kv_heads);
  float largest = l.scores[head * share][at];
  for (size_t i = 1; i < share; ++i) largest = std::max(largest, l.scores[head * share + i][at]);
  return largest;
}

// Of the tokens between the sinks and the recent ones, the one with the least score, the later of
// equals.
void SlotCache::evict_one(Layer& l, size_t h) {
  Head& head = l.heads[h];
  const int64_t end = limit_ + 1 - shares_.recent;
  int64_t out = -1;
  float least = 0;
  for (int64_t slot = 0; slot <= limit_; ++slot) {
    const int32_t rank = head.rank[static_cast<size_t>(slot)];
    if (rank < shares_.sinks || rank >= end) continue;
    const float found = shares_.heavy > 0 ? score(l, h, slot) : 0;
    const bool is_later = out >= 0 && rank > head.rank[static_cast<size_t>(out)];
    if (out < 0 || found < least || (found == least && is_later)) out = slot, least = found;
  }
  const int32_t rank = head.rank[static_cast<size_t>(out)];
  for (int32_t& other : head.rank) other -= other > rank ? 1 : 0;
  head.rank[static_cast<size_t>(out)] = -1;
  head.free = out;
  if (!needs_scores()) return;
  const size_t share = l.scores.size() / l.heads.size();
  for (size_t i = h * share; i < (h + 1) * share; ++i) l.scores[i][static_cast<size_t>(out)] = 0;
}

// Of `tokens` sources, the held slots and then the block, those that stay, by position.
std::vector<int64_t> SlotCache::kept_of(const Layer& l, size_t h, int64_t tokens) const {
  std::vector<int64_t> order(static_cast<size_t>(tokens));
  std::iota(order.begin(), order.end(), 0);
  if (!l.heads.empty())
    for (int64_t slot = 0; slot < l.held; ++slot)
      order[static_cast<size_t>(l.heads[h].rank[static_cast<size_t>(slot)])] = slot;
  const auto first = order.begin() + shares_.sinks, last = order.end() - shares_.recent;
  std::vector<int64_t> places(static_cast<size_t>(last - first));  // in `order`
  std::iota(places.begin(), places.end(), shares_.sinks);
  if (shares_.heavy > 0) {
    std::vector<float> scores(order.size());
    for (const int64_t i : places)
      scores[static_cast<size_t>(i)] = score(l, h, order[static_cast<size_t>(i)]);
    std::nth_element(places.begin(), places.begin() + shares_.heavy, places.end(),
                     [&](int64_t a, int64_t b) {
                       const float x = scores[static_cast<size_t>(a)];
                       const float y = scores[static_cast<size_t>(b)];
                       return x != y ? x > y : a < b;
                     });
  }
  places.resize(static_cast<size_t>(shares_.heavy));
  std::sort(places.begin(), places.end());
  std::vector<int64_t> kept(order.begin(), first);
  for (const int64_t i : places) kept.push_back(order[static_cast<size_t>(i)]);
  kept.insert(kept.end(), last, order.end());
  return kept;
}

void SlotCache::evict_block(Layer& l) {
  const int64_t tokens = l.held + l.block, before = l.seen - l.block, heads = shape_.kv_heads;
  if (tokens <= limit_) {  // it began as a longer one
    reserve(l, tokens);
    raw::copy_into(l.block_k, tokens_of(l.k, l.held, tokens));
    raw::copy_into(l.block_v, tokens_of(l.v, l.held, tokens));
    l.held = tokens;
    l.block_k = l.block_v = {};
    return;
  }
  std::vector<int64_t> rows(static_cast<size_t>(limit_ * heads));
  std::vector<Head> fresh(static_cast<size_t>(heads));
  for (size_t h = 0; h < fresh.size(); ++h) {
    const std::vector<int64_t> kept = kept_of(l, h, tokens);
    Head& head = fresh[h];
    for (size_t slot = 0; slot < kept.size(); ++slot) {
      rows[slot * fresh.size() + h] = kept[slot] * heads + static_cast<int64_t>(h);
      head.position.push_back(
          kept[slot] >= l.held ? static_cast<int32_t>(before + kept[slot] - l.held)
          : l.heads.empty()    ? static_cast<int32_t>(kept[slot])
                               : l.heads[h].position[static_cast<size_t>(kept[slot])]);
      head.rank.push_back(static_cast<int32_t>(slot));
    }
    head.position.push_back(-1);
    head.rank.push_back(-1);
    head.free = limit_;
    const size_t share = l.scores.size() / fresh.size();
    for (size_t i = h * share; i < (h + 1) * share; ++i) {
      std::vector<float> scores;
      for (const int64_t source : kept) scores.push_back(l.scores[i][static_cast<size_t>(source)]);
      scores.push_back(0);
      l.scores[i] = std::move(scores);
    }
  }
  const int64_t width = shape_.head_dim;
  const Tensor ids = Tensor::from(rows, {limit_ * heads});
  const auto gather = [&](const Tensor& held, const Tensor& block) {
    const Tensor all = l.held > 0 ? concat({tokens_of(held, 0, l.held), block}, 1) : block;
    return reshape(embedding(reshape(all, {tokens * heads, width}), ids),
                   {1, limit_, heads, width});
  };
  const Tensor k = gather(l.k, l.block_k), v = gather(l.v, l.block_v);
  l.held = 0;  // what is in the slots has been copied
  reserve(l, limit_ + 1);
  raw::copy_into(k, tokens_of(l.k, 0, limit_));
  raw::copy_into(v, tokens_of(l.v, 0, limit_));
  l.heads = std::move(fresh);
  l.held = limit_;
  l.block_k = l.block_v = {};
}

// Keys by the places they have among all that are held.
Tensor SlotCache::rotated(const Layer& l, const Tensor& keys, const AttentionCall& call) const {
  const int64_t count = keys.dim(1);
  const RopeTable::Slice angles = call.rope->at(0, count, keys.device());
  if (l.heads.empty()) return rope(keys, angles.cos, angles.sin);
  std::vector<Tensor> turned_heads;
  for (size_t h = 0; h < l.heads.size(); ++h) {
    std::vector<int64_t> ranks(static_cast<size_t>(count));
    std::iota(ranks.begin(), ranks.end(), 0);  // of a block, behind what is held
    const auto& known = l.heads[h].rank;
    for (size_t slot = 0; slot < std::min(ranks.size(), known.size()); ++slot)
      if (known[slot] >= 0) ranks[slot] = known[slot];
    const Tensor ids = Tensor::from(ranks, {count});
    const auto head = static_cast<int64_t>(h);
    turned_heads.push_back(rope(raw::contiguous(raw::slice(keys, 2, head, head + 1)),
                                embedding(angles.cos, ids), embedding(angles.sin, ids)));
  }
  return concat(turned_heads, 2);
}

// Room for so many slots, a half more than before (and at most kSlotsAhead) where the budget
// allows.
void SlotCache::reserve(Layer& l, int64_t slots) {
  const int64_t before = l.k.defined() ? l.k.dim(1) : 0;
  if (before >= slots) return;
  int64_t wanted = std::max(slots, before + std::min(before / 2, kSlotsAhead));
  wanted = (wanted + kSlotsAtOnce - 1) / kSlotsAtOnce * kSlotsAtOnce;
  if (is_bounded()) wanted = std::min(wanted, limit_ + 1);
  for (Tensor* x : {&l.k, &l.v}) {
    const Tensor larger =
        Tensor::empty({1, wanted, shape_.kv_heads, shape_.head_dim}, shape_.dtype, shape_.device);
    if (l.held > 0) raw::copy_into(tokens_of(*x, 0, l.held), tokens_of(larger, 0, l.held));
    *x = larger;
  }
  // Token by token: the smaller blocks fit nothing to come, and those of all layers are a whole
  // cache.
  const bool on_cpu = shape_.device.type == DeviceType::cpu;
  if (on_cpu && before > 0 && slots == before + 1) release_cached_memory();
}

void SlotCache::start_heads(Layer& l) {
  if (!l.heads.empty()) return;
  Head head;
  head.position.resize(static_cast<size_t>(limit_ + 1));
  std::iota(head.position.begin(), head.position.end(), 0);
  head.rank = head.position;
  head.rank.back() = -1;
  head.free = limit_;
  l.heads.assign(static_cast<size_t>(shape_.kv_heads), head);
}

// The held tokens into the first slots, before a block comes behind them.
void SlotCache::close_gaps(Layer& l) {
  for (size_t h = 0; h < l.heads.size(); ++h) {
    Head& head = l.heads[h];
    const auto gap = static_cast<size_t>(head.free), last = static_cast<size_t>(limit_);
    if (gap == last) continue;
    copy_row(l.k, limit_, l.k, head.free, static_cast<int64_t>(h));
    copy_row(l.v, limit_, l.v, head.free, static_cast<int64_t>(h));
    head.position[gap] = head.position[last];
    head.rank[gap] = std::exchange(head.rank[last], -1);
    const size_t share = l.scores.size() / l.heads.size();
    for (size_t i = h * share; i < (h + 1) * share; ++i)
      l.scores[i][gap] = l.scores[i][last], l.scores[i][last] = 0;
    head.free = limit_;
  }
}

int64_t SlotCache::bytes() const {
  int64_t sum = 0;
  for (const Layer& l : layers_)
    for (const Tensor* x : {&l.k, &l.v, &l.block_k, &l.block_v})
      sum += x->defined() ? x->bytes() : 0;
  return sum;
}

void SlotCache::note_peak() { peak_ = std::max(peak_, bytes()); }

std::unique_ptr<KvCache> SlotCache::clone() const {
  auto copy = std::make_unique<SlotCache>(*this);
  for (Layer& l : copy->layers_)
    for (Tensor* x : {&l.k, &l.v})
      if (x->defined()) *x = raw::clone(*x);
  return copy;
}

void SlotCache::rewind(int64_t position) {
  CHECK(position >= 0 && position <= this->position(), "KV cache: back to position ", position,
        " of ", this->position());
  if (position == this->position()) return;
  for (Layer& l : layers_) {
    CHECK_AS(Fault::usage, l.heads.empty() && !needs_scores(),
             "KV cache: what a cache with a budget has evicted does not come back");
    l.seen = l.held = position;
  }
}

std::vector<int64_t> SlotCache::kept(int64_t layer, int64_t kv_head) const {
  const Layer& l = layers_[static_cast<size_t>(layer)];
  std::vector<int64_t> positions(static_cast<size_t>(l.held));
  std::iota(positions.begin(), positions.end(), 0);
  if (l.heads.empty()) return positions;
  const Head& head = l.heads[static_cast<size_t>(kv_head)];
  positions.clear();
  for (int64_t slot = 0; slot <= limit_; ++slot)
    if (slot != head.free) positions.push_back(head.position[static_cast<size_t>(slot)]);
  std::sort(positions.begin(), positions.end());
  return positions;
}

}  // namespace mullion
