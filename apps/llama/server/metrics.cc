// Counters behind one lock, and their text.
#include "apps/llama/server/metrics.h"

#include <sstream>

namespace mullion::server {

void Metrics::count_request(const std::string& path, int status) {
  const std::lock_guard lock(mutex_);
  ++requests_[{path, status}];
}

std::string Metrics::text() const {
  std::ostringstream out;
  const auto one = [&](const char* name, const char* kind, const char* help, const auto& value) {
    out << "# HELP mullion_" << name << ' ' << help << "\n# TYPE mullion_" << name << ' ' << kind
        << "\nmullion_" << name << ' ' << value << '\n';
  };
  out << "# HELP mullion_requests_total Requests answered.\n# TYPE mullion_requests_total "
         "counter\n";
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, count] : requests_)
      out << "mullion_requests_total{path=\"" << key.first << "\",status=\"" << key.second << "\"} "
          << count << '\n';
  }
  one("prompt_tokens_total", "counter", "Tokens of prompts, those reused included.",
      prompt_tokens.load());
  one("reused_tokens_total", "counter", "Tokens of prompts that a cache held already.",
      reused_tokens.load());
  one("generated_tokens_total", "counter", "Tokens generated.", generated_tokens.load());
  one("decode_steps_total", "counter", "Steps of decoding.", steps.load());
  one("decode_rows_total", "counter", "Sequences in those steps, summed.", step_rows.load());
  one("compute_seconds_total", "counter", "Time in which the model computed.",
      static_cast<double>(busy_micros.load()) * 1e-6);
  one("cancelled_total", "counter", "Choices whose client left or whose time was over.",
      cancelled.load());
  one("requests_waiting", "gauge", "Choices in the queue.", waiting.load());
  one("requests_running", "gauge", "Choices in slots.", running.load());
  one("slots", "gauge", "Choices that run together at most.", slots.load());
  one("cache_tokens", "gauge", "Tokens held by the caches of all slots.", cache_tokens.load());
  one("cache_bytes", "gauge", "Bytes of their keys and values.", cache_bytes.load());
  return out.str();
}

}  // namespace mullion::server
