// A language model of characters, trained from nothing in a few seconds: the LLaMA of models/llama
// with any attention pattern (first argument: full, sf, s2, ...). The text is made up of short
// sentences of a small grammar; the model learns to spell, then the grammar. It prints its loss and
// a continuation of "the ".
#include <cstdio>
#include <string>

#include "autograd/engine.h"
#include "models/llama/generate.h"
#include "models/llama/model.h"
#include "optim/optimizer.h"
#include "tensor/random.h"

using namespace mullion;

// One sentence: "the red fox sees a small bird. "
std::string sentence(Philox& random) {
  static const char* const articles[] = {"the", "a"};
  static const char* const adjectives[] = {"red", "small", "old", "quick"};
  static const char* const nouns[] = {"fox", "bird", "tree", "river"};
  static const char* const verbs[] = {"sees", "hears", "likes"};
  const auto one_of = [&](const auto& words) {
    return std::string(words[random.below(std::size(words))]) + " ";
  };
  std::string text = one_of(articles) + one_of(adjectives) + one_of(nouns) + one_of(verbs) +
                     one_of(articles) + one_of(adjectives) + one_of(nouns);
  text.back() = '.';
  return text + " ";
}

int main(int argc, char** argv) {
  const std::string attention = argc > 1 ? argv[1] : "sf";
  constexpr int64_t kBatch = 8, kLength = 64;

  LlamaConfig config;
  config.vocab_size = 128;  // ASCII
  config.hidden_size = 64;
  config.intermediate_size = 128;
  config.num_hidden_layers = 2;
  config.num_attention_heads = config.num_key_value_heads = 4;
  config.head_dim = 16;
  config.max_position_embeddings = kLength;
  config.tie_word_embeddings = true;
  Llama model(config);
  model.initialize(/*seed=*/1);
  // Training sees the pattern; generation, as in the papers, full attention.
  const AttentionPattern pattern = make_pattern(attention, {.n_heads = 4, .context = kLength});
  const AttentionPattern full = model.pattern();
  std::printf("%s\n", describe(pattern).c_str());

  set_trainable(model, [](const std::string&) { return true; });
  const auto parameters = named_parameters(model);
  const auto optimizer = make_adamw({{parameters}});
  Philox random{.seed = 1};
  for (int step = 0; step <= 150; ++step) {
    std::vector<int64_t> ids, next;
    for (int64_t row = 0; row < kBatch; ++row) {
      std::string text;
      while (text.size() <= kLength) text += sentence(random);
      for (size_t t = 0; t < kLength; ++t) ids.push_back(text[t]), next.push_back(text[t + 1]);
    }
    model.set_pattern(pattern);
    const Tensor loss = model.loss(Tensor::from(ids, {kBatch, kLength}),
                                   Tensor::from(next, {kBatch, kLength}), 1.0 / ids.size());
    if (step % 50 == 0) std::printf("step %3d  loss %.3f\n", step, loss.item());
    backward(loss);
    optimizer->step(/*lr=*/3e-3);
    clear_grads(parameters);
  }

  model.set_pattern(full);
  const std::vector<int32_t> prompt = {'t', 'h', 'e', ' '};
  GenerateOptions options;
  options.max_tokens = 55;
  options.sampling.temperature = 0.7;
  std::string text(prompt.begin(), prompt.end());
  for (const int32_t id : generate(model, prompt, options).ids) text += static_cast<char>(id);
  std::printf("%s\n", text.c_str());
}
