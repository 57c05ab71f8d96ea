// Text to token ids and back. Two kinds, as in the LLaMA family: SentencePiece BPE with byte
// fallback (Llama 2) and byte-level BPE (Llama 3, SmolLM2, GPT-2). Every loader reads its file
// into TokenizerParts, the lists that a GGUF file also stores; make_tokenizer builds either kind.
// For any bytes x, also invalid UTF-8, decode(encode(x)) == x wherever the vocabulary has all
// single bytes (Metaspace with a prefix loses one space at the start, and SentencePiece's "▁" in a
// text is a space, as everywhere). A tokenizer is immutable: encode may run in any number of
// threads.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mullion {

class GgufFile;

// What a token is for; the values are those of SentencePiece and of tokenizer.ggml.token_type.
enum class TokenType : int32_t {
  normal = 1,
  unknown = 2,
  control = 3,       // found in text only when asked for, e.g. <s> or <|eot_id|>
  user_defined = 4,  // found in any text before all else
  unused = 5,
  byte = 6,  // SentencePiece's <0x00> to <0xFF>
};

// Everything a tokenizer is made of, in the vocabulary of GGUF's tokenizer.ggml.* keys.
struct TokenizerParts {
  std::string model;                // "llama": SentencePiece BPE, "gpt2": byte-level BPE
  std::string pre;                  // gpt2: llama-bpe, smollm, starcoder, gpt-2 or default
  std::vector<std::string> tokens;  // as stored: "▁the" or "Ġthe"; index = id
  std::vector<float> scores;        // llama: higher merges first; may be empty (all 0)
  std::vector<TokenType> types;     // may be empty: then guessed from the texts
  std::vector<std::string> merges;  // "left right", first merges first; llama: mostly empty, the
                                    // scores decide then
  std::optional<int32_t> bos, eos, unk, pad;
  std::vector<int32_t> more_eos;  // other ids that end a text, e.g. <|eot_id|>
  std::optional<bool> add_bos;    // absent: the default of the kind
  bool add_eos = false;
  bool add_space_prefix = true;      // llama: "▁" before the first word
  bool prefix_after_control = true;  // llama: also before the first word after a control token
  bool prefix_after_added = false;   // llama: and after a user-defined token
  bool metaspace = false;            // llama: no "▁" before a text that begins with a space
  bool split_words = false;          // llama: no merge crosses the start of a "▁"
  bool remove_extra_spaces = false;  // llama: collapse and trim runs of spaces first
  bool fuse_unknown = true;          // one <unk> for a stretch of characters without a token
  std::string unknown_text = " \xE2\x81\x87 ";  // llama: <unk> in a text; "": as other specials
  // llama: added tokens that are looked for after the spaces have been replaced and prefixed, and
  // are written so there: "<new>" is found in "a <new>", not in "a<new>".
  std::vector<int32_t> normalized;
  bool ignore_merges = false;  // gpt2: a whole word of the vocabulary needs no merges
  std::string chat_template;   // Jinja text, never run; empty: none
  // Where bos, eos, unk, pad, add_bos, add_eos and more_eos come from: {"eos",
  // "tokenizer_config.json eos_token"}. What no file says has no entry.
  std::map<std::string, std::string> origins;
  // What the files say and this program does not follow, a sentence each that names the file.
  std::vector<std::string> notes;
};

// Unused tokens "[PAD361]" up to so many, for rows of a model that no token has.
void add_padding(TokenizerParts& parts, int64_t rows);

struct EncodeOptions {
  bool bos = false;             // put the BOS id first; an error where there is none
  bool eos = false;             // and the EOS id last
  bool parse_specials = false;  // let texts of control tokens in the input become their ids
  bool space_prefix = true;     // llama: false for a text that continues another
};

struct DecodeOptions {
  bool specials = false;  // write control tokens by their texts instead of leaving them out
  bool strip_space_prefix = true;  // llama: take off the space that encode put in front
};

class Tokenizer {
 public:
  virtual ~Tokenizer();

  std::vector<int32_t> encode(std::string_view bytes, const EncodeOptions& options = {}) const;
  // An id outside [0, vocab_size) is an error.
  std::string decode(std::span<const int32_t> ids, const DecodeOptions& options = {}) const;

  int32_t vocab_size() const { return static_cast<int32_t>(parts_.tokens.size()); }
  std::optional<int32_t> bos() const { return parts_.bos; }
  std::optional<int32_t> eos() const { return parts_.eos; }
  std::optional<int32_t> unk() const { return parts_.unk; }
  std::optional<int32_t> pad() const { return parts_.pad; }
  // All ids that end a text, eos() first; without repetition.
  const std::vector<int32_t>& eos_ids() const { return eos_ids_; }
  bool is_eos(int32_t id) const;
  // Whether a text for the model starts with BOS (ends with EOS) unless the user says otherwise.
  bool add_bos() const { return *parts_.add_bos; }
  bool add_eos() const { return parts_.add_eos; }

  // The token as the vocabulary writes it ("▁the", "Ġthe", "<0x0A>", "</s>").
  const std::string& token_text(int32_t id) const;
  // The bytes it stands for in a text (" the", "\n"); for a control token its text.
  const std::string& token_bytes(int32_t id) const;
  TokenType type(int32_t id) const;
  std::optional<int32_t> find(std::string_view text) const;  // by token_text

  // All parts, complete (no empty scores, types or add_bos), e.g. for writing a GGUF file.
  const TokenizerParts& parts() const { return parts_; }
  // 64 hexadecimal digits over what decides text -> ids: kind, tokens, scores or merges, rules.
  // The same vocabulary gives the same hash from a folder and from a GGUF file.
  const std::string& hash() const { return hash_; }

 protected:
  explicit Tokenizer(TokenizerParts parts);
  // Appends the ids of a stretch of text without special tokens but the normalized ones, of which
  // control tokens are looked for if `specials`; `prefix`: add the space.
  virtual void encode_text(std::string_view text, bool prefix, bool specials,
                           std::vector<int32_t>& out) const = 0;
  void set_token_bytes(std::vector<std::string> bytes);  // by the constructor of the kind

 private:
  struct Index;  // texts to ids, and the special tokens that are looked for in a text

  TokenizerParts parts_;
  std::vector<std::string> bytes_;
  std::vector<int32_t> eos_ids_;
  std::string hash_;
  std::unique_ptr<Index> index_;
};

// Checks the parts (Fault::bad_file where they contradict each other) and builds the tokenizer.
std::unique_ptr<Tokenizer> make_tokenizer(TokenizerParts parts);

// From a Hugging Face folder, a tokenizer.json, a tokenizer.model or a .gguf file. In a folder
// tokenizer.json is read where it is there, else tokenizer.model; one that cannot be read is an
// error, never a reason to take the other. added_tokens.json and tokenizer_config.json add tokens;
// for BOS, EOS, unknown and padding the order of authority is that of tokenizer_folder.cc.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path);

// The parsers behind it, on bytes from anywhere; `name` is used in messages only.
TokenizerParts parse_sentencepiece_model(std::string_view bytes, const std::string& name);
TokenizerParts parse_tokenizer_json(std::string_view bytes, const std::string& name);
TokenizerParts tokenizer_parts(const GgufFile& file);

}  // namespace mullion
