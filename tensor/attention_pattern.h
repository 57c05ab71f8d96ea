// Who sees whom in attention, as plain data. visible() is the definition; the kernels ask
// key_ranges() for the keys of a block of queries, so that they cost what they see and never build
// a mask or a rolled copy. Source: LongLoRA section 3.2 (S2), SinkLoRA section 3.2 (SF), Sparse
// Transformers section 4.2 (fixed, strided), BigBird section 2 (random).
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace mullion {

enum class PatternKind : uint8_t {
  full,      // every key
  segments,  // the keys of one's own segment of G tokens, and the first `sinks` keys: S2, SF
  fixed,     // the own block, and the last `summary` keys of each earlier block
  strided,   // the last G keys, and every G-th before them
  random,    // the own block, and `random_keys` keys drawn from those before it
};

// How the segments of a shifted head meet the ends of the sequence.
enum class Wrap : uint8_t {
  split,       // [0, s) [s, s+G) ... [N-s, N)
  roll_leaky,  // one group of the last s and the first s tokens: the first see their future
};

// Tokens [begin, end) of a whole sequence, of which the first is number `at` of those at hand.
struct HeldSpan {
  int64_t begin, end, at;
  bool operator==(const HeldSpan&) const = default;
};

// Heads from first_shifted_in on have their segments moved by `shift`. With roll_leaky, heads from
// first_shifted_out on have their outputs rolled back; where the two differ, outputs end up `shift`
// tokens away from their query (the ablations "shift up only" and "shift back only").
struct AttentionPattern {
  PatternKind kind = PatternKind::full;
  Wrap wrap = Wrap::split;
  bool causal = true;
  bool sink_query_noncausal = false;  // sinks as queries see the whole sequence: an experiment
  int64_t n_heads = 0;
  int64_t context = 0;  // tokens the pattern was made for; roll_leaky holds for this length alone
  int64_t group = 0;    // G: segment, block or stride
  int64_t shift = 0;    // s = G/2
  int64_t first_shifted_in = 0;
  int64_t first_shifted_out = 0;
  int64_t sinks = 0;
  int64_t summary = 0;
  int64_t random_keys = 0;
  uint64_t seed = 0;
  // Where documents begin among the tokens of a packed sequence, ascending from 0; empty: it is
  // one. Nobody sees beyond the own document, in which positions, segments and sinks begin anew.
  std::vector<int64_t> documents = {};
  // Where keys of a part of the sequence alone are at hand (tensor/context_plan.h): its spans,
  // ascending. Tokens are then counted among those, in all that follows but visible_pairs() and
  // visible_fraction(); `documents` and `length`, the tokens of the whole sequence, are not. Who
  // asks for queries asks for neighbours in one span whose keys are all at hand.
  std::vector<HeldSpan> held = {};
  int64_t length = 0;

  bool operator==(const AttentionPattern&) const = default;
  int64_t shift_in(int64_t head) const { return head >= first_shifted_in ? shift : 0; }
  int64_t shift_out(int64_t head) const { return head >= first_shifted_out ? shift : 0; }
};

// Whether the query at token i of a head sees the key at token j.
bool visible(const AttentionPattern& pattern, int64_t head, int64_t i, int64_t j);

// The document that the token at i belongs to: [begin, end), the latter at most n.
struct DocumentSpan {
  int64_t begin, end;
};
DocumentSpan document_at(const AttentionPattern& pattern, int64_t i, int64_t n);

int64_t longest_document(const AttentionPattern& pattern, int64_t n);

// The row of the output in which the result of the query at token i is found: i, but for the
// ablations that shift on one side only.
int64_t output_row(const AttentionPattern& pattern, int64_t head, int64_t i);

// Whether two heads see the same keys and write the same rows, so that they share their work.
bool same_view(const AttentionPattern& pattern, int64_t head_a, int64_t head_b);

// Pairs (i, j) with visible(i, j) among n tokens; and their sum over the heads divided by that of
// full attention (causal where the pattern is).
int64_t visible_pairs(const AttentionPattern& pattern, int64_t head, int64_t n);
double visible_fraction(const AttentionPattern& pattern, int64_t n);

enum class KeyRule : uint8_t {
  all,      // every query of the block sees every key of the range
  causal,   // query i sees keys j <= i
  partial,  // ask visible()
};
struct KeyRange {
  int64_t begin, end;
  KeyRule rule;
};

// The first token after i at which the set of keys changes by more than the causal bound: queries
// between two such borders may form a block.
int64_t pane_end(const AttentionPattern& pattern, int64_t head, int64_t i, int64_t n);

// The keys among [0, n) that queries [i0, i1) can see, i1 <= pane_end(i0): disjoint ranges,
// those with rule `all` first, each group ascending. `ranges` is cleared first.
void key_ranges(const AttentionPattern& pattern, int64_t head, int64_t i0, int64_t i1, int64_t n,
                std::vector<KeyRange>& ranges);

// What a preset of the papers leaves open. Zero or negative numbers stand for the preset's own.
struct PatternOptions {
  int64_t n_heads = 0;
  int64_t context = 0;
  double group_ratio = 0.25;   // G = context * ratio, made even
  int64_t group_size = 0;      // G itself, instead of the ratio
  int64_t sinks = -1;          // the presets that have them: 4
  double shift_fraction = -1;  // of the heads, the last ones: S2 1/2, SF 1/4
  uint64_t seed = 0;           // of `random`
};

// One of the presets that pattern_names() lists. Full causal attention where the context fits into
// one group. Throws Error (usage) for an unknown name or numbers that do not fit together.
AttentionPattern make_pattern(const std::string& name, const PatternOptions& options);
const std::vector<std::string>& pattern_names();

// For the banner of a run: "segments of 1024, heads 6..8 of 9 shifted by 512 (33.3 %), 4 sinks,
// 24.3 % of full attention's pairs at 4096 tokens".
std::string describe(const AttentionPattern& pattern);

}  // namespace mullion
