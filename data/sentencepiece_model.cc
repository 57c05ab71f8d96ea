// Reads a SentencePiece `tokenizer.model`: one protocol buffer message (ModelProto of
// sentencepiece_model.proto). The wire reader is ours: every length is checked against what is
// left, nothing is allocated by a number from the file, and what BPE with identity normalisation
// does not need is refused by name or skipped.
//   ModelProto: 1 pieces {1 piece, 2 score, 3 type}, 2 trainer_spec, 3 normalizer_spec, ...
#include <bit>
#include <cmath>
#include <cstring>

#include "data/tokenizer.h"
#include "tensor/check.h"

namespace mullion {
namespace {

constexpr size_t kMaxPieces = 1'000'000, kMaxPieceBytes = 4096, kMaxFileBytes = 256 << 20;

// The fields of one message, in the order of the file.
class WireReader {
 public:
  WireReader(std::string_view bytes, const std::string& name) : rest_(bytes), name_(name) {}

  uint32_t field() const { return field_; }

  // Moves to the next field; false at the end of the message.
  bool next() {
    if (rest_.empty()) return false;
    uint64_t tag = varint();
    field_ = static_cast<uint32_t>(tag >> 3);
    wire_ = static_cast<int>(tag & 7);
    require(field_ > 0 && tag >> 3 <= 0x1FFFFFFF, "a field number out of range");
    if (wire_ == 0) {
      number_ = varint();
    } else if (wire_ == 1) {
      bytes_ = take(8);
    } else if (wire_ == 2) {
      bytes_ = take(varint());
    } else if (wire_ == 5) {
      bytes_ = take(4);
    } else {
      require(false, "a wire type that is not in use");
    }
    return true;
  }
  std::string_view bytes() const { return typed(2), bytes_; }
  uint64_t number() const { return typed(0), number_; }
  bool boolean() const { return number() != 0; }
  // An id, written as a 64-bit varint of an int32; -1 means none.
  std::optional<int32_t> id() const {
    auto value = static_cast<int64_t>(number());
    require(value >= -1 && value <= INT32_MAX, "a token id out of range");
    if (value < 0) return std::nullopt;
    return static_cast<int32_t>(value);
  }
  float real() const {
    typed(5);
    uint32_t bits = 0;
    for (int i = 3; i >= 0; --i) bits = bits << 8 | static_cast<uint8_t>(bytes_[i]);
    return std::bit_cast<float>(bits);
  }
  void require(bool condition, const char* what) const {
    CHECK_AS(Fault::bad_file, condition, name_, ": not a SentencePiece model: ", what, " in field ",
             field_);
  }

 private:
  void typed(int wire) const { require(wire_ == wire, "an unexpected wire type"); }
  std::string_view take(uint64_t size) {
    require(size <= rest_.size(), "a length beyond the end");
    std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      require(shift < 70 && !rest_.empty(), "a number that does not end");
      auto byte = static_cast<uint8_t>(rest_[0]);
      rest_.remove_prefix(1);
      require(shift < 63 || byte <= 1, "a number beyond 64 bits");
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
  }

