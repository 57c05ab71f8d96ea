// Lists are built pane by pane, kept by pattern and sizes, and sent to the device once.
#include "tensor/cuda/attention/attention_plan.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

#include "tensor/attention_groups.h"
#include "tensor/check.h"
#include "tensor/cuda/runtime/runtime.h"
#include "tensor/step_memory.h"

namespace mullion::cuda {
namespace {

// Shorter runs of keys are listed one by one, longer ones are spans of their blocks.
constexpr int64_t kShortRun = 16;
// Queries of the strided pattern's blocks: within one they see runs of neighbouring keys.
constexpr int64_t kStridedPane = 64;
constexpr size_t kPlansKept = 32;
constexpr int64_t kMostHeadsOfAll = int64_t{1} << 20;  // of a layer

int32_t narrow32(int64_t x) {
  CHECK(x >= 0 && x <= INT32_MAX, "attention: a plan of ", x, " entries is too large");
  return static_cast<int32_t>(x);
}

// With r = (2^31 + e) / heads and e < heads, row * r / 2^31 is above row / heads by less than
// row e / (heads 2^31), which stays below 1 / heads.
uint32_t reciprocal_of(int64_t heads) {
  return static_cast<uint32_t>(((int64_t{1} << 31) + heads - 1) / heads);
}

// Refuses what has too many rows for the kernels' indices or too many blocks for a plan, before
// anything of that size is made: panes can only add to the blocks that are counted here.
void check_plan(const AttentionSizes& size, const PlanShape& shape) {
  CHECK_AS(Fault::usage, size.pattern->held.empty() || size.pattern->kind != PatternKind::strided,
           "attention: cuda has no strided pattern over a part of the keys");
  CHECK(size.H <= kMostHeadsOfAll && size.B <= INT32_MAX / size.H, "attention: ", size.B,
        " sequences of ", size.H, " heads are too many");
  AttentionSizes one = size;
  one.B = 1;
  int64_t blocks = 0;
  for (const HeadGroup& g : head_groups(one, kMostHeads)) {
    CHECK(size.T < kMostRows / g.heads, "attention: ", size.T, " queries of ", g.heads,
          " heads at once are too many");
    const int64_t tokens = shape.rows / g.heads;
    blocks += (size.T + tokens - 1) / tokens;
  }
  narrow32(blocks * size.B);
}

class Planner {
 public:
  Planner(const AttentionSizes& size, const PlanShape& shape)
      : s_(size), p_(*size.pattern), shape_(shape) {}

  void build() {
    for (const HeadGroup& g : head_groups(s_, kMostHeads)) add_group(g);
    if (shape_.key_block > 0) {
      add_spans();
      add_key_blocks();
      add_lists();
    }
  }

  std::vector<PlanGroup> groups;
  std::vector<PlanPane> panes;
  std::vector<int32_t> keys;
  std::vector<QueryWork> queries;
  std::vector<KeyWork> key_blocks;
  std::vector<ListWork> lists;
  std::vector<KeySpan> spans;
  std::vector<int32_t> span_first, row_first, side_rows;
  int64_t n_side_rows = 0;

  int32_t blocks() const {
    return shape_.key_block > 0 ? narrow32((s_.S + shape_.key_block - 1) / shape_.key_block) : 0;
  }

 private:
  struct View {
    int64_t head;  // one that has it
    int32_t first_pane, end_pane;
    int32_t rows;  // in the side buffer, of each of its groups
    std::vector<KeySpan> spans;
  };

  int32_t view_of(int64_t head) {
    for (size_t i = 0; i < views_.size(); ++i)
      if (same_view(p_, views_[i].head, head)) return static_cast<int32_t>(i);
    View view{head, narrow32(static_cast<int64_t>(panes.size())), 0, 0, {}};
    const int64_t end = s_.query_offset + s_.T;
    for (int64_t i0 = s_.query_offset, i1; i0 < end; i0 = i1) {
      // Without causality queries may outnumber the keys.
      i1 = std::min(end, pane_end(p_, head, i0, std::max(end, s_.S)));
      if (p_.kind == PatternKind::strided) i1 = std::min(i1, i0 + kStridedPane);
      add_pane(view, i0, i1);
    }
    view.end_pane = narrow32(static_cast<int64_t>(panes.size()));
    views_.push_back(std::move(view));
    return static_cast<int32_t>(views_.size()) - 1;
  }

