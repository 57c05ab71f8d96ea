// A number and a unit; the product is checked against 64 bits.
#include "apps/options/byte_size.h"

#include <charconv>
#include <cmath>

#include "tensor/check.h"

namespace mullion {

namespace {
struct Unit {
  const char* name;
  double bytes;
};
constexpr Unit kUnits[] = {{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1}};
}  // namespace

uint64_t parse_bytes(const std::string& text, const std::string& flag, double low, double high) {
  double number = 0, scale = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  for (const Unit& unit : kUnits)
    if (std::string(end, text.data() + text.size()) == unit.name) scale = unit.bytes;
  const double bytes = number * scale;
  CHECK_AS(Fault::usage, error == std::errc() && scale > 0 && bytes >= low && bytes <= high, flag,
           ": ", text, ", expected a number and its unit, e.g. 1GB, 256MB or 20kB, from ",
           bytes_text(low), " to ", bytes_text(high));
  return static_cast<uint64_t>(std::llround(bytes));
}

std::string bytes_text(double bytes) {
  for (const Unit& unit : kUnits)
    if (bytes >= unit.bytes) return concat(bytes / unit.bytes, unit.name);
  return "0B";
}

}  // namespace mullion
