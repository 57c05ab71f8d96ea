// A sweep runs a kernel of the table over all combinations of small sizes and compares every
// element of its outputs with a formula in double. A kernel joins by a row: its slots, the axes of
// its sizes and flags, and a function that makes the argument struct of one combination and states
// the formula. Each combination runs with its arrays ending at an inaccessible page, beginning at
// one, and on two or three threads, with every parallel loop split as finely as it can be.
#pragma once
#include <any>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/kernel_table.h"
#include "tests/sweep/guard_pages.h"

namespace mullion::sweep {

struct Axis {
  const char* name;
  std::vector<int64_t> values;
};
// 1 to 9, and one below, at and above each of the borders.
std::vector<int64_t> small_and_around(std::initializer_list<int64_t> borders = {});

class Case;

struct Row {
  std::string name;
  std::vector<size_t> slots;  // MULLION_SLOT of each
  std::vector<DType> types;
  std::vector<Axis> sizes;  // every combination runs, with every type
  std::function<void(Case&)> run;
  std::vector<Axis> flags = {};  // of these, `flags_each` combinations drawn for each of the above
  int64_t flags_each = 2;        // 0: all
  std::vector<std::vector<int64_t>> more_sizes = {};  // single combinations, such as those around
                                                      // the length of a chunk
};

#define MULLION_SLOT(member) (offsetof(::mullion::KernelTable, member) / sizeof(void (*)()))
constexpr size_t kSlots = sizeof(KernelTable) / sizeof(void (*)());

// The rows of each file *_rows.cc, and all of them.
std::vector<Row> elementwise_rows();
std::vector<Row> copy_rows();
std::vector<Row> product_rows();
std::vector<Row> block_rows();
std::vector<Row> row_rows();
std::vector<Row> attention_rows();
std::vector<Row> map_rows();
std::vector<Row> msa_conv_rows();
std::vector<Row> optimizer_rows();
std::vector<Row> all_rows();

// An array that a kernel is given. Elements of an output that are not expected to get a value must
// keep what they had: what lies between rows is not touched.
class Array {
 public:
  // The pointer for the argument struct.
  template <typename T>
  operator T*() const {  // NOLINT: an argument struct takes it as it is
    return reinterpret_cast<T*>(data_);
  }
  int64_t size() const { return static_cast<int64_t>(values_.size()); }
  // An element before the call.
  double operator[](int64_t i) const { return values_[static_cast<size_t>(i)]; }
  // What it must be after it, to the type's tolerance times 1 + |value| + magnitude, where the
  // magnitude is that of what was summed.
  void expect(int64_t i, double value, double magnitude = 0);

 private:
  friend class Case;
  std::string name_;
  DType type_ = DType::f32;
  bool is_output_ = false, is_absent_ = false, is_scratch_ = false;
  std::byte* data_ = nullptr;
  std::vector<double> values_, expected_, magnitude_;
  std::vector<bool> is_expected_;
  std::vector<std::byte> before_, first_;  // the bytes before the call; after the first setting's
};

// What came out of a sweep.
struct Report {
  int64_t runs = 0, failed = 0;
  std::vector<std::string> messages;  // the first few
  std::vector<bool> called = std::vector<bool>(kSlots);
};

class Case {
 public:
  Case(const Row& row, const KernelTable& table, Report& report);

  // A size or a flag of this combination.
  int64_t operator[](const char* axis) const;
  DType type() const { return type_; }
  double uniform(int64_t i) const;  // in [0, 1): another number for each i
  std::vector<int64_t> indices(int64_t count, int64_t bound) const;  // in [0, bound)

