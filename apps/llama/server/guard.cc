// Host, key, method and length, one function each; the first that refuses decides the answer.
#include "apps/llama/server/guard.h"

#include <algorithm>

#include "apps/llama/server/place.h"
#include "data/utf8.h"
#include "tensor/check.h"

namespace mullion::server {

namespace {
// Takes as long wherever the two differ.
bool same_secret(const std::string& a, const std::string& b) {
  unsigned differ = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size(); ++i)
    differ |= static_cast<unsigned char>(a[i]) ^
              static_cast<unsigned char>(b.empty() ? 0 : b[i % b.size()]);
  return differ == 0;
}

// The key of "Bearer KEY", whose first word may be in any case (RFC 9110, 11.1); "" of another.
std::string bearer_key(const std::string& authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (ascii_lower(authorization.substr(0, kScheme.size())) != kScheme) return "";
  return authorization.substr(
      std::min(authorization.find_first_not_of(' ', kScheme.size()), authorization.size()));
}

// Why the length of a body cannot be known; "" where it can. Two readers of one connection that
// count differently would take a part of a body for a request.
std::string odd_length(const httplib::Request& request) {
  const size_t lengths = request.get_header_value_count("Content-Length");
  if (lengths == 0) return "";
  const std::string length = request.get_header_value("Content-Length");
  if (lengths > 1) return "Content-Length: is given more than once";
  if (request.has_header("Transfer-Encoding"))
    return "Content-Length: not together with Transfer-Encoding";
  if (length.empty() || length.size() > 18 || length.find_first_not_of("0123456789") != length.npos)
    return concat("Content-Length: '", length.substr(0, 100), "' is no number of bytes");
  return "";
}

// "localhost" of "localhost:8000", "::1" of "[::1]:8000".
std::string without_port(const std::string& host) {
  if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
  return host.substr(0, host.find(':'));
}

// On the loopback interface only names of it: a page of another site whose name was made to point
// here (DNS rebinding) has another one.
bool is_allowed_host(const httplib::Request& request, const std::string& served) {
  const std::string host = without_port(request.get_header_value("Host"));
  return !is_loopback(served) || host.empty() || is_loopback(host) || host == served;
}

}  // namespace

const char* method_of(const std::string& path) {
  if (path == "/v1/completions" || path == "/v1/chat/completions") return "POST";
  for (const char* known : {"/", "/health", "/metrics", "/v1/models"})
    if (path == known) return "GET";
  return nullptr;
}

std::optional<ApiError> refusal(const httplib::Request& request, const std::string& served,
                                const std::string& api_key, bool stopping) {
  const std::string& path = request.path;
  if (const std::string odd = odd_length(request); !odd.empty())
    return ApiError(400, odd, "Content-Length", "bad_length");
  const char* method = method_of(path);
  if (!method) return ApiError(404, concat("no such path: ", path.substr(0, 200)), "", "not_found");
  if (request.method != method && !(request.method == "HEAD" && std::string(method) == "GET"))
    return ApiError(405, concat(path, ": ", request.method, " is not allowed, ", method, " is"), "",
                    "method_not_allowed");
  if (!is_allowed_host(request, served))
    return ApiError(403, "Host: not a name of this machine's loopback interface", "Host",
                    "forbidden_host");
  const std::string origin = request.get_header_value("Origin");
  if (!origin.empty() && origin.substr(origin.find("//") + 2) != request.get_header_value("Host"))
    return ApiError(403, "Origin: pages of other sites may not call this server", "Origin",
                    "forbidden_origin");
  if (path == "/" || path == "/health") return std::nullopt;  // for everybody, to the end
  const std::string given = bearer_key(request.get_header_value("Authorization"));
  if (!api_key.empty() && !same_secret(given, api_key))
    return ApiError(401, "Authorization: the API key is missing or wrong", "", "invalid_api_key");
  if (stopping) return ApiError(503, "the server is stopping", "", "stopping");
  return std::nullopt;
}

}  // namespace mullion::server
