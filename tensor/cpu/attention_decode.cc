// A part's online softmax for all heads of a group, then the parts merged in order.
#include "tensor/cpu/attention_decode.h"

#include "tensor/cpu/attention_tiles.h"
#include "tensor/cpu/carver.h"
#include "tensor/parallel.h"

namespace mullion::cpu {

namespace {

// A part's keys and values, of all heads, should stay in the second cache: rows of one head lie
// apart, and read alone they come at a third of the rate. So the first head group to go through a
// part fetches the rows of all.
constexpr int64_t kPartBytes = 384 << 10;
constexpr int64_t kAhead = 16;  // rows of K fetched before they are used

// Softmax sums over one part of one group's keys; rows are the group's heads.
template <typename T>
struct Part {
  const HeadGroup* group = nullptr;
  int64_t skip = 0;  // keys of the group's ranges before this part
  T* q = nullptr;    // heads x padded D, times scale * log2 e
  T* o = nullptr;    // heads x padded D
  T* m = nullptr;
  T* l = nullptr;
};

template <typename T>
class Decode {
 public:
  explicit Decode(const AttentionForwardArgs& args)
      : args_(args),
        size_(args.size),
        part_keys_(keys_of_part(args.size)),
        groups_(head_groups(args.size)),
        ranges_(groups_.size()) {
    for (size_t g = 0; g < groups_.size(); ++g) {
      key_ranges(*size_.pattern, groups_[g].first_head, size_.query_offset, size_.query_offset + 1,
                 size_.S, ranges_[g]);
      int64_t keys = 0;
      for (const KeyRange& r : ranges_[g]) keys += r.end - r.begin;
      first_part_.push_back(parts_.size());
      for (int64_t skip = 0; skip == 0 || skip < keys; skip += part_keys_)
        parts_.push_back({.group = &groups_[g], .skip = skip});
    }
    first_part_.push_back(parts_.size());
    carve_scratch([this](Carver& c) { carve(c); });
  }

  void run() {
    if (args_.column_sums != nullptr)
      std::fill_n(static_cast<T*>(args_.column_sums), size_.B * size_.H * size_.S, T(0));
    size_t columns = 0;
    for (size_t g = 0; g < groups_.size(); ++g)
      columns = std::max(columns, first_part_[g + 1] - first_part_[g]);
    parallel_items(size_.B * static_cast<int64_t>(columns), [&](int64_t i, int thread) {
      run_column(i % size_.B, static_cast<size_t>(i / size_.B),
                 scores_ + thread * (size_.H / size_.Hkv) * part_keys_);
    });
    for (size_t g = 0; g < groups_.size(); ++g)
      for (int64_t h = 0; h < groups_[g].heads; ++h) merge(first_part_[g], first_part_[g + 1], h);
  }

 private:
  static int64_t keys_of_part(const AttentionSizes& s) {
    const int64_t keys = kPartBytes / (2 * s.Hkv * s.D * static_cast<int64_t>(sizeof(T)));
    return std::clamp<int64_t>(keys / 64 * 64, 64, 512);
  }

  void carve(Carver& c) {
    scores_ = c.take<T>(num_threads() * (size_.H / size_.Hkv) * part_keys_);
    for (Part<T>& part : parts_) {
      part.q = c.take<T>(part.group->heads * padded<T>(size_.D));
      part.o = c.take<T>(part.group->heads * padded<T>(size_.D));
      part.m = c.take<T>(part.group->heads);
      part.l = c.take<T>(part.group->heads);
    }
  }

  // The part of number `column` of every head group of a batch row.
  void run_column(int64_t batch, size_t column, T* scores) const {
    bool first = true;
    for (size_t g = 0; g < groups_.size(); ++g) {
      const size_t part = first_part_[g] + column;
      if (groups_[g].batch != batch || part >= first_part_[g + 1]) continue;
      run_part(parts_[part], first, scores);
      first = false;
    }
  }

  // Calls f(first key, how many, at which place of the part) for the pieces of a part.
  template <typename F>
  void for_pieces(const Part<T>& part, F&& f) const {
    int64_t skip = part.skip, place = 0;
    for (const KeyRange& r : ranges_[static_cast<size_t>(part.group - groups_.data())]) {
      const int64_t length = r.end - r.begin;
      const int64_t take = std::min(length - skip, part_keys_ - place);
      if (take > 0) {
        f(r.begin + skip, take, place);
        place += take;
      }
      skip = std::max<int64_t>(0, skip - length);
    }
  }

