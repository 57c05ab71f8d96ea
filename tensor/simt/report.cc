// What the emulator does with a fault: it gives the grid up and names kernel, block and thread. An
// access to memory that is none comes as a signal; others than the emulator's own go on to whoever
// handled them before.
#include <sys/mman.h>

#include <cstdio>

#include "tensor/simt/device_memory.h"
#include "tensor/simt/engine_state.h"
#include "tensor/simt/shared_memory.h"

namespace mullion::simt {
namespace {

struct sigaction action_before[2];

// A fault of device code ends the grid: the handler leaves its own stack for good by a jump, which
// SA_NODEFER allows.
void on_fault(int signal, siginfo_t* info, void* context) {
  if (open_for_device(info->si_addr)) return;
  Engine& e = engine();
  if (e.running) {
    const auto* address = static_cast<const unsigned char*>(info->si_addr);
    const auto* first = e.stacks;
    if (address >= first && address < first + kMaxThreads * (kStack + e.page))
      report("the stack overflows: an array of this thread is too large");
    report(concat("illegal access to ", describe_address(address)));
  }
  if (is_device_pointer(info->si_addr))
    std::fprintf(stderr, "the host touches device memory: %s\n",
                 describe_address(info->si_addr).c_str());
  const struct sigaction& before = action_before[signal == SIGBUS];
  if (before.sa_flags & SA_SIGINFO) {
    before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
  } else {
    sigaction(signal, &before, nullptr);  // the access is made again, and now it is fatal
  }
}

alignas(16) unsigned char handler_memory[64 << 10];

}  // namespace

std::string block_name() {
  return concat("block (", blockIdx.x, ", ", blockIdx.y, ", ", blockIdx.z, ")");
}

void report(std::string what) {
  Engine& e = engine();
  if (!e.running) throw Finding(what);
  e.running = false;
  e.made = 0;  // the fibers stand somewhere in the middle: they are made anew
  for (Lane& lane : e.lanes) forget_copies(lane);
  e.finding = concat(e.launch.kernel, ": ", block_name(), ", thread ", threadIdx.x, ": ", what);
  leave_grid();
}

void catch_illegal_accesses() {
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &action, &action_before[0]);
  sigaction(SIGBUS, &action, &action_before[1]);
}

HandlerStack::HandlerStack() {
  stack_t stack{};
  stack.ss_sp = handler_memory;
  stack.ss_size = sizeof handler_memory;
  sigaltstack(&stack, &before);
}
HandlerStack::~HandlerStack() { sigaltstack(&before, nullptr); }

}  // namespace mullion::simt
