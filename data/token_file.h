// Files of token ids, as llm.c writes them: 256 little-endian i32 of header, then the ids as u16
// (magic 20240520, version 1) or u32 (20240801, version 7; for vocabularies above 65535). The
// count stands in word 2 and, as 64 bits, in words 4 and 5, which llm.c leaves 0. Files without a
// header (LongLoRA's) are nothing but ids, and are read only by who says how wide these are.
// A side file FILE.json keeps the tokenizer's hash, where documents begin and which specials
// stand around them.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tensor/io/file.h"

namespace mullion {

class Tokenizer;

enum class TokenWidth { u16 = 2, u32 = 4 };  // bytes of an id

// What the side file says; all empty where there is none.
struct TokenFileNotes {
  std::string tokenizer_sha256;     // Tokenizer::hash()
  std::vector<uint64_t> documents;  // index of the first token of each, ascending from 0
  bool bos = false, eos = false;    // whether each document starts with BOS, ends with EOS
  int64_t unknown = 0;  // ids that stand for characters which the vocabulary does not have
};

struct TokenFileOptions {
  // How to read a file that has no header; absent: such a file is refused, for bytes of any kind
  // look like ids. A header that says otherwise is an error.
  std::optional<TokenWidth> width;
  int64_t vocab_size = 0;  // above 0: an id outside it is an error that names file, offset and id
};

// A token file, checked as a whole when opened: sizes, header, and every id. Reading afterwards is
// by pread, so that a file which shrinks is an error and not a signal. Safe from many threads.
class TokenFile {
 public:
  explicit TokenFile(const std::filesystem::path& path, const TokenFileOptions& options = {});
  // Bytes from anywhere, without a side file.
  explicit TokenFile(std::unique_ptr<ByteSource> bytes, const TokenFileOptions& options = {});

  uint64_t size() const { return size_; }  // tokens
  TokenWidth width() const { return width_; }
  bool has_header() const { return data_begin_ > 0; }
  uint32_t max_id() const { return max_id_; }
  const std::string& name() const { return bytes_->name(); }
  const TokenFileNotes& notes() const { return notes_; }

  // The tokens [begin, begin + out.size()); outside [0, size()) is an error.
  void read(uint64_t begin, std::span<int32_t> out) const;
  std::vector<int32_t> read(uint64_t begin, uint64_t count) const;

  // An error where the side file names another tokenizer or an id is outside its vocabulary.
  void require_tokenizer(const Tokenizer& tokenizer) const;

 private:
  void read_header(const TokenFileOptions& options);
  void check_ids(int64_t vocab_size);
  void read_notes(const std::filesystem::path& side_file);

  std::unique_ptr<ByteSource> bytes_;
  TokenWidth width_ = TokenWidth::u16;
  uint64_t data_begin_ = 0, size_ = 0;
  uint32_t max_id_ = 0;
  TokenFileNotes notes_;
};

// Whether the file begins with the header of a token file, whole or not, of either byte order.
bool has_token_header(const std::filesystem::path& path);

// The width for a vocabulary: u16 up to 65535 tokens.
TokenWidth token_width(int64_t vocab_size);
std::filesystem::path token_side_file(const std::filesystem::path& token_file);

// Writes a token file and its side file. Nothing appears under the final names before finish().
class TokenFileWriter {
 public:
  // `header` false: ids alone. `notes.documents` is filled in by begin_document().
  TokenFileWriter(std::filesystem::path path, TokenWidth width, TokenFileNotes notes = {},
                  bool header = true);
  // The next ids belong to a new document.
  void begin_document();
  void set_unknown(int64_t count) { notes_.unknown = count; }
  void append(std::span<const int32_t> ids);  // an id that does not fit the width is an error
  uint64_t size() const { return size_; }
  const TokenFileNotes& notes() const { return notes_; }
  void finish();

 private:
  void flush();

  std::filesystem::path path_;
  AtomicFile file_;
  TokenWidth width_;
  TokenFileNotes notes_;
  bool header_;
  uint64_t size_ = 0, written_ = 0;  // tokens appended, bytes in the file
  std::vector<std::byte> buffer_;
};

}  // namespace mullion
