// The address that the server answers at.
#pragma once
#include <memory>
#include <string>

#include "apps/llama/server/connection.h"

namespace mullion::server {

// Whether an address is reached from this machine alone.
bool is_loopback(const std::string& host);

// A port that is taken before the model is opened. Clients that come early wait for their answers.
struct Place {
  std::unique_ptr<BoundedServer> http;
  int port = 0;
};
// `port` 0: a free one. Error(usage) where the address cannot be had, with the reason.
Place take_place(const std::string& host, int port, const ConnectionLimits& limits);

}  // namespace mullion::server
