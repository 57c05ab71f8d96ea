// The page to chat with, as bytes of HTML: apps/llama/server/page.html, compiled in.
#pragma once
#include <string>

namespace mullion::server {
const std::string& page();
}  // namespace mullion::server
