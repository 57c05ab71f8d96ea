// libFuzzer harness of the bodies that chat_llama serve reads. What is accepted keeps the bounds
// that the scheduler relies on; all else is refused with status 400.
#include "apps/llama/server/api_error.h"
#include "apps/llama/server/request.h"

namespace {
using namespace mullion;

void expect(bool holds) {
  if (!holds) __builtin_trap();
}

void common(const server::Wanted& wanted) {
  const Sampler sampler(wanted.sampling);  // throws where it is out of bounds
  expect(wanted.n >= 1 && wanted.n <= 128 && wanted.stops.size() <= 4);
  expect(wanted.top >= -1 && wanted.top <= 20);
  expect(wanted.max_tokens.value_or(1) >= 0);
  for (const std::string& stop : wanted.stops) expect(!stop.empty());
}

template <typename Call>
void unless_refused(const Call& call) {
  try {
    call();
  } catch (const server::ApiError& error) {
    expect(error.status == 400 && !error.json().empty());
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  unless_refused([&] {
    const server::CompletionRequest request = server::parse_completion(body);
    common(request);
    expect(!request.prompts.empty());
    for (const server::Prompt& prompt : request.prompts)
      for (const int32_t id : prompt.ids) expect(id >= 0);
  });
  unless_refused([&] {
    const server::ChatRequest request = server::parse_chat(body);
    common(request);
    expect(!request.turns.empty() && request.turns.back().role == Role::user);
  });
  return 0;
}