  void add_pane(View& view, int64_t i0, int64_t i1) {
    key_ranges(p_, view.head, i0, i1, s_.S, ranges_);
    for (KeyRange& r : ranges_) {
      r.end = std::min(r.end, s_.S);
      CHECK(r.rule != KeyRule::partial || p_.kind == PatternKind::strided,
            "attention: of the rules that are asked for each pair, these kernels have that of the "
            "strided pattern only");
    }
    PlanPane pane{};
    pane.q0 = narrow32(i0);
    pane.q1 = narrow32(i1);
    pane.list = narrow32(static_cast<int64_t>(keys.size()));
    pane.side = view.rows;
    const size_t main = main_range();
    // The short runs come first, so that the side rows are the head of the list.
    for (const bool wanted : {true, false})
      for (size_t i = 0; i < ranges_.size(); ++i) {
        const KeyRange& r = ranges_[i];
        const bool is_short = r.rule == KeyRule::all && r.end - r.begin < kShortRun;
        if (i == main || is_short != wanted) continue;
        for (int64_t key = r.begin; key < r.end; ++key) keys.push_back(narrow32(key));
        if (!is_short) add_span(view, i0, i1, r);
        if (is_short) pane.sides += narrow32(r.end - r.begin);
      }
    pane.listed = narrow32(static_cast<int64_t>(keys.size())) - pane.list;
    view.rows += pane.sides;
    if (main < ranges_.size()) {
      const KeyRange& r = ranges_[main];
      pane.begin = narrow32(r.begin);
      pane.end = narrow32(r.end);
      pane.rule = r.rule;
      add_span(view, i0, i1, r);
    }
    panes.push_back(pane);
  }

  static void add_span(View& view, int64_t i0, int64_t i1, const KeyRange& r) {
    view.spans.push_back({narrow32(i0), narrow32(i1), narrow32(r.begin), narrow32(r.end), r.rule});
  }

  // The last of the ranges that are not seen as a whole, else the longest.
  size_t main_range() const {
    size_t best = 0;
    for (size_t i = 1; i < ranges_.size(); ++i) {
      const KeyRange &a = ranges_[best], &b = ranges_[i];
      if (b.rule != KeyRule::all || (a.rule == KeyRule::all && b.end - b.begin >= a.end - a.begin))
        best = i;
    }
    return best;
  }

  void add_group(const HeadGroup& g) {
    const int32_t view = view_of(g.first_head);
    const int64_t roll = output_row(p_, g.first_head, 0);
    groups.push_back({narrow32(g.batch), narrow32(g.kv_head), narrow32(g.first_head),
                      narrow32(g.heads), reciprocal_of(g.heads), view, narrow32(roll),
                      narrow32(n_side_rows)});
    n_side_rows += views_[static_cast<size_t>(view)].rows;
    narrow32(n_side_rows);
    const auto group = static_cast<int32_t>(groups.size()) - 1;
    const int64_t tokens = shape_.rows / g.heads;
    const View& v = views_[static_cast<size_t>(view)];
    const size_t first = queries.size();
    for (int32_t pane = v.first_pane; pane < v.end_pane; ++pane) {
      const PlanPane& its = panes[static_cast<size_t>(pane)];
      for (int64_t i0 = its.q0; i0 < its.q1; i0 += tokens)
        queries.push_back(
            {group, pane, narrow32(i0), narrow32(std::min<int64_t>(its.q1, i0 + tokens))});
    }
    std::stable_sort(queries.begin() + static_cast<std::ptrdiff_t>(first), queries.end(),
                     [&](const QueryWork& a, const QueryWork& b) { return slots(a) > slots(b); });
  }

  int64_t slots(const QueryWork& work) const {
    const PlanPane& pane = panes[static_cast<size_t>(work.pane)];
    const int64_t end = pane.rule == KeyRule::all ? pane.end : std::min(pane.end, work.i1);
    return pane.listed + end - pane.begin;
  }

