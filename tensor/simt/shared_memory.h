// Shared memory of the block that runs: variables between guard zones, and the dynamic part, which
// ends (to 128 bytes) at an inaccessible page.
#pragma once
#include <cstddef>
#include <string>

namespace mullion::simt {

// For a new block: all poison. `limit`: what its device has for a block, static and dynamic.
void begin_shared_memory(size_t dynamic_bytes, size_t limit);
std::string damaged_shared_memory();  // empty where the zones are intact
bool is_shared(const void* address, size_t bytes);
// What an address is, for a message: shared memory, device memory, or neither.
std::string describe_address(const void* address);

}  // namespace mullion::simt
