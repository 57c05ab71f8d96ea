// A tokenizer for conversations.
#pragma once
#include <algorithm>
#include <memory>
#include <string>

#include "data/tokenizer.h"
#include "tests/data/tokenizer_samples.h"

namespace mullion::test {

// All bytes, a few merges, and the special texts of every template.
inline std::unique_ptr<Tokenizer> chat_tokenizer(const std::string& chat_template = "",
                                                 bool add_bos = false) {
  nlohmann::json root = json_sample();
  int id = root["added_tokens"][0]["id"].get<int>();
  for (const char* text : {"<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>",
                           "<|end_header_id|>", "<|eot_id|>"})
    root["added_tokens"].push_back(
        {{"id", ++id}, {"content", text}, {"special", true}, {"normalized", false}});
  TokenizerParts parts = parse_tokenizer_json(root.dump(), "sample");
  const auto id_of = [&](const std::string& text) {
    return static_cast<int32_t>(std::find(parts.tokens.begin(), parts.tokens.end(), text) -
                                parts.tokens.begin());
  };
  parts.bos = id_of("<s>");
  parts.eos = id_of("</s>");
  parts.add_bos = add_bos;
  parts.chat_template = chat_template;
  return make_tokenizer(std::move(parts));
}

}  // namespace mullion::test
