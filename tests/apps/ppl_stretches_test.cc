// The stretches of sliding and rolling, their sums against full logits, and the program.
#include <cmath>

#include "apps/llama/perplexity.h"
#include "autograd/node.h"
#include "tensor/io/file.h"
#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"

namespace mullion {
namespace {

TEST(Stretches, SlidingScoresEachTokenOnce) {
  using S = ScoredStretch;
  EXPECT_EQ(sliding_stretches(10, 4, 2),
            (std::vector<S>{{0, 4, 3}, {2, 6, 2}, {4, 8, 2}, {6, 10, 2}}));
  EXPECT_EQ(sliding_stretches(7, 4, 4), (std::vector<S>{{0, 4, 3}, {4, 7, 3}}));
  EXPECT_EQ(sliding_stretches(3, 8, 4), (std::vector<S>{{0, 3, 2}}));
  EXPECT_THROW(sliding_stretches(10, 4, 5), Error);
  EXPECT_THROW(sliding_stretches(1, 4, 2), Error);
}

// By hand, from lm-eval's get_rolling_token_windows with context_len 1: tokens t0 ... t9 behind a
// prefix, five at a time; the last three come behind the five before them.
TEST(Stretches, RollingAsLmEvalRolls) {
  using S = ScoredStretch;
  EXPECT_EQ(rolling_stretches(11, 5), (std::vector<S>{{0, 6, 5}, {5, 11, 5}}));
  EXPECT_EQ(rolling_stretches(9, 5), (std::vector<S>{{0, 6, 5}, {3, 9, 3}}));
  EXPECT_EQ(rolling_stretches(4, 5), (std::vector<S>{{0, 4, 3}}));
  EXPECT_TRUE(rolling_stretches(1, 5).empty());
}

TEST(Stretches, AddUpTheLogProbabilities) {
  Llama model(test::tiny_config());
  model.initialize(4);
  std::vector<int32_t> ids;
  for (int i = 0; i < 90; ++i) ids.push_back((i * 37 + i * i) % kLexiconVocab);
  const ReadIds read = [&](int64_t begin, std::span<int32_t> out) {
    std::copy_n(ids.begin() + begin, out.size(), out.begin());
  };
  for (const auto& stretches : {sliding_stretches(90, 32, 12), rolling_stretches(90, 16)}) {
    double sum = 0;
    int64_t count = 0;
    for (const ScoredStretch& s : stretches) {
      const NoGrad no_grad;
      const std::vector<int64_t> row(ids.begin() + s.begin, ids.begin() + s.end - 1);
      const auto z = model.logits(Tensor::from(row, {1, s.end - s.begin - 1})).to_vector<double>();
      for (int64_t at = s.end - s.scored; at < s.end; ++at, ++count) {
        const double* logits = z.data() + (at - 1 - s.begin) * kLexiconVocab;
        double total = 0;
        for (int64_t v = 0; v < kLexiconVocab; ++v) total += std::exp(logits[v]);
        sum += std::log(total) - logits[ids[static_cast<size_t>(at)]];
      }
    }
    EXPECT_EQ(count, 89);  // each but the first, once
    for (const int64_t batch : {1, 3, 100}) {
      const Perplexity p = stretch_perplexity(model, stretches, read, batch);
      EXPECT_EQ(p.tokens, count);
      EXPECT_NEAR(p.nll, sum / static_cast<double>(count), 2e-6) << batch;
    }
  }
}

class PplStretches : public test::Programs {
 protected:
  PplStretches() : Programs({"eval_llama"}) {}
};

TEST_F(PplStretches, RollingCountsWordsAndBytes) {
  test::write_tiny_llama(at("m"));
  const std::string text = "ba=KO de=LU ba=KO fi=ZA ";
  write_whole_file(at("t.txt"), text);
  const std::string ppl = "eval_llama ppl -m m --data t.txt --threads 1 --json ";
  const auto found = result(ppl + "--protocol rolling --ctx-size 4");
  EXPECT_EQ(found["words"], 5);  // as re.split counts: the end is one
  EXPECT_EQ(found["text"]["bytes"], text.size());
  const double sum = found["nll"].get<double>() * found["tokens"].get<double>();
  EXPECT_NEAR(found["word_perplexity"], std::exp(sum / 5), 1e-6);
  EXPECT_NEAR(found["bits_per_byte"], sum / static_cast<double>(text.size()) / std::log(2.0), 1e-9);
  EXPECT_EQ(result(ppl + "--protocol rolling --ctx-size 4 --max-windows 1").contains("words"),
            false);
  EXPECT_EQ(result(ppl + "--protocol sliding --ctx-size 4 --stride 2")["tokens"],
            found["tokens"]);  // BOS, which the tokenizer puts in front, is not predicted
  refused(ppl + "--protocol rolling --ctx-size 4 --bos on", 2, {"--bos", "rolling"});
  refused(ppl + "--protocol sliding --ctx-size 4 --stride 8", 2, {"stride of 8"});
  test::write_lexicon_tokens(at("t.bin"), 2);
  refused("eval_llama ppl -m m --data t.bin --ctx-size 4 --protocol rolling", 2,
          {"rolling", "t.bin"});
}

}  // namespace
}  // namespace mullion
