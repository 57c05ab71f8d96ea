// Layout checks happen once, at opening; every id is looked at there, so that training cannot meet
// one outside the vocabulary hours later.
#include "data/token_file.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "data/text_encoding.h"
#include "data/tokenizer.h"
#include "tensor/check.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {

constexpr uint64_t kHeaderBytes = 1024, kBlockTokens = 1 << 16;
constexpr uint32_t kMagicU16 = 20240520, kVersionU16 = 1, kMagicU32 = 20240801, kVersionU32 = 7;
constexpr const char* kFormat = "mullion-tokens";

uint32_t load_u32(const std::byte* p) {
  return static_cast<uint32_t>(p[0]) | static_cast<uint32_t>(p[1]) << 8 |
         static_cast<uint32_t>(p[2]) << 16 | static_cast<uint32_t>(p[3]) << 24;
}

void store_u32(std::byte* p, uint32_t value) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<std::byte>(value >> (8 * i));
}

uint32_t load_id(const std::byte* p, TokenWidth width) {
  if (width == TokenWidth::u32) return load_u32(p);
  return static_cast<uint32_t>(p[0]) | static_cast<uint32_t>(p[1]) << 8;
}

uint32_t swap_bytes(uint32_t x) {
  return x >> 24 | (x >> 8 & 0xFF00) | (x << 8 & 0xFF0000) | x << 24;
}

const char* name_of(TokenWidth width) { return width == TokenWidth::u16 ? "u16" : "u32"; }

}  // namespace

TokenFile::TokenFile(const std::filesystem::path& path, const TokenFileOptions& options)
    : TokenFile(open_file(path), options) {
  read_notes(token_side_file(path));
}

TokenFile::TokenFile(std::unique_ptr<ByteSource> bytes, const TokenFileOptions& options)
    : bytes_(std::move(bytes)) {
  read_header(options);
  check_ids(options.vocab_size);
}

void TokenFile::read_header(const TokenFileOptions& options) {
  const uint64_t file_size = bytes_->size();
  CHECK_AS(Fault::bad_file, file_size > 0, name(), ": empty, no tokens");
  std::array<std::byte, kHeaderBytes> header{};
  bytes_->read_at(0, std::span(header).first(std::min(file_size, kHeaderBytes)));
  auto word = [&](size_t i) { return load_u32(header.data() + 4 * i); };
  const bool u16 = word(0) == kMagicU16, u32 = word(0) == kMagicU32;
  for (uint32_t magic : {kMagicU16, kMagicU32}) {
    CHECK_AS(Fault::bad_file, word(0) != swap_bytes(magic), name(),
             ": a big-endian token file; only little-endian ones are read");
  }
  if (!u16 && !u32) {
    const std::string kind = binary_kind(
        {reinterpret_cast<const char*>(header.data()), std::min(file_size, kHeaderBytes)});
    CHECK_AS(Fault::bad_file, kind.empty(), name(), ": ", kind, ", not a file of token ids");
    if (!options.width)
      throw Error(concat(name(), ": no header of a token file in its ", file_size, " bytes"),
                  Fault::bad_file,
                  "--token-dtype u16 or u32 says how wide ids without a header are");
    width_ = *options.width;
    auto bytes_each = static_cast<uint64_t>(width_);
    CHECK_AS(Fault::bad_file, file_size % bytes_each == 0, name(), ": no header, and ", file_size,
             " bytes are no whole number of ", name_of(width_), " ids");
    size_ = file_size / bytes_each;
    return;
  }
  CHECK_AS(Fault::bad_file, file_size >= kHeaderBytes, name(), ": cut within the header, at byte ",
           file_size);
  width_ = u16 ? TokenWidth::u16 : TokenWidth::u32;
  const uint32_t version = u16 ? kVersionU16 : kVersionU32;
  CHECK_AS(Fault::bad_file, word(1) == version, name(), ": version ", word(1), " of ",
           name_of(width_), " token files; known: ", version);
  CHECK_AS(Fault::bad_file, !options.width || *options.width == width_, name(), ": has ",
           name_of(width_), " ids by its header, read as ", name_of(*options.width));
  uint64_t long_count = uint64_t{word(5)} << 32 | word(4);
  size_ = long_count > 0 ? long_count : word(2);
  CHECK_AS(Fault::bad_file, word(2) == std::min<uint64_t>(size_, INT32_MAX), name(),
           ": the header says ", word(2), " tokens and ", long_count, " tokens");
  const uint64_t room = file_size - kHeaderBytes, bytes_each = static_cast<uint64_t>(width_);
  CHECK_AS(Fault::bad_file, room % bytes_each == 0 && room / bytes_each == size_, name(),
           ": the header says ", size_, " ", name_of(width_), " ids, the file has ", room,
           " bytes after it");
  data_begin_ = kHeaderBytes;
}

