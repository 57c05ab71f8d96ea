// The text's ids in windows, scored by perplexity.cc.
#include "apps/llama/text_perplexity.h"

#include <algorithm>

#include "tensor/io/file.h"

namespace mullion {

std::vector<int32_t> text_ids(const Tokenizer& tokenizer, const std::filesystem::path& text) {
  return tokenizer.encode(read_whole_file(text, uint64_t{1} << 30), {.bos = tokenizer.add_bos()});
}

Perplexity text_perplexity(const LanguageModel& model, const Tokenizer& tokenizer,
                           const std::vector<int32_t>& ids, int64_t context) {
  PerplexityOptions how;
  how.llamacpp = true;
  how.context = context;
  if (tokenizer.add_bos()) how.first_id = tokenizer.bos();
  return perplexity(
      model, static_cast<int64_t>(ids.size()),
      [&](int64_t begin, std::span<int32_t> out) {
        std::copy_n(ids.begin() + begin, out.size(), out.begin());
      },
      how);
}

}  // namespace mullion