  // The spans of each view, block after block, in the order of panes.
  void add_spans() {
    const int64_t width = shape_.key_block;
    for (const View& view : views_) {
      std::vector<std::vector<KeySpan>> of_block(static_cast<size_t>(blocks()));
      for (const KeySpan& span : view.spans)
        for (int64_t block = span.begin / width; block * width < span.end; ++block) {
          KeySpan part = span;
          if (span.rule != KeyRule::all)
            part.q0 = std::max(span.q0, narrow32(std::max<int64_t>(span.begin, block * width)));
          if (part.q0 < part.q1) of_block[static_cast<size_t>(block)].push_back(part);
        }
      for (const auto& its : of_block) {
        span_first.push_back(narrow32(static_cast<int64_t>(spans.size())));
        spans.insert(spans.end(), its.begin(), its.end());
      }
    }
    span_first.push_back(narrow32(static_cast<int64_t>(spans.size())));
  }

  // Queries that see some key of the block, of all heads.
  int64_t cost(const KeyWork& work) const {
    int64_t rows = 0;
    const int64_t block = work.key / shape_.key_block;
    for (int32_t g = work.first_group; g < work.first_group + work.groups; ++g) {
      const PlanGroup& group = groups[static_cast<size_t>(g)];
      const auto at = static_cast<size_t>(group.view * int64_t{blocks()} + block);
      for (auto i = static_cast<size_t>(span_first[at]);
           i < static_cast<size_t>(span_first[at + 1]); ++i)
        rows += int64_t{spans[i].q1 - spans[i].q0} * group.heads;
    }
    return rows;
  }

  void add_key_blocks() {
    const auto n = static_cast<int32_t>(groups.size());
    for (int32_t first = 0, end; first < n; first = end) {
      const PlanGroup& a = groups[static_cast<size_t>(first)];
      for (end = first + 1; end < n; ++end) {
        const PlanGroup& b = groups[static_cast<size_t>(end)];
        if (a.batch != b.batch || a.kv_head != b.kv_head) break;
      }
      std::vector<std::pair<int64_t, KeyWork>> work;
      for (int32_t block = 0; block < blocks(); ++block) {
        const KeyWork item{first, end - first, block * shape_.key_block};
        work.emplace_back(cost(item), item);
      }
      std::stable_sort(work.begin(), work.end(),
                       [](const auto& x, const auto& y) { return x.first > y.first; });
      for (const auto& [rows, item] : work) key_blocks.push_back(item);
    }
  }

  void add_lists() {
    for (int32_t g = 0; g < static_cast<int32_t>(groups.size()); ++g) {
      const View& view = views_[static_cast<size_t>(groups[static_cast<size_t>(g)].view)];
      for (int32_t pane = view.first_pane; pane < view.end_pane; ++pane)
        for (int32_t slot = 0; slot < panes[static_cast<size_t>(pane)].sides;
             slot += shape_.list_tile)
          lists.push_back({g, pane, slot});
    }
    if (lists.empty()) return;
    for (const View& view : views_) {
      std::vector<std::vector<int32_t>> of_key(static_cast<size_t>(s_.S));
      for (int32_t pane = view.first_pane; pane < view.end_pane; ++pane) {
        const PlanPane& its = panes[static_cast<size_t>(pane)];
        for (int32_t i = 0; i < its.sides; ++i)
          of_key[static_cast<size_t>(keys[static_cast<size_t>(its.list + i)])].push_back(its.side +
                                                                                         i);
      }
      for (const auto& rows : of_key) {
        row_first.push_back(narrow32(static_cast<int64_t>(side_rows.size())));
        side_rows.insert(side_rows.end(), rows.begin(), rows.end());
      }
    }
    row_first.push_back(narrow32(static_cast<int64_t>(side_rows.size())));
  }

