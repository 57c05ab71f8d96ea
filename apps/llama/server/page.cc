// The bytes that CMake has made of page.html.
#include "apps/llama/server/page.h"

namespace mullion::server {

const std::string& page() {
  static const std::string text =
#include "server_page.inc"
      ;
  return text;
}

}  // namespace mullion::server