void TokenFile::check_ids(int64_t vocab_size) {
  const auto bytes_each = static_cast<uint64_t>(width_);
  std::vector<std::byte> block(std::min(size_, kBlockTokens) * bytes_each);
  // Ids are i32 in memory: one above 2^31 - 1 is wrong with any vocabulary.
  const uint64_t limit = vocab_size > 0 ? static_cast<uint64_t>(vocab_size) : uint64_t{1} << 31;
  for (uint64_t begin = 0; begin < size_; begin += kBlockTokens) {
    const uint64_t count = std::min(kBlockTokens, size_ - begin);
    bytes_->read_at(data_begin_ + begin * bytes_each, std::span(block).first(count * bytes_each));
    for (uint64_t i = 0; i < count; ++i) {
      uint32_t id = load_id(block.data() + i * bytes_each, width_);
      max_id_ = std::max(max_id_, id);
      if (id >= limit) {
        fail(Fault::bad_file, name(), ": token ", begin + i, " (byte ",
             data_begin_ + (begin + i) * bytes_each, ") is ", id, ", outside the vocabulary of ",
             limit);
      }
    }
  }
}

void TokenFile::read_notes(const std::filesystem::path& side_file) {
  if (!exists(side_file)) return;
  nlohmann::json root = read_json_file(side_file);
  const std::string file = side_file.string();
  CHECK_AS(Fault::bad_file, root.is_object() && get_string_or(root, file, "format", "") == kFormat,
           file, ": not the side file of a token file (format ", kFormat, ")");
  CHECK_AS(Fault::bad_file, get_uint(root, file, "version", 1000) == 1, file, ": version ",
           get_uint(root, file, "version", 1000), "; known: 1");
  uint64_t tokens = get_uint(root, file, "tokens", UINT64_MAX);
  CHECK_AS(Fault::bad_file, tokens == size_, file, ": says ", tokens, " tokens, ", name(), " has ",
           size_);
  notes_.tokenizer_sha256 = get_string_or(root, file, "tokenizer_sha256", "");
  notes_.bos = get_bool_or(root, file, "bos", false);
  notes_.eos = get_bool_or(root, file, "eos", false);
  notes_.unknown = static_cast<int64_t>(get_uint_or(root, file, "unknown", size_, 0));
  const nlohmann::json* documents = find_field(root, file, "documents");
  if (!documents) return;
  CHECK_AS(Fault::bad_file, documents->is_array(), file, ": documents is not a list");
  for (const nlohmann::json& item : *documents) {
    uint64_t begin = as_uint(item, file, "documents", size_ - 1);
    bool ordered = notes_.documents.empty() ? begin == 0 : begin > notes_.documents.back();
    CHECK_AS(Fault::bad_file, ordered, file, ": documents[", notes_.documents.size(), "] = ", begin,
             " does not ascend from 0");
    notes_.documents.push_back(begin);
  }
}

void TokenFile::read(uint64_t begin, std::span<int32_t> out) const {
  CHECK(begin <= size_ && out.size() <= size_ - begin, name(), ": tokens [", begin, ", ",
        begin + out.size(), ") of ", size_);
  const auto bytes_each = static_cast<uint64_t>(width_);
  std::vector<std::byte> block(std::min<uint64_t>(out.size(), kBlockTokens) * bytes_each);
  for (uint64_t done = 0; done < out.size(); done += kBlockTokens) {
    const uint64_t count = std::min<uint64_t>(kBlockTokens, out.size() - done);
    bytes_->read_at(data_begin_ + (begin + done) * bytes_each,
                    std::span(block).first(count * bytes_each));
    for (uint64_t i = 0; i < count; ++i) {
      // The file may have been written to since it was checked.
      uint32_t id = load_id(block.data() + i * bytes_each, width_);
      CHECK_AS(Fault::bad_file, id <= max_id_, name(), ": token ", begin + done + i, " is ", id,
               " now: the file has changed since it was opened");
      out[done + i] = static_cast<int32_t>(id);
    }
  }
}

