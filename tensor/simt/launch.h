// A launch in the emulator: the arguments are copied, as CUDA does, and each thread calls the
// kernel with them.
#pragma once
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tensor/simt/engine.h"
#include "tensor/simt/fault_plan.h"
#include "tensor/simt/streams.h"

namespace mullion::simt {

// Reports an argument that holds an address of the host's memory, which a device cannot read, and
// adds the device's to `uses`; a struct is searched for such addresses.
void check_argument(const char* kernel, int number, const void* argument, size_t bytes,
                    bool may_write, Uses& uses);

template <typename... Params, typename... Args>
void launch(const char* name, void (*kernel)(Params...), int64_t grid_x, int64_t grid_y,
            int64_t grid_z, int threads, size_t shared_bytes, cudaStream_t stream, Args&&... args) {
  static_assert((std::is_trivially_copyable_v<Params> && ...), "arguments are copied by bytes");
  using Bound = std::pair<void (*)(Params...), std::tuple<Params...>>;
  if (launch_fails(stream)) return;
  // On the heap: where a closure on the stack held the arguments, GCC 12 with
  // -ftrivial-auto-var-init cleared bytes of theirs that it took for padding.
  const auto bound = std::make_shared<const Bound>(
      kernel, std::tuple<Params...>(static_cast<Params>(std::forward<Args>(args))...));
  Uses uses;
  std::apply(
      [&](auto... copy) {
        int number = 0;
        // What lies in the gaps of a struct is nobody's address.
        (__builtin_clear_padding(&copy), ...);
        (check_argument(name, ++number, &copy, sizeof copy,
                        !std::is_const_v<std::remove_pointer_t<decltype(copy)>>, uses),
         ...);
      },
      bound->second);
  enqueue(stream, name, uses, [=, device = device_of(stream)] {
    const auto body = [](const void* arguments) {
      const auto& [function, values] = *static_cast<const Bound*>(arguments);
      std::apply(function, values);
    };
    run({name, reinterpret_cast<const void*>(bound->first), device, grid_x, grid_y, grid_z, threads,
         shared_bytes, body, bound.get()});
  });
}

}  // namespace mullion::simt
