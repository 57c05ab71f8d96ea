// The loop over combinations, arrays at inaccessible pages, comparisons and the texts of faults.
#include "tests/sweep/sweep.h"

#include <signal.h>

#include <algorithm>
#include <cstdio>

#include "tensor/cpu/dispatch.h"
#include "tensor/parallel.h"
#include "tensor/random.h"

namespace mullion::sweep {
namespace {

template <typename T>
constexpr bool is_half = std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

template <typename T>
T to(double value) {
  if constexpr (is_half<T>)
    return T(static_cast<float>(value));
  else if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<int64_t>(value));
  else
    return static_cast<T>(value);
}
template <typename T>
double from(T value) {
  if constexpr (is_half<T>)
    return static_cast<double>(static_cast<float>(value));
  else
    return static_cast<double>(value);
}

double tolerance_of(DType type) {
  switch (type) {
    case DType::f32:
      return 1e-6;
    case DType::f64:
      return 1e-14;
    case DType::bf16:
    case DType::f16:
      return 4e-3;
    default:
      return 0;
  }
}

Case* the_case = nullptr;  // that a fault belongs to
struct sigaction the_old_action;

// Says which array a kernel has left, then lets the fault take its course.
void on_fault(int, siginfo_t* info, void*) {
  ::sigaction(SIGSEGV, &the_old_action, nullptr);
  if (!the_case) return;
  const std::string text =
      "sweep: access " + the_case->near(info->si_addr) + " in " + the_case->describe() + "\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

class FaultHandler {
 public:
  explicit FaultHandler(Case* c) {
    the_case = c;
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGSEGV, &action, &the_old_action);
  }
  FaultHandler(const FaultHandler&) = delete;
  ~FaultHandler() {
    ::sigaction(SIGSEGV, &the_old_action, nullptr);
    the_case = nullptr;
  }
};

// Calls f(values, one of each axis) for every combination.
template <typename F>
void for_combinations(const std::vector<Axis>& axes, F f) {
  std::vector<size_t> at(axes.size());
  std::vector<int64_t> values(axes.size());
  while (true) {
    for (size_t i = 0; i < axes.size(); ++i) values[i] = axes[i].values[at[i]];
    f(values);
    size_t axis = axes.size();
    while (axis > 0 && ++at[axis - 1] == axes[axis - 1].values.size()) at[--axis] = 0;
    if (axis == 0) return;
  }
}

}  // namespace

