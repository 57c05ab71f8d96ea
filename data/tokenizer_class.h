// What the class of a Hugging Face tokenizer decides about the ends of a text. Most fast classes of
// transformers 4 leave them to tokenizer.json's post_processor; those with update_post_processor()
// put a template of their own in its place (src/transformers/models/*/tokenization_*_fast.py,
// transformers 4.51.3).
#pragma once
#include <string_view>

namespace mullion {

// The defaults of a class that makes its own ends, by add_bos_token and add_eos_token (false).
struct OwnEnds {
  std::string_view name;      // without "Fast"
  std::string_view bos, eos;  // texts of the tokens
  bool add_bos;
};

// Of the class "LlamaTokenizer" or "LlamaTokenizerFast"; null where a class makes none.
const OwnEnds* own_ends(std::string_view tokenizer_class);

// The class for config.json's model_type where no file names one; "": not one of those above.
std::string_view class_of_model(std::string_view model_type);

}  // namespace mullion