  // Arrays of random values in [low, high); outputs are filled with NaN (0xff) before the call.
  Array& in(const char* name, int64_t n, double low = -1, double high = 1) {
    return in(name, type_, n, low, high);
  }
  Array& in(const char* name, DType type, int64_t n, double low = -1, double high = 1);
  Array& in(const char* name, const std::vector<int64_t>& values);
  // Given values, as the type rounds them.
  Array& in(const char* name, const std::vector<double>& values) { return in(name, type_, values); }
  Array& in(const char* name, DType type, const std::vector<double>& values);
  Array& doubles(const char* name, const std::vector<double>& values) {
    return in(name, DType::f64, values);
  }
  Array& out(const char* name, int64_t n) { return out(name, type_, n); }
  Array& out(const char* name, DType type, int64_t n);
  // An output that the kernel may be given or not: where it is not wanted its pointer is null, and
  // nothing is expected of it.
  Array& out_if(bool is_wanted, const char* name, int64_t n) {
    return out_if(is_wanted, name, type_, n);
  }
  Array& out_if(bool is_wanted, const char* name, DType type, int64_t n);
  Array& in_if(bool is_wanted, const char* name, int64_t n);
  // Memory that a kernel may leave anything in.
  Array& scratch(const char* name, int64_t bytes);
  Array& in_out(const char* name, int64_t n, double low = -1, double high = 1) {
    return in_out(name, type_, n, low, high);
  }
  Array& in_out(const char* name, DType type, int64_t n, double low = -1, double high = 1);

  template <typename F, typename Args>
  void call(F KernelTable::*slot, const Args& args) {
    run_kernel(table_.*slot, &(table_.*slot), [&](auto kernel) { kernel(args); });
  }
  template <typename F, size_t N, typename Args>
  void call(F (KernelTable::*slots)[N], int64_t index, const Args& args) {
    const F* slot = (table_.*slots) + index;
    run_kernel(*slot, slot, [&](auto kernel) { kernel(args); });
  }
  // For what asks how much scratch a kernel needs.
  template <typename F, typename Args>
  size_t ask(F KernelTable::*slot, const Args& args) {
    size_t result = 0;
    run_kernel(table_.*slot, &(table_.*slot), [&](auto kernel) { result = kernel(args); });
    return result;
  }
  // States the formula; evaluated once for all settings of a combination.
  template <typename F>
  void expect(F formula) {
    if (setting_ == 0) formula();
  }
  // What `make` gives, made once for all settings of a combination: a reference that inputs of the
  // kernel come from as well.
  template <typename R, typename F>
  const R& keep(F make) {
    if (setting_ == 0) kept_ = R(make());
    return std::any_cast<const R&>(kept_);
  }
  // Widens the tolerance, for kernels that sum much or approximate a function.
  double tolerance_factor = 1;

  void run_all();  // every combination
  std::string describe() const;
  // The array whose neighbourhood an address lies in, for the message of a fault.
  std::string near(const void* address) const;

 private:
  static constexpr int kSettings = 3;

  template <typename Kernel, typename F>
  void run_kernel(Kernel kernel, const void* slot, F f) {
    note_call(slot);
    f(kernel);
  }
  void note_call(const void* slot);
  void run_combination(const std::vector<int64_t>& sizes);
  void run_settings();
  Array& next_array(const char* name, DType type, int64_t n, bool is_output);
  Array& absent(const char* name);
  void place(Array& array);
  template <typename F>
  void set(Array& array, F value);
  void fill(Array& array, double low, double high);
  void check(Array& array);
  template <typename... Parts>
  void fail(const Parts&... what);

  const Row& row_;
  const KernelTable& table_;
  Report& report_;
  GuardPages memory_;
  std::vector<int64_t> sizes_, flags_;
  DType type_ = DType::f32;
  int setting_ = 0, threads_ = 1;
  uint64_t combination_ = 0;
  Side side_ = Side::ends_at_page;
  std::vector<std::unique_ptr<Array>> arrays_;
  size_t used_ = 0;  // of arrays_, by this combination
  std::any kept_;
};

// Runs a row on a table. A fault at a guard page ends the program, after a line that names the
// array, the side, and the combination.
Report run_row(const Row& row, const KernelTable& table);

}  // namespace mullion::sweep
