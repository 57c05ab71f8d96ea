// Clocks of streams joined; a use must know of all that may clash with it.
#include "tensor/simt/stream_order.h"

#include <algorithm>

#include "tensor/simt/engine.h"

namespace mullion::simt {
namespace {

void put(std::vector<Moment>& moments, const Moment& now) {
  const auto same = std::find_if(moments.begin(), moments.end(),
                                 [&](const Moment& m) { return m.stream == now.stream; });
  if (same == moments.end())
    moments.push_back(now);
  else
    *same = now;
}

}  // namespace

void join(Clock& clock, const Clock& other) {
  for (const auto& [stream, piece] : other) {
    uint64_t& mine = clock[stream];
    mine = std::max(mine, piece);
  }
}

void History::check(const std::vector<Moment>& earlier, const Moment& now, const Clock& known,
                    const std::string& does, const std::string& memory) const {
  for (const Moment& m : earlier)
    if (m.stream != now.stream && !m.is_before(known))
      report(concat(now.what, " ", does, " ", memory, ", which ", m.what,
                    " uses on another stream, with no event between"));
}

void History::use(const Use& use, const Moment& now, const Clock& known,
                  const std::string& memory) {
  if (now.device != device_ && !use.is_copy)
    report(concat(now.what, " on device ", now.device, " uses ", memory, " of device ", device_));
  if (!frees_.empty())
    report(concat(now.what, " uses ", memory, ", which was freed by ", frees_.front().what));
  check(writes_, now, known, "uses", memory);
  if (use.may_write) check(reads_, now, known, "uses", memory);
  put(use.may_write ? writes_ : reads_, now);
}

void History::free(const Moment& now, const Clock& known, const std::string& memory) {
  if (!frees_.empty()) report(concat(now.what, " of ", memory, ": it was freed before"));
  check(writes_, now, known, "of", memory);
  check(reads_, now, known, "of", memory);
  frees_ = {now};
}

}  // namespace mullion::simt
