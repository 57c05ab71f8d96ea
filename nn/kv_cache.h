// What a model keeps of the tokens it has seen, between the calls of a generation: keys and values
// in memory that an eviction policy may bound. Attention hands a cache the new queries, keys and
// values as they come from the projections; the cache rotates them to their positions, attends, and
// forgets what its policy says. Local and sink caches: StreamingLLM (Xiao et al. 2023); H2O: Zhang
// et al. 2023.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/rope.h"
#include "tensor/attention_pattern.h"

namespace mullion {

// What attention needs besides q, k and v.
struct AttentionCall {
  const RopeTable* rope = nullptr;
  const AttentionPattern* pattern = nullptr;
  double scale = 1;
};

class KvCache {
 public:
  virtual ~KvCache() = default;
  // The attention of one layer: q (B, T, H, D), k and v (B, T, Hkv, D) of the new tokens, not yet
  // rotated, -> (B, T, H, D). They are overwritten.
  virtual Tensor attend(int64_t layer, const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionCall& call) = 0;
  // The next `tokens` tokens are one block (a prompt, a turn of a chat), in however many calls they
  // come: they attend to all that is held and to what is before them in the block, and eviction
  // follows its last token. Otherwise each call is a block. One whose end is not known yet has
  // kOpenBlock tokens, more than any context.
  static constexpr int64_t kOpenBlock = int64_t{1} << 40;
  virtual void begin_block(int64_t tokens) = 0;
  // Tokens seen. Moves on when the last layer has attended.
  virtual int64_t position() const = 0;
  // Tokens that a head holds at most, after the last block.
  virtual int64_t held() const = 0;
  // Positions that the model must tell apart for `tokens` more: position() + tokens, fewer where
  // the cache rolls them.
  virtual int64_t reach(int64_t tokens) const = 0;
  // Tokens that may come one by one in a context of so many positions; kNoEnd where positions roll
  // and the budget fits.
  static constexpr int64_t kNoEnd = INT64_MAX / 2;
  virtual int64_t room(int64_t context) const { return context - reach(0); }
  virtual int64_t bytes() const = 0;       // of keys and values now
  virtual int64_t peak_bytes() const = 0;  // at most so far, with those of a block under way
  // The positions that a KV head holds in a layer, ascending.
  virtual std::vector<int64_t> kept(int64_t layer, int64_t kv_head) const = 0;
  virtual std::unique_ptr<KvCache> clone() const = 0;
  // Forgets the tokens from `position` on. Error(usage) where tokens before it are lost already.
  virtual void rewind(int64_t position) = 0;
};

// What stays when there is no room. Another policy is a line of kv_policies() in kv_cache.cc, where
// it divides a budget as these do, or a class of its own behind make_kv_cache().
struct KvPolicy {
  std::string name;   // --kv
  std::string keeps;  // in words, for the help
  bool is_bounded;    // has a budget
  bool by_score;      // holds a part of it for its scores
  int64_t sinks;      // first tokens that stay, unless options say otherwise
};
const std::vector<KvPolicy>& kv_policies();
// Names of all, or of those that have a property: kv_kind_names(&KvPolicy::by_score).
std::vector<std::string> kv_kind_names(bool KvPolicy::*property = nullptr);

enum class KvPositions : uint8_t {
  original,  // each token keeps the rotation of its own position
  rolled,    // held keys are rotated to 0, 1, ..., the query to the last place
};
enum class KvScores : uint8_t { sum, max };  // of the query heads that share a key head
enum class KvMode : uint8_t {
  drop,  // what is evicted is gone and its memory used again
  mask,  // the simulation that was published with H2O: one pass that sees the future
};

struct KvCacheOptions {
  std::string kind = "full";  // a policy's name
  // Tokens, or a percentage of the first block (mask: of all tokens); one of them above 0 for every
  // policy that is bounded.
  int64_t budget_tokens = 0;
  double budget_percent = 0;
  std::optional<int64_t> sinks = {};  // first tokens that are never evicted; unset: the policy's
  double heavy = 0.5;                 // part of the budget that is held for its scores
  KvPositions positions = KvPositions::original;
  KvScores scores = KvScores::sum;
  KvMode mode = KvMode::drop;
  bool operator==(const KvCacheOptions&) const = default;

  const KvPolicy& policy() const;  // Error(usage) where there is none of this name
  bool is_bounded() const { return policy().is_bounded; }
  bool by_score() const { return policy().by_score; }
};

// How many tokens of a head are held, by what: they sum up to the budget.
struct KvShares {
  int64_t sinks = 0, heavy = 0, recent = 0;
  int64_t total() const { return sinks + heavy + recent; }
};
// For a first block of `tokens`. Error(usage) that names the option where they do not fit together.
KvShares kv_shares(const KvCacheOptions& options, int64_t tokens);
// What can be checked before there is a block.
void validate(const KvCacheOptions& options);
// "h2o, budget 20 % 0.5 of it by score, original positions"
std::string describe(const KvCacheOptions& options);

struct KvCacheShape {
  int64_t layers = 0, heads = 0, kv_heads = 0, head_dim = 0;
  DType dtype = DType::f32;
  Device device = {};
};
// The cache of one sequence (B = 1).
std::unique_ptr<KvCache> make_kv_cache(const KvCacheOptions& options, const KvCacheShape& shape);

// The caches of several sequences, of any lengths, as the cache of a batch with a row for each.
// They must outlive it.
class KvCacheRows final : public KvCache {
 public:
  explicit KvCacheRows(std::vector<KvCache*> rows) : rows_(std::move(rows)) {}
  Tensor attend(int64_t layer, const Tensor& q, const Tensor& k, const Tensor& v,
                const AttentionCall& call) override;
  void begin_block(int64_t tokens) override;
  int64_t position() const override;  // of the longest; so are the others
  int64_t held() const override;
  int64_t reach(int64_t tokens) const override;
  int64_t room(int64_t context) const override;
  int64_t bytes() const override;  // of all
  int64_t peak_bytes() const override;
  // Errors: rows are looked at and copied one by one.
  std::vector<int64_t> kept(int64_t layer, int64_t kv_head) const override;
  std::unique_ptr<KvCache> clone() const override;
  void rewind(int64_t position) override;

 private:
  std::vector<KvCache*> rows_;
};

}  // namespace mullion
