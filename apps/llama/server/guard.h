// What is asked of a request before its body is read.
#pragma once
#include <httplib.h>

#include <optional>
#include <string>

#include "apps/llama/server/api_error.h"

namespace mullion::server {

// The method of a path that the server has, and nullptr of another.
const char* method_of(const std::string& path);

// Why a request to the server of the address `served` is refused: for its length, path or method,
// for the page of another site that makes it, for its key ("": none is asked for), or because the
// server is stopping. None: it may pass.
std::optional<ApiError> refusal(const httplib::Request& request, const std::string& served,
                                const std::string& api_key, bool stopping);

}  // namespace mullion::server
