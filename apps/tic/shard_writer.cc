// Headers, bytes and padding one after another; the index grows beside them.
#include "apps/tic/shard_writer.h"

#include <span>
#include <utility>

#include "data/tar.h"
#include "tensor/check.h"
#include "tensor/io/file_ops.h"

namespace mullion {

namespace fs = std::filesystem;

ShardWriter::ShardWriter(fs::path shard)
    : shard_(std::move(shard)),
      partial_(shard_.parent_path() / ("." + shard_.filename().string() + ".partial")),
      fd_(create_file(partial_)) {}

ShardWriter::~ShardWriter() {
  if (fd_ < 0) return;
  try {
    close_file(fd_, partial_);
    remove_file(partial_);
  } catch (const Error&) {
    // What is left over is removed by the next run.
  }
}

void ShardWriter::add(const std::string& key, const PackedSample& sample, int64_t label) {
  const auto size = static_cast<uint32_t>(sample.bytes.size());
  const uint64_t at = member(key + "." + sample.extension, sample.bytes.data(), size);
  const std::string number = std::to_string(label);
  member(key + ".cls", number.data(), number.size());
  member(key + ".json", sample.json.data(), sample.json.size());
  index_.samples.push_back({key, at, size, static_cast<int32_t>(label)});
}

void ShardWriter::finish() {
  const std::string end(1024, '\0');
  append(end.data(), end.size());
  sync_file(fd_, partial_);
  const int fd = std::exchange(fd_, -1);
  close_file(fd, partial_);
  index_.modified = shard_modified(partial_);  // which a rename leaves as it is
  write_shard_index(shard_, index_);
  rename_over(partial_, shard_);
  sync_folder(shard_.parent_path());
}

uint64_t ShardWriter::member(const std::string& name, const void* bytes, size_t size) {
  const std::string header = tar_header(name, size), padding(tar_padding(size), '\0');
  append(header.data(), header.size());
  const uint64_t at = index_.bytes;
  append(bytes, size);
  append(padding.data(), padding.size());
  return at;
}

void ShardWriter::append(const void* bytes, size_t size) {
  write_file(fd_, partial_, index_.bytes, {static_cast<const std::byte*>(bytes), size});
  index_.bytes += size;
}

}  // namespace mullion