  void run_part(const Part<T>& part, bool fetch, T* scores) const {
    const HeadGroup& g = *part.group;
    const int64_t width = padded<T>(size_.D);
    const T* k = row_of<T>(args_.k, args_.k_stride, g.batch, 0, g.kv_head);
    const T* v = row_of<T>(args_.v, args_.v_stride, g.batch, 0, g.kv_head);
    for (int64_t h = 0; h < g.heads; ++h) {
      const T* q = row_of<T>(args_.q, args_.q_stride, g.batch, 0, g.first_head + h);
      for (int64_t d = 0; d < size_.D; ++d)
        part.q[h * width + d] = q[d] * static_cast<T>(size_.scale * kLog2E);
    }
    int64_t count = 0;
    for_pieces(part, [&](int64_t key, int64_t n, int64_t place) {
      const T* k_row = k + key * args_.k_stride.token;
      for (int64_t i = 0; i < n; ++i, k_row += args_.k_stride.token) {
        if (fetch) {
          if (i + kAhead < n) fetch_rows(args_.k, args_.k_stride, g.batch, key + i + kAhead);
          fetch_rows(args_.v, args_.v_stride, g.batch, key + i);
        }
        for (int64_t h = 0; h < g.heads; ++h)
          scores[h * part_keys_ + place + i] = dot(part.q + h * width, k_row, size_.D);
      }
      count = place + n;
    });
    for (int64_t h = 0; h < g.heads; ++h) soften(part, h, scores + h * part_keys_, count);
    if (args_.column_sums != nullptr)
      for_pieces(part, [&](int64_t key, int64_t n, int64_t place) {
        for (int64_t h = 0; h < g.heads; ++h)
          std::copy_n(scores + h * part_keys_ + place, n, column_sums(g, h) + key);
      });
    std::fill_n(part.o, g.heads * width, T(0));
    const int64_t whole = size_.D / kLanes<T> * kLanes<T>;
    for_pieces(part, [&](int64_t key, int64_t n, int64_t place) {
      const T* rows = v + key * args_.v_stride.token;
      wide_product<Left::plain, true, T>(
          {scores + place, part_keys_, rows, args_.v_stride.token, part.o, width, g.heads, n},
          whole / kLanes<T>);
      for (int64_t h = 0; h < g.heads; ++h)
        for (int64_t d = whole; d < size_.D; ++d)
          for (int64_t i = 0; i < n; ++i)
            part.o[h * width + d] +=
                scores[h * part_keys_ + place + i] * rows[i * args_.v_stride.token + d];
    });
  }

  void fetch_rows(const void* base, const AttentionStrides& stride, int64_t batch,
                  int64_t key) const {
    for (int64_t head = 0; head < size_.Hkv; ++head) {
      const T* row = row_of<T>(base, stride, batch, key, head);
      for (int64_t d = 0; d < size_.D; d += 64 / static_cast<int64_t>(sizeof(T)))
        __builtin_prefetch(row + d);
    }
  }

  static void soften(const Part<T>& part, int64_t h, T* scores, int64_t count) {
    const int64_t end = padded<T>(count);
    std::fill(scores + count, scores + end, kMinusInfinity<T>);
    T m = kMinusInfinity<T>;
    for (int64_t i = 0; i < count; ++i) m = std::max(m, scores[i]);
    Vec<T> sum{};
    for (int64_t i = 0; i < end; i += kLanes<T>) {
      const Vec<T> p = exp2_of(load<T>(scores + i) - (m == kMinusInfinity<T> ? T(0) : m));
      store<T>(scores + i, p);
      sum += p;
    }
    part.m[h] = m;
    part.l[h] = sum_of<T, kLanes<T>>(sum);
  }

  // The probabilities of a head's keys; those of keys that are not seen stay zero.
  T* column_sums(const HeadGroup& g, int64_t h) const {
    return static_cast<T*>(args_.column_sums) + (g.batch * size_.H + g.first_head + h) * size_.S;
  }

  void merge(size_t begin, size_t end, int64_t h) const {
    const HeadGroup& g = *parts_[begin].group;
    T m = kMinusInfinity<T>, l = 0;
    for (size_t i = begin; i < end; ++i) m = std::max(m, parts_[i].m[h]);
    T* o = row_of<T>(args_.o, args_.o_stride, g.batch, 0, g.first_head + h);
    std::fill_n(o, size_.D, T(0));
    for (size_t i = begin; i < end; ++i)
      if (parts_[i].m[h] > kMinusInfinity<T> || std::isnan(parts_[i].l[h]))
        l += parts_[i].l[h] * std::exp2(parts_[i].m[h] - m);
    for (size_t i = begin; i < end; ++i) {
      const T weight = l == 0 ? T(0) : std::exp2(parts_[i].m[h] - m) / l;
      const T* row = parts_[i].o + h * padded<T>(size_.D);
      for (int64_t d = 0; d < size_.D; ++d) o[d] += weight * row[d];
      if (args_.column_sums != nullptr)
        for_pieces(parts_[i], [&](int64_t key, int64_t n, int64_t) {
          T* const p = column_sums(g, h) + key;
          for (int64_t j = 0; j < n; ++j) p[j] *= weight;
        });
    }
    if (args_.lse != nullptr)
      static_cast<T*>(args_.lse)[g.batch * size_.H + g.first_head + h] =
          m * static_cast<T>(kLn2) + std::log(l);
  }

  const AttentionForwardArgs& args_;
  const AttentionSizes& size_;
  const int64_t part_keys_;
  const std::vector<HeadGroup> groups_;
  std::vector<std::vector<KeyRange>> ranges_;
  std::vector<Part<T>> parts_;      // of group 0, of group 1, ...
  std::vector<size_t> first_part_;  // where each group's begin, and the end
  T* scores_;
};

}  // namespace

template <typename T>
void attention_decode(const AttentionForwardArgs& args) {
  Decode<T>(args).run();
}
template void attention_decode<float>(const AttentionForwardArgs&);
template void attention_decode<double>(const AttentionForwardArgs&);

}  // namespace mullion::cpu
