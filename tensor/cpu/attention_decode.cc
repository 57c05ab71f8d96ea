#include "tensor/cpu/attention_decode.h"

#include "tensor/cpu/attention_tiles.h"
#include "tensor/cpu/carver.h"
#include "tensor/parallel.h"

namespace mullion::cpu {

namespace {

constexpr int64_t kPartKeys = 512;

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
      : args_(args), size_(args.size), groups_(head_groups(args.size)), ranges_(groups_.size()) {
    for (size_t g = 0; g < groups_.size(); ++g) {
      key_ranges(*size_.pattern, groups_[g].first_head, size_.query_offset, size_.query_offset + 1,
                 size_.S, ranges_[g]);
      int64_t keys = 0;
      for (const KeyRange& r : ranges_[g]) keys += r.end - r.begin;
      for (int64_t skip = 0; skip == 0 || skip < keys; skip += kPartKeys)
        parts_.push_back({.group = &groups_[g], .skip = skip});
    }
    carve_scratch([this](Carver& c) { carve(c); });
  }

  void run() {
    parallel_items(static_cast<int64_t>(parts_.size()), [&](int64_t i, int thread) {
      run_part(parts_[static_cast<size_t>(i)],
               scores_ + thread * (size_.H / size_.Hkv) * kPartKeys);
    });
    for (size_t i = 0, end; i < parts_.size(); i = end) {
      for (end = i + 1; end < parts_.size() && parts_[end].group == parts_[i].group;) ++end;
      for (int64_t h = 0; h < parts_[i].group->heads; ++h) merge(i, end, h);
    }
  }

 private:
  void carve(Carver& c) {
    scores_ = c.take<T>(num_threads() * (size_.H / size_.Hkv) * kPartKeys);
    for (Part<T>& part : parts_) {
      part.q = c.take<T>(part.group->heads * padded<T>(size_.D));
      part.o = c.take<T>(part.group->heads * padded<T>(size_.D));
      part.m = c.take<T>(part.group->heads);
      part.l = c.take<T>(part.group->heads);
    }
  }

  // Calls f(first key, how many, at which place of the part) for the pieces of a part.
  template <typename F>
  void for_pieces(const Part<T>& part, F&& f) const {
    int64_t skip = part.skip, place = 0;
    for (const KeyRange& r : ranges_[static_cast<size_t>(part.group - groups_.data())]) {
      const int64_t length = r.end - r.begin;
      const int64_t take = std::min(length - skip, kPartKeys - place);
      if (take > 0) {
        f(r.begin + skip, take, place);
        place += take;
      }
      skip = std::max<int64_t>(0, skip - length);
    }
  }

  void run_part(const Part<T>& part, T* scores) const {
    const HeadGroup& g = *part.group;
    const int64_t width = padded<T>(size_.D);
    const T* k = row_of(static_cast<const T*>(args_.k), args_.k_stride, g.batch, 0, g.kv_head);
    const T* v = row_of(static_cast<const T*>(args_.v), args_.v_stride, g.batch, 0, g.kv_head);
    for (int64_t h = 0; h < g.heads; ++h) {
      const T* q =
          row_of(static_cast<const T*>(args_.q), args_.q_stride, g.batch, 0, g.first_head + h);
      for (int64_t d = 0; d < size_.D; ++d)
        part.q[h * width + d] = q[d] * static_cast<T>(size_.scale * kLog2E);
    }
    int64_t count = 0;
    for_pieces(part, [&](int64_t key, int64_t n, int64_t place) {
      for (int64_t i = 0; i < n; ++i)
        for (int64_t h = 0; h < g.heads; ++h)
          scores[h * kPartKeys + place + i] =
              dot(part.q + h * width, k + (key + i) * args_.k_stride.token, size_.D);
      count = place + n;
    });
    for (int64_t h = 0; h < g.heads; ++h) soften(part, h, scores + h * kPartKeys, count);
    std::fill_n(part.o, g.heads * width, T(0));
    const int64_t whole = size_.D / kLanes<T> * kLanes<T>;
    for_pieces(part, [&](int64_t key, int64_t n, int64_t place) {
      const T* rows = v + key * args_.v_stride.token;
      wide_product<T>({scores + place, kPartKeys, 1, rows, args_.v_stride.token, part.o, width,
                       g.heads, n, true},
                      whole / kLanes<T>);
      for (int64_t h = 0; h < g.heads; ++h)
        for (int64_t d = whole; d < size_.D; ++d)
          for (int64_t i = 0; i < n; ++i)
            part.o[h * width + d] +=
                scores[h * kPartKeys + place + i] * rows[i * args_.v_stride.token + d];
    });
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

  void merge(size_t begin, size_t end, int64_t h) const {
    const HeadGroup& g = *parts_[begin].group;
    T m = kMinusInfinity<T>, l = 0;
    for (size_t i = begin; i < end; ++i) m = std::max(m, parts_[i].m[h]);
    T* o = row_of(static_cast<T*>(args_.o), args_.o_stride, g.batch, 0, g.first_head + h);
    std::fill_n(o, size_.D, T(0));
    for (size_t i = begin; i < end; ++i)
      if (parts_[i].m[h] > kMinusInfinity<T> || std::isnan(parts_[i].l[h]))
        l += parts_[i].l[h] * std::exp2(parts_[i].m[h] - m);
    for (size_t i = begin; i < end; ++i) {
      const T weight = l == 0 ? T(0) : std::exp2(parts_[i].m[h] - m) / l;
      const T* row = parts_[i].o + h * padded<T>(size_.D);
      for (int64_t d = 0; d < size_.D; ++d) o[d] += weight * row[d];
    }
    if (args_.lse != nullptr)
      static_cast<T*>(args_.lse)[g.batch * size_.H + g.first_head + h] =
          m * static_cast<T>(kLn2) + std::log(l);
  }

  const AttentionForwardArgs& args_;
  const AttentionSizes& size_;
  const std::vector<HeadGroup> groups_;
  std::vector<std::vector<KeyRange>> ranges_;
  std::vector<Part<T>> parts_;
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
