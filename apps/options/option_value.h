// Values of options: their kinds, how they are read from text and written as TOML, and the limits
// that an option puts on them. Errors are Error(usage) and name the option, the value, the limits.
#pragma once
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace mullion {

// monostate: an option without a default that nobody set.
using OptionValue =
    std::variant<std::monostate, bool, int64_t, double, std::string, std::vector<int64_t>,
                 std::vector<double>, std::vector<std::string>>;

enum class OptionKind { boolean = 1, integer, real, text, integers, reals, texts };

// Integers without a range of their own end here: a count beyond it is a mistake, and sums of such
// fit in 64 bits. Products are to be checked (checked_product).
constexpr double kMostInteger = 1e15;

// What a value has to satisfy. Integers are refused below 0 unless a range says otherwise.
struct OptionLimits {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices;  // of a text, or of each element of a list; empty: any
  bool indexed = false;              // a choice may be followed by a number: "cuda:1"
  bool repeats = false;              // of a list: an element may be there again
  bool paths = false;                // of texts: two that mean the same place are the same
};

std::string kind_name(OptionKind kind);  // "integer", "list of text"
bool is_list(OptionKind kind);
// "in [1, 64]", "at least 0", "one of a, b", or ""
std::string limits_text(OptionKind kind, const OptionLimits& limits);

// `name` is the flag or key for the error. Lists take one text a element; texts with commas count
// as several elements.
OptionValue parse_option(OptionKind kind, const std::vector<std::string>& texts,
                         const std::string& name);
// a * b where it fits in 64 bits; else Error(usage) with both factors and what they are, e.g.
// "--batch-size x --grad-accum-steps".
int64_t checked_product(int64_t a, int64_t b, const std::string& what);
// Error(usage) where the value is not within them. One of the choices gets their spelling: letters
// may be large or small.
void check_limits(OptionValue& value, const OptionLimits& limits, const std::string& name);
std::string toml_text(const OptionValue& value);

}  // namespace mullion