  std::string_view rest_, bytes_;
  const std::string& name_;
  uint64_t number_ = 0;
  uint32_t field_ = 0;
  int wire_ = 0;
};

void read_piece(std::string_view message, const std::string& name, TokenizerParts& parts) {
  WireReader reader(message, name);
  std::string piece;
  float score = 0;
  uint64_t type = 1;
  const size_t id = parts.tokens.size();
  while (reader.next()) {
    if (reader.field() == 1) {
      CHECK_AS(Fault::bad_file, reader.bytes().size() <= kMaxPieceBytes, name, ": piece ", id,
               " has ", reader.bytes().size(), " bytes, at most ", kMaxPieceBytes);
      piece = reader.bytes();
    } else if (reader.field() == 2) {
      score = reader.real();
    } else if (reader.field() == 3) {
      type = reader.number();
    }
  }
  CHECK_AS(Fault::bad_file, id < kMaxPieces, name, ": more than ", kMaxPieces, " pieces");
  CHECK_AS(Fault::bad_file, !piece.empty(), name, ": piece ", id, " is empty");
  CHECK_AS(Fault::bad_file, piece.find('\0') == std::string::npos, name, ": piece ", id,
           " has a zero byte");
  CHECK_AS(Fault::bad_file, std::isfinite(score), name, ": the score of piece ", id, " is ", score);
  CHECK_AS(Fault::bad_file, type >= 1 && type <= 6, name, ": piece ", id, " has type ", type,
           ", not 1 to 6");
  parts.tokens.push_back(std::move(piece));
  parts.scores.push_back(score);
  parts.types.push_back(static_cast<TokenType>(type));
}

struct TrainerSpec {
  uint64_t model_type = 1;  // the default of the format is unigram
  bool suffix = false;
  std::optional<std::string> unk_surface;
  std::optional<int32_t> unk = 0, bos = 1, eos = 2, pad;
};

TrainerSpec read_trainer_spec(std::string_view message, const std::string& name) {
  WireReader reader(message, name);
  TrainerSpec spec;
  while (reader.next()) {
    switch (reader.field()) {
      case 3:
        spec.model_type = reader.number();
        break;
      case 24:
        spec.suffix = reader.boolean();
        break;
      case 40:
        spec.unk = reader.id();
        break;
      case 41:
        spec.bos = reader.id();
        break;
      case 42:
        spec.eos = reader.id();
        break;
      case 43:
        spec.pad = reader.id();
        break;
      case 44:
        spec.unk_surface = reader.bytes();
        break;
      default:
        break;
    }
  }
  return spec;
}

void read_normalizer_spec(std::string_view message, const std::string& name,
                          TokenizerParts& parts) {
  WireReader reader(message, name);
  std::string_view rule = "of no name";
  parts.add_space_prefix = parts.remove_extra_spaces = true;  // the defaults of the format
  while (reader.next()) {
    switch (reader.field()) {
      case 1:
        rule = reader.bytes();
        break;
      case 2:
        CHECK_AS(Fault::bad_file, reader.bytes().empty(), name, ": normalizer_spec '", rule,
                 "' has a precompiled_charsmap of ", reader.bytes().size(),
                 " bytes; only identity normalisation is supported");
        break;
      case 3:
        parts.add_space_prefix = reader.boolean();
        break;
      case 4:
        parts.remove_extra_spaces = reader.boolean();
        break;
      case 5:
        CHECK_AS(Fault::bad_file, reader.boolean(), name,
                 ": normalizer_spec.escape_whitespaces = false is not supported");
        break;
      case 6:
        CHECK_AS(Fault::bad_file, reader.bytes().empty(), name,
                 ": normalizer_spec.normalization_rule_tsv is not supported");
        break;
      default:
        break;
    }
  }
}

}  // namespace

TokenizerParts parse_sentencepiece_model(std::string_view bytes, const std::string& name) {
  static const char* const kModelTypes[] = {"0", "unigram", "bpe", "word", "char"};
  CHECK_AS(Fault::bad_file, bytes.size() <= kMaxFileBytes, name, ": ", bytes.size(),
           " bytes, at most ", kMaxFileBytes);
  TokenizerParts parts;
  parts.model = "llama";
  parts.remove_extra_spaces = true;
  TrainerSpec spec;
  WireReader reader(bytes, name);
  while (reader.next()) {
    if (reader.field() == 1) read_piece(reader.bytes(), name, parts);
    if (reader.field() == 2) spec = read_trainer_spec(reader.bytes(), name);
    if (reader.field() == 3) read_normalizer_spec(reader.bytes(), name, parts);
  }
  CHECK_AS(Fault::bad_file, !parts.tokens.empty(), name, ": not a SentencePiece model: no pieces");
  CHECK_AS(Fault::bad_file, spec.model_type == 2, name, ": trainer_spec.model_type is ",
           spec.model_type < 5 ? kModelTypes[spec.model_type] : "unknown",
           "; only bpe is supported");
  CHECK_AS(Fault::bad_file, !spec.suffix, name,
           ": trainer_spec.treat_whitespace_as_suffix is not supported");
  if (spec.unk_surface) parts.unknown_text = *spec.unk_surface;
  // The spec keeps ids of specials that the vocabulary may lack.
  auto known = [&](std::optional<int32_t> id, TokenType type) {
    bool ok = id && static_cast<size_t>(*id) < parts.tokens.size() && parts.types[*id] == type;
    return ok ? id : std::nullopt;
  };
  parts.unk = known(spec.unk, TokenType::unknown);
  parts.bos = known(spec.bos, TokenType::control);
  parts.eos = known(spec.eos, TokenType::control);
  parts.pad = known(spec.pad, TokenType::control);
  const std::string from = "tokenizer.model trainer_spec";
  if (parts.unk) parts.origins["unk"] = from;
  if (parts.bos) parts.origins["bos"] = from;
  if (parts.eos) parts.origins["eos"] = from;
  if (parts.pad) parts.origins["pad"] = from;
  return parts;
}

}  // namespace mullion
