// The classes by name, and the models by the class that reads their text.
#include "data/tokenizer_class.h"

#include <utility>

namespace mullion {

namespace {

constexpr OwnEnds kOwnEnds[] = {
    {"LlamaTokenizer", "<s>", "</s>", true},
    {"CodeLlamaTokenizer", "<s>", "</s>", true},
    {"GemmaTokenizer", "<bos>", "<eos>", true},
    {"CohereTokenizer", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", true},
    {"GPTNeoXTokenizer", "<|endoftext|>", "<|endoftext|>", false},
};

// From TOKENIZER_MAPPING_NAMES of src/transformers/models/auto/tokenization_auto.py: the families
// themselves and those of Llama's architecture.
constexpr std::pair<std::string_view, std::string_view> kClasses[] = {
    {"llama", "LlamaTokenizer"},      {"mistral", "LlamaTokenizer"},
    {"mixtral", "LlamaTokenizer"},    {"phi3", "LlamaTokenizer"},
    {"diffllama", "LlamaTokenizer"},  {"code_llama", "CodeLlamaTokenizer"},
    {"gemma", "GemmaTokenizer"},      {"gemma2", "GemmaTokenizer"},
    {"cohere", "CohereTokenizer"},    {"cohere2", "CohereTokenizer"},
    {"olmo", "GPTNeoXTokenizer"},     {"olmo2", "GPTNeoXTokenizer"},
    {"stablelm", "GPTNeoXTokenizer"}, {"gpt_neox", "GPTNeoXTokenizer"},
};

}  // namespace

const OwnEnds* own_ends(std::string_view tokenizer_class) {
  if (tokenizer_class.ends_with("Fast")) tokenizer_class.remove_suffix(4);
  for (const OwnEnds& ends : kOwnEnds)
    if (ends.name == tokenizer_class) return &ends;
  return nullptr;
}

std::string_view class_of_model(std::string_view model_type) {
  for (const auto& [type, name] : kClasses)
    if (type == model_type) return name;
  return "";
}

}  // namespace mullion
