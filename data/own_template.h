// What a tokenizer's own chat template writes, as far as its Jinja text tells without being run.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace mullion {

enum class ChatFormat { none, llama2, llama3, chatml, zephyr, vicuna, alpaca };

struct OwnTemplate {
  ChatFormat format = ChatFormat::none;
  bool bos = false;            // chatml, llama3: it begins with the BOS token
  bool ends_with_eos = false;  // chatml: turns end with the EOS token instead of <|im_end|>
  bool trims = false;          // llama2, llama3: contents without the spaces around them
  bool line_ends = true;       // chatml, zephyr: a line break after the end of a turn
  std::string system{};        // chatml: of a conversation without a system turn; "": nothing
  // What it has beside that and is not written, for a message.
  std::vector<std::string> not_written{};
};

// Recognised by special texts, in the order of llama.cpp; none: another template than the known
// ones. [INST] alone is Mistral's and others', which Llama 2's is not: there BOS stands before each
// one, <<SYS>> around the system text, and a space before EOS. Zephyr's roles are others' too
// (GLM's, Phi's): content and EOS follow there. Vicuna's and Alpaca's are known by their system
// texts, which an unknown one would lack. `bos`: the text of the BOS token, which some write
// instead of its name.
std::optional<OwnTemplate> read_own_template(const std::string& jinja, const std::string& bos);

// The words around instructions in Stanford Alpaca, and the system text of Vicuna 1.1 (FastChat).
inline constexpr char kAlpacaWithInput[] =
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.";
inline constexpr char kAlpaca[] =
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.";
inline constexpr char kVicuna[] =
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions.";

}  // namespace mullion
