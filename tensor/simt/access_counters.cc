// Lanes' accesses are kept until their warp is together, then counted place by place.
#include "tensor/simt/access_counters.h"

#include <dlfcn.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <unordered_map>
#include <vector>

#include "tensor/simt/device_memory.h"
#include "tensor/simt/engine.h"
#include "tensor/simt/shared_shadow.h"

namespace mullion::simt {

bool counting_accesses = false;

namespace {

constexpr unsigned kWarp = 32, kWarps = 32;
constexpr uintptr_t kBanks = 32, kWord = 4, kSector = 32;
constexpr size_t kWidest = 16;  // bytes that one lane can ask for at once

// An instruction of a warp: what its lanes access.
struct Instruction {
  unsigned lanes = 0;
  uint8_t width = 0;  // bytes of the widest lane
  uintptr_t address[kWarp];
  uint8_t bytes[kWarp];
};

// A place in the code, between two times that the warp is together: turn i is the i-th time that a
// lane comes by.
struct Place {
  Counted what;
  std::vector<Instruction> turns;
  size_t used = 0;
  unsigned times[kWarp] = {};
};

using Places = std::unordered_map<uintptr_t, Place>;  // by place and kind

struct State {
  AccessCounters* counters = nullptr;
  KernelAccesses* kernel = nullptr;
  Places warps[kWarps];
};
State& state() {
  static State* the_state = new State;
  return *the_state;
}

// Distinct words of the busiest bank.
int64_t passes(const uintptr_t* words, size_t count) {
  unsigned of_bank[kBanks] = {};
  unsigned most = 0;
  for (size_t i = 0; i < count; ++i) {
    if (std::find(words, words + i, words[i]) != words + i) continue;
    most = std::max(most, ++of_bank[words[i] % kBanks]);
  }
  return most;
}

AccessCount passes_of(const Instruction& in) {
  const unsigned together = in.width <= 4 ? 32 : in.width <= 8 ? 16 : 8;
  AccessCount count{1, 0, 0};
  for (unsigned first = 0; first < kWarp; first += together) {
    uintptr_t words[2 * kWarp];
    size_t n = 0;
    for (unsigned lane = first; lane < first + together; ++lane) {
      if (!(in.lanes >> lane & 1)) continue;
      const uintptr_t last = (in.address[lane] + in.bytes[lane] - 1) / kWord;
      for (uintptr_t word = in.address[lane] / kWord; word <= last && n < 2 * kWarp; ++word)
        words[n++] = word;
    }
    if (n == 0) continue;
    count.taken += passes(words, n);
    count.least += 1;
  }
  return count;
}

AccessCount sectors_of(const Instruction& in) {
  std::pair<uintptr_t, uintptr_t> ranges[kWarp];
  size_t n = 0;
  for (unsigned rest = in.lanes; rest; rest &= rest - 1) {
    const auto lane = static_cast<unsigned>(std::countr_zero(rest));
    ranges[n++] = {in.address[lane], in.address[lane] + in.bytes[lane]};
  }
  std::sort(ranges, ranges + n);
  uintptr_t end = 0, bytes = 0, last_sector = 0, sectors = 0;
  for (size_t i = 0; i < n; ++i) {
    const auto [first, past] = ranges[i];
    if (past <= end) continue;
    bytes += past - std::max(first, end);
    end = past;
    // Numbered from 1, so that none is the 0 before the first.
    const uintptr_t from = std::max(first / kSector + 1, last_sector + 1),
                    to = (past - 1) / kSector + 1;
    if (to >= from) sectors += to - from + 1;
    last_sector = std::max(last_sector, to);
  }
  return {1, static_cast<int64_t>(sectors), static_cast<int64_t>((bytes + kSector - 1) / kSector)};
}

uintptr_t key_of(const void* place, Counted what, size_t part) {
  return reinterpret_cast<uintptr_t>(place) << 8 | part << 2 | static_cast<uintptr_t>(what);
}
// Parts of one wide access are one place to the reader.
uintptr_t place_of_key(uintptr_t key) { return key >> 8; }

void add_lane(uintptr_t key, Counted what, uintptr_t address, size_t bytes) {
  const unsigned lane = threadIdx.x % kWarp;
  Place& place = state().warps[threadIdx.x / kWarp].try_emplace(key, Place{what, {}}).first->second;
  const size_t turn = place.times[lane]++;
  if (turn == place.used) {
    if (place.used == place.turns.size()) place.turns.emplace_back();
    place.turns[place.used].lanes = 0;
    place.turns[place.used++].width = 0;
  }
  Instruction& in = place.turns[turn];
  in.lanes |= 1u << lane;
  in.width = std::max(in.width, static_cast<uint8_t>(bytes));
  in.address[lane] = address;
  in.bytes[lane] = static_cast<uint8_t>(bytes);
}

std::string counted(const AccessCount& c) {
  if (c.instructions == 0) return "|  |  |";
  char text[96];
  std::snprintf(text, sizeof text, "| %lld | %lld / %lld = %.2f |",
                static_cast<long long>(c.instructions), static_cast<long long>(c.taken),
                static_cast<long long>(c.least),
                static_cast<double>(c.taken) / static_cast<double>(c.least));
  return text;
}

// What the environment asks for, until the end of the program.
struct OfEnvironment {
  AccessCounters* counters = nullptr;
  bool places = false;
  OfEnvironment() {
    const char* text = std::getenv("MULLION_SIMT_COUNTERS");
    const std::string value = text ? text : "0";
    CHECK(value == "0" || value == "1" || value == "places",
          "MULLION_SIMT_COUNTERS is 0, 1 or places, not ", value);
    places = value == "places";
    if (value != "0") counters = new AccessCounters;
  }
  ~OfEnvironment() {
    if (!counters) return;
    std::fputs(table_of_accesses(counters->kernels()).c_str(), stderr);
    if (!places) return;
    for (const auto& [name, kernel] : counters->kernels())
      if (const std::string lines = places_of_accesses(kernel, 20); !lines.empty())
        std::fprintf(stderr, "\n%s\n%s", name.c_str(), lines.c_str());
  }
};
const OfEnvironment of_environment;

}  // namespace

void AccessCount::add(const AccessCount& other) {
  instructions += other.instructions;
  taken += other.taken;
  least += other.least;
}

AccessCount KernelAccesses::total(Counted what) const {
  AccessCount sum;
  for (const auto& [place, count] : places[static_cast<size_t>(what)]) sum.add(count);
  return sum;
}

AccessCounters::AccessCounters() : before_(state().counters) {
  state().counters = this;
  counting_accesses = true;
}
AccessCounters::~AccessCounters() {
  state().counters = before_;
  counting_accesses = before_ != nullptr;
}
KernelAccesses AccessCounters::of(const std::string& kernel) const {
  const auto found = kernels_.find(kernel);
  return found == kernels_.end() ? KernelAccesses{} : found->second;
}

std::string table_of_accesses(const std::map<std::string, KernelAccesses>& kernels) {
  std::string text =
      "| kernel | launches | shared reads | passes / least | shared writes | passes / least "
      "| global reads | sectors / least | global writes | sectors / least |\n"
      "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
  for (const auto& [name, kernel] : kernels) {
    text += concat("| `", name, "` | ", kernel.launches, " ");
    for (const Counted what : {Counted::shared_read, Counted::shared_write, Counted::global_read,
                               Counted::global_write}) {
      std::string cells = counted(kernel.total(what));
      if (what != Counted::global_write) cells.pop_back();
      text += cells;
    }
    text += "\n";
  }
  return text;
}

std::string places_of_accesses(const KernelAccesses& kernel, size_t at_most) {
  constexpr const char* kNames[] = {"shared reads", "shared writes", "global reads",
                                    "global writes"};
  std::vector<std::pair<int64_t, std::string>> lines;
  for (size_t what = 0; what < 4; ++what) {
    for (const auto& [place, count] : kernel.places[what]) {
      if (count.taken == count.least) continue;
      Dl_info info{};
      dladdr(reinterpret_cast<const void*>(place), &info);
      char where[32];
      // The call itself lies before the place that it returns to.
      std::snprintf(where, sizeof where, "%#zx",
                    static_cast<size_t>(place - 1 - reinterpret_cast<uintptr_t>(info.dli_fbase)));
      lines.emplace_back(
          count.least - count.taken,
          concat("  ", info.dli_fname ? info.dli_fname : "?", " ", where, ": ", count.instructions,
                 " ", kNames[what], ", ", count.taken, " instead of ", count.least, "\n"));
    }
  }
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (size_t i = 0; i < lines.size() && i < at_most; ++i) text += lines[i].second;
  return text;
}

void count_launch(const char* kernel) {
  state().kernel = &state().counters->at(kernel);
  ++state().kernel->launches;
  for (Places& places : state().warps) places.clear();  // of a grid that was given up
}

void count_access(const void* place, const void* address, size_t bytes, bool writes) {
  auto first = reinterpret_cast<uintptr_t>(address);
  const bool shared = shared_span.holds(address);
  // The place within its allocation, which begins at a multiple of 256 on a device.
  if (!shared && !place_on_device(address, first)) return;
  const Counted what = shared ? (writes ? Counted::shared_write : Counted::shared_read)
                              : (writes ? Counted::global_write : Counted::global_read);
  // What is wider than any instruction is several, as wide as they may be where it lies.
  for (size_t part = 0; bytes > 0; ++part) {
    const size_t width =
        std::min({kWidest, size_t{1} << std::countr_zero(first | kWidest), std::bit_floor(bytes)});
    add_lane(key_of(place, what, part % 64), what, first, width);
    first += width, bytes -= width;
  }
}

void count_matrix(const void* place, const void* const (&rows)[8]) {
  uintptr_t words[kWarp];
  for (size_t row = 0; row < 8; ++row)
    for (size_t i = 0; i < 4; ++i)
      words[4 * row + i] = reinterpret_cast<uintptr_t>(rows[row]) / kWord + i;
  state()
      .kernel->places[static_cast<size_t>(Counted::shared_read)][reinterpret_cast<uintptr_t>(place)]
      .add({1, passes(words, kWarp), 1});
}

void count_warp(unsigned warp) {
  State& s = state();
  for (auto& [key, place] : s.warps[warp]) {
    if (place.used == 0) continue;
    const bool shared = place.what == Counted::shared_read || place.what == Counted::shared_write;
    AccessCount& count = s.kernel->places[static_cast<size_t>(place.what)][place_of_key(key)];
    for (size_t turn = 0; turn < place.used; ++turn)
      count.add(shared ? passes_of(place.turns[turn]) : sectors_of(place.turns[turn]));
    place.used = 0;
    std::fill(std::begin(place.times), std::end(place.times), 0u);
  }
}

void count_block() {
  for (unsigned warp = 0; warp < kWarps; ++warp) count_warp(warp);
}

}  // namespace mullion::simt