std::vector<int32_t> TokenFile::read(uint64_t begin, uint64_t count) const {
  CHECK(begin <= size_ && count <= size_ - begin, name(), ": tokens from ", begin, ", ", count,
        " of them, of ", size_);
  std::vector<int32_t> out(count);
  read(begin, out);
  return out;
}

void TokenFile::require_tokenizer(const Tokenizer& tokenizer) const {
  const std::string& hash = notes_.tokenizer_sha256;
  CHECK_AS(Fault::bad_file, hash.empty() || hash == tokenizer.hash(), name(),
           ": made by another tokenizer: sha256 ", hash, ", the model's is ", tokenizer.hash());
  CHECK_AS(Fault::bad_file, static_cast<int64_t>(max_id_) < tokenizer.vocab_size(), name(),
           ": has token ", max_id_, ", outside the vocabulary of ", tokenizer.vocab_size());
}

bool has_token_header(const std::filesystem::path& path) {
  const auto file = open_file(path);
  std::array<std::byte, 4> word{};
  file->read_at(0, std::span(word).first(std::min<uint64_t>(file->size(), word.size())));
  const uint32_t magic = load_u32(word.data());
  for (uint32_t known : {kMagicU16, kMagicU32})
    if (magic == known || magic == swap_bytes(known)) return true;
  return false;
}

TokenWidth token_width(int64_t vocab_size) {
  return vocab_size > 65535 ? TokenWidth::u32 : TokenWidth::u16;
}

std::filesystem::path token_side_file(const std::filesystem::path& token_file) {
  return token_file.string() + ".json";
}

TokenFileWriter::TokenFileWriter(std::filesystem::path path, TokenWidth width, TokenFileNotes notes,
                                 bool header)
    : path_(std::move(path)),
      file_(path_),
      width_(width),
      notes_(std::move(notes)),
      header_(header),
      written_(header ? kHeaderBytes : 0) {
  notes_.documents.clear();
}

void TokenFileWriter::begin_document() {
  // A document without tokens leaves no trace.
  if (notes_.documents.empty() || notes_.documents.back() < size_)
    notes_.documents.push_back(size_);
}

void TokenFileWriter::append(std::span<const int32_t> ids) {
  const uint32_t limit = width_ == TokenWidth::u16 ? UINT16_MAX : INT32_MAX;
  for (int32_t id : ids) {
    CHECK(id >= 0 && static_cast<uint32_t>(id) <= limit, path_.string(), ": token id ", id,
          " does not fit ", name_of(width_));
    for (int i = 0; i < static_cast<int>(width_); ++i) {
      buffer_.push_back(static_cast<std::byte>(id >> (8 * i)));
    }
  }
  size_ += ids.size();
  if (buffer_.size() >= (1 << 20)) flush();
}

void TokenFileWriter::flush() {
  file_.write_at(written_, buffer_);
  written_ += buffer_.size();
  buffer_.clear();
}

void TokenFileWriter::finish() {
  CHECK(size_ > 0, path_.string(), ": no tokens to write");
  flush();
  if (header_) {
    std::array<std::byte, kHeaderBytes> header{};
    const bool u16 = width_ == TokenWidth::u16;
    const uint32_t words[] = {u16 ? kMagicU16 : kMagicU32,
                              u16 ? kVersionU16 : kVersionU32,
                              static_cast<uint32_t>(std::min<uint64_t>(size_, INT32_MAX)),
                              0,
                              static_cast<uint32_t>(size_),
                              static_cast<uint32_t>(size_ >> 32)};
    for (size_t i = 0; i < std::size(words); ++i) store_u32(header.data() + 4 * i, words[i]);
    file_.write_at(0, header);
  }
  if (!notes_.documents.empty() && notes_.documents.back() == size_) notes_.documents.pop_back();
  // An old side file must not be found beside the new tokens.
  std::error_code ignored;
  remove(token_side_file(path_), ignored);
  file_.commit();
  write_json_file(token_side_file(path_), {{"format", kFormat},
                                           {"version", 1},
                                           {"tokens", size_},
                                           {"dtype", name_of(width_)},
                                           {"tokenizer_sha256", notes_.tokenizer_sha256},
                                           {"bos", notes_.bos},
                                           {"eos", notes_.eos},
                                           {"unknown", notes_.unknown},
                                           {"documents", notes_.documents}});
}

}  // namespace mullion
