// A socket that is bound before the model is loaded, so that a port in use costs no waiting.
#include "apps/llama/server/place.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tensor/check.h"

namespace mullion::server {

namespace {
// Why a port cannot be had; bind() of httplib keeps it to itself.
std::string why_not(const std::string& host, int port) {
  addrinfo hints{}, *list = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (code != 0) return ::gai_strerror(code);
  std::string why = "the address cannot be had";
  if (const int s = ::socket(list->ai_family, list->ai_socktype, 0); s >= 0) {
    const int yes = 1;
    ::setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (::bind(s, list->ai_addr, list->ai_addrlen) != 0 || ::listen(s, 1) != 0)
      why = std::strerror(errno);
    ::close(s);
  }
  ::freeaddrinfo(list);
  return why;
}

}  // namespace

bool is_loopback(const std::string& host) {
  in_addr v4{};
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  return host == "localhost" || host.ends_with(".localhost") || host == "::1";
}

Place take_place(const std::string& host, int port, const ConnectionLimits& limits) {
  Place place{std::make_unique<BoundedServer>(limits), port};
  const bool bound = port == 0 ? (place.port = place.http->bind_to_any_port(host)) > 0
                               : place.http->bind_to_port(host, port);
  if (!bound)
    throw Error(concat("--host ", host, " --port ", port, ": ", why_not(host, port)), Fault::usage,
                "another --port, or --port 0 for one that is free");
  place.http->widen_backlog();
  return place;
}

}  // namespace mullion::server
