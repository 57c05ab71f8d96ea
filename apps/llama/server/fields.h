// The fields of a JSON object from a client. Each is asked for by its name; what nobody has asked
// for is refused in the end, so that no field is ignored without a word. Errors are ApiError(400)
// with the field's path.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace mullion::server {

class Fields {
 public:
  // `path` stands before the names in errors: "messages[2]."
  explicit Fields(const nlohmann::json& object, std::string path = "");

  // The value; null where the field is absent or JSON's null.
  const nlohmann::json* find(const std::string& name);
  const nlohmann::json& need(const std::string& name);
  std::optional<int64_t> integer(const std::string& name, int64_t low, int64_t high);
  std::optional<double> number(const std::string& name, double low, double high);
  std::optional<bool> boolean(const std::string& name);
  std::optional<std::string> text(const std::string& name);
  // A field of OpenAI's API that is not implemented: only a value that asks for nothing may stand.
  void only(const std::string& name, const std::vector<nlohmann::json>& values);
  // One that changes no answer by its nature (who asks, tags): text or an object.
  void unused(const std::string& name);
  // Refuses what has not been asked for.
  void finish() const;

  std::string path(const std::string& name) const { return path_ + name; }

 private:
  const nlohmann::json& object_;
  std::string path_;
  std::set<std::string> known_;
};

// "an integer", "a list", ...: what a value is, with the value where it is short.
std::string describe(const nlohmann::json& value);

}  // namespace mullion::server
