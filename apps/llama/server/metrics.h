// What the server has done, for GET /metrics in Prometheus' text format.
#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace mullion::server {

struct Metrics {
  std::atomic<int64_t> prompt_tokens{0}, reused_tokens{0}, generated_tokens{0};
  std::atomic<int64_t> steps{0};        // of decoding
  std::atomic<int64_t> step_rows{0};    // sequences in them, summed
  std::atomic<int64_t> busy_micros{0};  // in which the model computed
  std::atomic<int64_t> waiting{0}, running{0}, slots{0};
  std::atomic<int64_t> cache_tokens{0}, cache_bytes{0};  // held by all slots
  std::atomic<int64_t> cancelled{0};                     // choices whose client left

  void count_request(const std::string& path, int status);
  std::string text() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, int64_t> requests_;
};

}  // namespace mullion::server