std::vector<int64_t> small_and_around(std::initializer_list<int64_t> borders) {
  std::vector<int64_t> sizes;
  for (int64_t i = 1; i <= 9; ++i) sizes.push_back(i);
  for (const int64_t border : borders)
    for (const int64_t size : {border - 1, border, border + 1}) sizes.push_back(size);
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

void Array::expect(int64_t i, double value, double magnitude) {
  if (is_absent_) return;
  const auto at = static_cast<size_t>(i);
  expected_.at(at) = value;
  magnitude_[at] = magnitude;
  is_expected_[at] = true;
}

Case::Case(const Row& row, const KernelTable& table, Report& report)
    : row_(row), table_(table), report_(report) {}

int64_t Case::operator[](const char* axis) const {
  const auto find = [&](const std::vector<Axis>& axes, const std::vector<int64_t>& values) {
    for (size_t i = 0; i < axes.size(); ++i)
      if (std::strcmp(axes[i].name, axis) == 0) return &values[i];
    return static_cast<const int64_t*>(nullptr);
  };
  const int64_t* value = find(row_.sizes, sizes_);
  if (!value) value = find(row_.flags, flags_);
  CHECK(value, "sweep: row ", row_.name, " has no axis ", axis);
  return *value;
}

double Case::uniform(int64_t i) const {
  return static_cast<double>(mix_bits(combination_, static_cast<uint64_t>(i)) >> 11) * 0x1p-53;
}

std::vector<int64_t> Case::indices(int64_t count, int64_t bound) const {
  std::vector<int64_t> numbers;
  for (int64_t i = 0; i < count; ++i)
    numbers.push_back(static_cast<int64_t>(uniform(i) * static_cast<double>(bound)));
  return numbers;
}

Array& Case::next_array(const char* name, DType type, int64_t n, bool is_output) {
  if (used_ == arrays_.size()) arrays_.push_back(std::make_unique<Array>());
  Array& a = *arrays_[used_++];
  if (setting_ == 0) {
    a.name_ = name;
    a.type_ = type;
    a.is_output_ = is_output;
    a.is_absent_ = a.is_scratch_ = false;
    a.values_.assign(static_cast<size_t>(n), 0);
    if (is_output) {
      a.expected_.resize(a.values_.size());
      a.magnitude_.resize(a.values_.size());
      a.is_expected_.assign(a.values_.size(), false);
    }
    a.before_.assign(static_cast<size_t>(n * size_of(type)), std::byte{0xff});
  }
  return a;
}

void Case::place(Array& a) {
  a.data_ = memory_.take(a.before_.size(), side_);
  std::copy(a.before_.begin(), a.before_.end(), a.data_);
}

// Sets an input's elements to value(i), rounded.
template <typename F>
void Case::set(Array& a, F value) {
  if (setting_ > 0) return;
  cpu::dispatch_any(a.type_, [&](auto zero) {
    using T = decltype(zero);
    for (size_t i = 0; i < a.values_.size(); ++i) {
      const T rounded = to<T>(value(i));
      a.values_[i] = from(rounded);
      std::memcpy(&a.before_[i * sizeof(T)], &rounded, sizeof(T));
    }
  });
}

void Case::fill(Array& a, double low, double high) {
  const uint64_t seed = mix_bits(combination_, used_);
  set(a, [&](uint64_t i) {
    return low + (high - low) * (static_cast<double>(mix_bits(seed, i) >> 11) * 0x1p-53);
  });
}

Array& Case::in(const char* name, DType type, int64_t n, double low, double high) {
  Array& a = next_array(name, type, n, false);
  fill(a, low, high);
  place(a);
  return a;
}

Array& Case::in(const char* name, const std::vector<int64_t>& values) {
  Array& a = next_array(name, DType::i64, static_cast<int64_t>(values.size()), false);
  set(a, [&](size_t i) { return static_cast<double>(values[i]); });
  place(a);
  return a;
}

Array& Case::in(const char* name, DType type, const std::vector<double>& values) {
  Array& a = next_array(name, type, static_cast<int64_t>(values.size()), false);
  set(a, [&](size_t i) { return values[i]; });
  place(a);
  return a;
}

Array& Case::out(const char* name, DType type, int64_t n) {
  Array& a = next_array(name, type, n, true);
  place(a);
  return a;
}

Array& Case::scratch(const char* name, int64_t bytes) {
  Array& a = next_array(name, DType::u8, bytes, false);
  a.is_scratch_ = true;
  a.before_.assign(static_cast<size_t>(bytes), std::byte{0xff});  // how many depends on the threads
  place(a);
  return a;
}

Array& Case::absent(const char* name) {
  Array& a = next_array(name, type_, 0, false);
  a.is_absent_ = true;
  a.data_ = nullptr;
  return a;
}

Array& Case::out_if(bool is_wanted, const char* name, DType type, int64_t n) {
  return is_wanted ? out(name, type, n) : absent(name);
}

Array& Case::in_if(bool is_wanted, const char* name, int64_t n) {
  return is_wanted ? in(name, n) : absent(name);
}

Array& Case::in_out(const char* name, DType type, int64_t n, double low, double high) {
  Array& a = next_array(name, type, n, true);
  fill(a, low, high);
  place(a);
  return a;
}

void Case::note_call(const void* slot) {
  const auto index = static_cast<size_t>(static_cast<const std::byte*>(slot) -
                                         reinterpret_cast<const std::byte*>(&table_)) /
                     sizeof(void (*)());
  CHECK(std::find(row_.slots.begin(), row_.slots.end(), index) != row_.slots.end(), "sweep: row ",
        row_.name, " calls slot ", index, ", which it does not name");
  report_.called[index] = true;
}

template <typename... Parts>
void Case::fail(const Parts&... what) {
  constexpr size_t kMost = 8;
  ++report_.failed;
  if (report_.messages.size() < kMost)
    report_.messages.push_back(concat(what..., " in ", describe()));
}

void Case::check(Array& a) {
  if (a.is_absent_ || a.before_.empty()) return;
  if (!memory_.is_clean(a.data_)) fail("wrote beside ", a.name_);
  if (a.is_scratch_) return;
  if (!a.is_output_) {
    if (std::memcmp(a.data_, a.before_.data(), a.before_.size()) != 0) fail("changed ", a.name_);
    return;
  }
  const double tolerance = tolerance_of(a.type_) * tolerance_factor;
  cpu::dispatch_any(a.type_, [&](auto zero) {
    using T = decltype(zero);
    for (size_t i = 0; i < a.values_.size(); ++i) {
      if (!a.is_expected_[i]) {
        if (std::memcmp(a.data_ + i * sizeof(T), &a.before_[i * sizeof(T)], sizeof(T)) == 0)
          continue;
        return fail("wrote ", a.name_, "[", i, "], which is no element of the result");
      }
      T value;
      std::memcpy(&value, a.data_ + i * sizeof(T), sizeof(T));
      const double found = from(value), expected = a.expected_[i];
      if (found == expected || (std::isnan(found) && std::isnan(expected))) continue;
      if (std::abs(found - expected) <= tolerance * (1 + std::abs(expected) + a.magnitude_[i]))
        continue;
      return fail(a.name_, "[", i, "] is ", found, " instead of ", expected);
    }
  });
  // On one thread the bits do not depend on where the arrays lie.
  if (setting_ == 0)
    a.first_.assign(a.data_, a.data_ + a.before_.size());
  else if (threads_ == 1 && std::memcmp(a.data_, a.first_.data(), a.first_.size()) != 0)
    fail("other bits in ", a.name_, " where it lies elsewhere");
}

void Case::run_settings() {
  tolerance_factor = 1;
  ++combination_;
  for (setting_ = 0; setting_ < kSettings; ++setting_) {
    const uint64_t drawn = mix_bits(combination_, 1000);
    threads_ = setting_ < 2 ? 1 : drawn & 1 ? 2 : 3;
    side_ = (setting_ < 2 ? setting_ == 0 : (drawn & 2) != 0) ? Side::ends_at_page
                                                              : Side::begins_at_page;
    set_num_threads(threads_);
    used_ = 0;
    ++report_.runs;
    try {
      row_.run(*this);
      for (size_t i = 0; i < used_; ++i) check(*arrays_[i]);
      memory_.free_all();
    } catch (const Error& error) {
      memory_.free_all();
      return fail("threw '", error.what(), "'");
    }
  }
}

void Case::run_combination(const std::vector<int64_t>& sizes) {
  sizes_ = sizes;
  int64_t flags = 1;
  for (const Axis& axis : row_.flags) flags *= static_cast<int64_t>(axis.values.size());
  const auto run = [&](int64_t number) {
    flags_.clear();
    for (const Axis& axis : row_.flags) {
      const auto n = static_cast<int64_t>(axis.values.size());
      flags_.push_back(axis.values[static_cast<size_t>(number % n)]);
      number /= n;
    }
    run_settings();
  };
  if (row_.flags_each == 0 || flags <= row_.flags_each) {
    for (int64_t i = 0; i < flags; ++i) run(i);
    return;
  }
  for (int64_t i = 0; i < row_.flags_each; ++i)
    run(static_cast<int64_t>(mix_bits(combination_, 2000) % static_cast<uint64_t>(flags)));
}

void Case::run_all() {
  const FaultHandler handler(this);
  const int threads_before = num_threads();
  set_finest_split(true);
  for (const DType type : row_.types) {
    type_ = type;
    for_combinations(row_.sizes, [&](const auto& sizes) { run_combination(sizes); });
    for (const auto& sizes : row_.more_sizes) run_combination(sizes);
  }
  set_finest_split(false);
  set_num_threads(threads_before);
}

std::string Case::describe() const {
  std::string text = row_.name;
  for (size_t i = 0; i < sizes_.size(); ++i)
    text += concat(" ", row_.sizes[i].name, " ", sizes_[i]);
  for (size_t i = 0; i < flags_.size(); ++i)
    text += concat(" ", row_.flags[i].name, " ", flags_[i]);
  return concat(text, ", ", name_of(type_), ", ", threads_, " threads, arrays ",
                side_ == Side::ends_at_page ? "end" : "begin", " at a page");
}

std::string Case::near(const void* address) const {
  constexpr std::ptrdiff_t kPage = 4096;
  for (size_t i = 0; i < used_; ++i) {
    const Array& a = *arrays_[i];
    const std::ptrdiff_t from_begin = static_cast<const std::byte*>(address) - a.data_;
    const std::ptrdiff_t from_end = from_begin - static_cast<std::ptrdiff_t>(a.before_.size());
    if (from_begin < 0 && from_begin >= -kPage) return "before the start of " + a.name_;
    if (from_end >= 0 && from_end < kPage) return "past the end of " + a.name_;
  }
  return "to no array";
}

std::vector<Row> all_rows() {
  std::vector<Row> rows;
  for (const auto& some :
       {elementwise_rows(), copy_rows(), product_rows(), block_rows(), row_rows(), attention_rows(),
        map_rows(), msa_conv_rows(), optimizer_rows()})
    rows.insert(rows.end(), some.begin(), some.end());
  return rows;
}

Report run_row(const Row& row, const KernelTable& table) {
  Report report;
  Case(row, table, report).run_all();
  return report;
}

}  // namespace mullion::sweep