  const AttentionSizes& s_;
  const AttentionPattern& p_;
  const PlanShape shape_;
  std::vector<View> views_;
  std::vector<KeyRange> ranges_;
};

// Arrays one after another in one block, which is then sent to the device.
class Packed {
 public:
  template <typename T>
  size_t add(const std::vector<T>& values) {
    const size_t at = (bytes_.size() + 15) / 16 * 16;
    bytes_.resize(at + values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(bytes_.data() + at, values.data(), values.size() * sizeof(T));
    return at;
  }
  std::shared_ptr<char> send(int device) const {
    const auto n = static_cast<int64_t>(bytes_.size());
    auto* const block = static_cast<char*>(allocate(n, device));
    CHECK_AS(Fault::memory, block != nullptr, "attention: out of memory for a plan of ", n,
             " bytes");
    const std::shared_ptr<char> owner(block, [device](char* its) { free(its, device); });
    upload(block, bytes_.data(), n, device);
    return owner;
  }

 private:
  std::vector<char> bytes_;
};

struct KeptPlan {
  AttentionSizes size;  // its pattern is the one below
  AttentionPattern pattern;
  PlanShape shape;
  int device = 0;
  std::shared_ptr<char> block;
  AttentionPlan plan;
};

bool is_for(const KeptPlan& kept, const AttentionSizes& s, const PlanShape& shape, int device) {
  const AttentionSizes& k = kept.size;
  return k.B == s.B && k.T == s.T && k.S == s.S && k.H == s.H && k.Hkv == s.Hkv &&
         k.query_offset == s.query_offset && kept.pattern == *s.pattern && kept.shape == shape &&
         kept.device == device;
}

KeptPlan make_plan(const AttentionSizes& size, const PlanShape& shape, int device) {
  check_plan(size, shape);
  Planner p(size, shape);
  p.build();
  Packed packed;
  const size_t groups = packed.add(p.groups), panes = packed.add(p.panes),
               keys = packed.add(p.keys), queries = packed.add(p.queries),
               key_blocks = packed.add(p.key_blocks), lists = packed.add(p.lists),
               spans = packed.add(p.spans), span_first = packed.add(p.span_first),
               row_first = packed.add(p.row_first), side_rows = packed.add(p.side_rows);
  const std::shared_ptr<char> block = packed.send(device);
  const auto place = [base = block.get()](size_t at, auto*& pointer) {
    pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(base + at);
  };
  KeptPlan kept{size, *size.pattern, shape, device, block, {}};
  AttentionPlan& plan = kept.plan;
  place(groups, plan.groups);
  place(panes, plan.panes);
  place(keys, plan.keys);
  place(queries, plan.queries);
  place(key_blocks, plan.key_blocks);
  place(lists, plan.lists);
  place(spans, plan.spans);
  place(span_first, plan.span_first);
  place(row_first, plan.row_first);
  place(side_rows, plan.side_rows);
  plan.n_groups = narrow32(static_cast<int64_t>(p.groups.size()));
  for (const PlanGroup& group : p.groups) plan.most_heads = std::max(plan.most_heads, group.heads);
  plan.n_queries = narrow32(static_cast<int64_t>(p.queries.size()));
  plan.n_key_blocks = narrow32(static_cast<int64_t>(p.key_blocks.size()));
  plan.n_lists = narrow32(static_cast<int64_t>(p.lists.size()));
  plan.keys_per_block = shape.key_block;
  plan.blocks = p.blocks();
  plan.n_side_rows = narrow32(p.n_side_rows);
  plan.n_keys = narrow32(size.S);
  if (size.pattern->wrap == Wrap::roll_leaky) plan.period = narrow32(size.pattern->context);
  if (size.pattern->kind == PatternKind::strided) plan.stride = narrow32(size.pattern->group);
  return kept;
}

}  // namespace

AttentionPlan attention_plan(const AttentionSizes& size, const PlanShape& shape) {
  static std::mutex mutex;
  static auto* const kept = new std::list<KeptPlan>;  // the last used first; outlives main()
  const std::lock_guard lock(mutex);
  const int device = current_device();
  const auto found = std::find_if(kept->begin(), kept->end(), [&](const KeptPlan& k) {
    return is_for(k, size, shape, device);
  });
  if (found != kept->end())
    kept->splice(kept->begin(), *kept, found);
  else
    kept->push_front(make_plan(size, shape, device));
  if (kept->size() > kPlansKept) kept->pop_back();
  if (StepMemory* memory = StepMemory::recording()) memory->keep(kept->front().block);
  return kept->front().plan;
}

}  // namespace mullion::cuda
