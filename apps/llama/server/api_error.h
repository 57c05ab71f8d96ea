// An answer that is an error, in the form of OpenAI's API.
#pragma once
#include <stdexcept>
#include <string>

namespace mullion::server {

struct ApiError : std::runtime_error {
  // `param`: the field that is wrong, "messages[2].role"; `code`: a word for programs. Both may be
  // empty.
  ApiError(int http_status, const std::string& message, std::string field = "",
           std::string word = "")
      : std::runtime_error(message),
        status(http_status),
        param(std::move(field)),
        code(std::move(word)) {}
  // {"error": {"message", "type", "param", "code"}}
  std::string json() const;
  int status;
  std::string param, code;
};

}  // namespace mullion::server
