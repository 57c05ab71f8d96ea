// Perplexity: the windows of both protocols, a model that knows nothing, any batch size, and a
// brute-force loop over full logits; then the program.
#include <cmath>
#include <random>

#include "apps/llama/perplexity.h"
#include "autograd/node.h"
#include "tensor/io/file.h"
#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"

namespace mullion {
namespace {

std::vector<int32_t> some_ids(size_t count) {
  std::mt19937 random(3);
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % kLexiconVocab);
  return ids;
}

ReadIds reader(const std::vector<int32_t>& ids) {
  return [&ids](int64_t begin, std::span<int32_t> out) {
    std::copy_n(ids.begin() + begin, out.size(), out.begin());
  };
}

PerplexityOptions longlora(int64_t context, int64_t stride) {
  PerplexityOptions o;
  o.context = context;
  o.stride = stride;
  return o;
}

PerplexityOptions llamacpp(int64_t context) {
  PerplexityOptions o;
  o.llamacpp = true;
  o.context = context;
  return o;
}

TEST(Perplexity, WindowsOfLongLora) {
  // Starts 0, stride, ... below length - context, and without the last of them.
  for (const int64_t context : {2, 10, 64})
    for (const int64_t stride : {1, 7, 10, 256})
      for (int64_t length = 1; length < 800; length += 13) {
        std::vector<int64_t> expected;
        for (int64_t start = 0; start < length - context; start += stride)
          expected.push_back(start);
        if (!expected.empty()) expected.pop_back();
        if (expected.empty()) {
          EXPECT_THROW(perplexity_windows(length, longlora(context, stride)), Error);
        } else {
          EXPECT_EQ(perplexity_windows(length, longlora(context, stride)), expected);
        }
      }
  // By hand: 1,000 tokens, windows of 512 at 0 and 256; the second is the last.
  EXPECT_EQ(perplexity_windows(1000, longlora(512, 256)), (std::vector<int64_t>{0}));
  EXPECT_EQ(perplexity_windows(1024, longlora(512, 256)), (std::vector<int64_t>{0}));
  EXPECT_EQ(perplexity_windows(1025, longlora(512, 256)), (std::vector<int64_t>{0, 256}));
  PerplexityOptions few = longlora(10, 10);
  few.max_windows = 2;
  EXPECT_EQ(perplexity_windows(100, few), (std::vector<int64_t>{0, 10}));
}

TEST(Perplexity, WindowsOfLlamaCpp) {
  EXPECT_EQ(perplexity_windows(64, llamacpp(64)), (std::vector<int64_t>{0}));
  EXPECT_EQ(perplexity_windows(191, llamacpp(64)), (std::vector<int64_t>{0, 64}));
  EXPECT_EQ(perplexity_windows(192, llamacpp(64)), (std::vector<int64_t>{0, 64, 128}));
  EXPECT_THROW(perplexity_windows(63, llamacpp(64)), Error);
  EXPECT_THROW(perplexity_windows(64, llamacpp(3)), Error);
}

TEST(Perplexity, OfAModelThatKnowsNothingIsItsVocabulary) {
  Llama model(test::tiny_config());
  model.initialize(1);
  for_each_parameter(model, [](const std::string& name, Tensor& p) {
    if (name == "lm_head.weight") raw::copy_into(Tensor::zeros(p.shape()), p);
  });
  const auto ids = some_ids(200);
  for (const PerplexityOptions& o : {longlora(32, 16), llamacpp(32)}) {
    const Perplexity p = perplexity(model, 200, reader(ids), o);
    EXPECT_NEAR(p.perplexity / kLexiconVocab, 1, 1e-6);
    EXPECT_NEAR(p.nll, std::log(194.0), 1e-6);
    EXPECT_TRUE(p.complete);
  }
}

// The mean over windows of -log p(token t | tokens before it in the window), from full logits.
double by_brute_force(const Llama& model, const std::vector<int32_t>& ids,
                      const std::vector<int64_t>& starts, int64_t context, int64_t first_scored,
                      std::optional<int32_t> bos) {
  NoGrad no_grad;
  double sum = 0;
  int64_t count = 0;
  for (const int64_t start : starts) {
    std::vector<int64_t> window(ids.begin() + start, ids.begin() + start + context);
    if (bos) window[0] = *bos;
    const auto z = model.logits(Tensor::from(window, {1, context})).to_vector<double>();
    for (int64_t t = first_scored; t < context; ++t) {
      const double* row = z.data() + (t - 1) * kLexiconVocab;
      double total = 0;
      for (int64_t v = 0; v < kLexiconVocab; ++v) total += std::exp(row[v]);
      sum += std::log(total) - row[window[static_cast<size_t>(t)]];
      ++count;
    }
  }
  return sum / static_cast<double>(count);
}

TEST(Perplexity, EqualsABruteForceLoop) {
  Llama model(test::tiny_config());
  model.initialize(4);
  const auto ids = some_ids(300);
  const Perplexity a = perplexity(model, 300, reader(ids), longlora(48, 20));
  std::vector<int64_t> starts;
  for (int64_t start = 0; start < 300 - 48; start += 20) starts.push_back(start);
  starts.pop_back();
  EXPECT_EQ(a.windows, 12);
  EXPECT_EQ(a.tokens, 12 * 47);
  EXPECT_NEAR(a.nll, by_brute_force(model, ids, starts, 48, 1, {}), 2e-6);
  // llama-perplexity scores the tokens behind the middle one: 49 ... 95 of a window of 96 ... here
  // 25 ... 47 of 48.
  for (const std::optional<int32_t> bos : {std::optional<int32_t>(), {kLexiconBos}}) {
    PerplexityOptions o = llamacpp(48);
    o.first_id = bos;
    const Perplexity b = perplexity(model, 300, reader(ids), o);
    EXPECT_EQ(b.windows, 6);
    EXPECT_EQ(b.tokens, 6 * 23);
    EXPECT_NEAR(b.nll, by_brute_force(model, ids, {0, 48, 96, 144, 192, 240}, 48, 25, bos), 2e-6);
  }
}

TEST(Perplexity, AnyBatchSizeGivesTheSame) {
  Llama model(test::tiny_config());
  model.initialize(4);
  const auto ids = some_ids(300);
  for (PerplexityOptions o : {longlora(32, 16), llamacpp(32)}) {
    const Perplexity one = perplexity(model, 300, reader(ids), o);
    for (const int64_t batch : {2, 3, 7, 100}) {
      o.batch = batch;
      const Perplexity many = perplexity(model, 300, reader(ids), o);
      EXPECT_NEAR(many.nll, one.nll, 1e-6) << batch;
      EXPECT_EQ(many.tokens, one.tokens);
      EXPECT_EQ(many.windows, one.windows);
    }
  }
}

TEST(Perplexity, ATokenOutsideTheVocabularyIsRefused) {
  Llama model(test::tiny_config());
  model.initialize(4);
  auto ids = some_ids(100);
  ids[50] = kLexiconVocab;
  EXPECT_THROW(perplexity(model, 100, reader(ids), longlora(32, 16)), Error);
}

class EvalLlama : public test::Programs {
 protected:
  EvalLlama() : Programs({"eval_llama", "data_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    test::write_tiny_llama(at("m"));
    test::write_lexicon_tokens(at("t.bin"), 6);
  }
  const std::string ppl_ = "eval_llama ppl -m m --threads 1 --json ";
};

TEST_F(EvalLlama, PplByBothProtocols) {
  const auto loaded = load_llama(open_llama_checkpoint(at("m")));
  const Llama& model = *loaded;
  const TokenFile file(at("t.bin"));
  const std::vector<int32_t> ids = file.read(0, file.size());
  const auto lora = result(ppl_ + "--data t.bin --ctx-size 32 --stride 32");
  EXPECT_EQ(lora["windows"], 10);
  EXPECT_EQ(lora["tokens"], 310);
  EXPECT_EQ(lora["protocol"], "longlora");
  EXPECT_EQ(lora["complete"], true);
  EXPECT_NEAR(lora["nll"],
              by_brute_force(model, ids, {0, 32, 64, 96, 128, 160, 192, 224, 256, 288}, 32, 1, {}),
              2e-6);
  EXPECT_NEAR(lora["perplexity"], std::exp(lora["nll"].get<double>()), 1e-9);
  // Its tokenizer puts <s> before a text, so llama.cpp's protocol puts it first in every window.
  const auto cpp = result(ppl_ + "--data t.bin --ctx-size 64 --protocol llamacpp");
  EXPECT_EQ(cpp["windows"], 6);
  EXPECT_EQ(cpp["bos"], true);
  EXPECT_NEAR(cpp["nll"],
              by_brute_force(model, ids, {0, 64, 128, 192, 256, 320}, 64, 33, kLexiconBos), 2e-6);
  EXPECT_EQ(result(ppl_ + "--data t.bin --ctx-size 64 --protocol llamacpp --bos off")["bos"],
            false);
  const auto several = result(ppl_ + "--data t.bin --ctx-size 16,32 --stride 32")["results"];
  EXPECT_EQ(several[0]["ctx_size"], 16);
  EXPECT_EQ(several[1]["nll"], lora["nll"]);
  const auto half = result(ppl_ + "--data t.bin --ctx-size 32 --stride 32 --dtype bf16");
  EXPECT_NE(half["nll"], lora["nll"]);
  EXPECT_NEAR(half["nll"], lora["nll"].get<double>(), 0.02);
  // Narrower attention is another model.
  EXPECT_NE(result(ppl_ + "--data t.bin --ctx-size 32 --stride 32 --attn sf")["nll"], lora["nll"]);
}

TEST_F(EvalLlama, ATextIsTokenizedByTheModelsOwnTokenizer) {
  std::string text;
  for (int i = 0; i < 60; ++i) text += "ba=KO ";
  write_whole_file(at("t.txt"), text);
  ASSERT_EQ(run("data_llama tokenize --model m --data t.txt --output text.bin").code, 0);
  const std::string how = "--ctx-size 32 --stride 32";
  const auto from_text = result(ppl_ + how + " --data t.txt");
  EXPECT_EQ(from_text["bos"], true);
  EXPECT_EQ(from_text["nll"], result(ppl_ + how + " --data text.bin")["nll"]);
}

TEST_F(EvalLlama, ATokenDtypeMeansATokenFileWhateverItsName) {
  const TokenFile file(at("t.bin"));
  TokenFileWriter plain(at("t.txt"), TokenWidth::u16, {}, false);
  plain.append(file.read(0, file.size()));
  plain.finish();
  const std::string how = "--ctx-size 32 --stride 32 --data ";
  EXPECT_EQ(result(ppl_ + how + "t.txt --token-dtype u16")["nll"],
            result(ppl_ + how + "t.bin")["nll"]);
  refused(ppl_ + how + "t.txt", 3, {"t.txt", "byte 0", "--token-dtype"});
  std::filesystem::rename(at("t.bin"), at("t.any"));  // its header says what it is
  EXPECT_EQ(result(ppl_ + how + "t.any")["tokens"], 310);
}

TEST_F(EvalLlama, TextsAreReadAsTheirKind) {
  const std::string how = "--ctx-size 32 --stride 32 --data ";
  std::string text;
  for (int i = 0; i < 60; ++i) text += "ba=KO ";
  write_whole_file(at("t.txt"), text);
  const auto plain = result(ppl_ + how + "t.txt");
  write_whole_file(at("marked.md"), "\xEF\xBB\xBF" + text);
  EXPECT_EQ(result(ppl_ + how + "marked.md")["nll"], plain["nll"]);
  write_whole_file(at("t.jsonl"), "{\"text\": \"" + text + "\"}\n");
  EXPECT_EQ(result(ppl_ + how + "t.jsonl")["nll"], plain["nll"]);
  std::filesystem::create_directories(at("texts"));
  write_whole_file(at("texts/a.md"), text);
  write_whole_file(at("texts/b.webp"), "RIFF");
  const auto folder = result(ppl_ + how + "texts");
  EXPECT_EQ(folder["nll"], plain["nll"]);
  EXPECT_EQ(folder["text"]["left_out"][".webp"], 1);
  EXPECT_NE(run(ppl_ + how + "texts").log.find("1 .webp"), std::string::npos);
  write_whole_file(at("l.txt"), text + "\xE9");
  refused(ppl_ + how + "l.txt", 3, {"l.txt", "byte 360", "--encoding latin1"});
  EXPECT_EQ(run(ppl_ + how + "l.txt --encoding latin1").code, 0);
  write_whole_file(at("b.pdf"), "%PDF-1.4\n");
  refused(ppl_ + how + "b.pdf", 3, {"b.pdf", "PDF"});
}

TEST_F(EvalLlama, WrongInputIsRefused) {
  refused(ppl_ + "--data t.bin --ctx-size 65", 2, {"65", "64", "--rope-scaling linear"});
  EXPECT_EQ(run(ppl_ + "--data t.bin --ctx-size 65 --rope-scaling linear").code, 0);
  refused(ppl_ + "--data t.bin --ctx-size 64 --attn sf --group-size 100", 2,
          {"--group-size 100", "64"});
  refused(ppl_ + "--data t.bin --ctx-size 1", 2, {"--ctx-size", "1"});
  refused(ppl_ + "--data t.bin --ctx-size 64 --stride 400", 2, {"384", "64", "465"});
  refused(ppl_ + "--data t.bin --stride -4", 2, {"--stride", "-4"});
  refused(ppl_ + "--data t.bin --protocoll longlora", 2,
          {"--protocoll", "did you mean --protocol?"});
  refused(ppl_ + "--data t.bin --protocol longlor", 2, {"longlor", "longlora"});
  refused(ppl_ + "--data none.bin --ctx-size 32", 3, {"none.bin"});
  refused(ppl_ + "--data t.bin --ctx-size 32 --bos on", 2, {"--bos on", "llamacpp"});
  refused(ppl_ + "--data t.bin --ctx-size 32 --adapter m", 3, {"m/adapter_config.json"});
  refused("eval_llama ppl -m none --data t.bin", 3, {"none"});
  TokenFileWriter writer(at("bad.bin"), TokenWidth::u16);
  writer.append(std::vector<int32_t>(100, 3));
  writer.append(std::vector<int32_t>{kLexiconVocab});
  writer.finish();
  refused(ppl_ + "--data bad.bin --ctx-size 32", 3, {"bad.bin", "token 100", "194"});
  write_whole_file(at("odd.bin"), "abc");
  refused(ppl_ + "--data odd.bin --ctx-size 32", 3, {"odd.bin", "no header", "--token-dtype"});
  refused(ppl_ + "--data odd.bin --ctx-size 32 --token-dtype u16", 3, {"odd.bin", "3 bytes"});
  // Tokens of another tokenizer are another language.
  TokenFileNotes notes;
  notes.tokenizer_sha256 = std::string(64, 'a');
  TokenFileWriter other(at("other.bin"), TokenWidth::u16, notes);
  other.append(std::vector<int32_t>(100, 3));
  other.finish();
  refused(ppl_ + "--data other.bin --ctx-size 32", 3, {"other.bin", "tokenizer", "aaaaaaaa"});
}

}  // namespace
}  // namespace mullion
