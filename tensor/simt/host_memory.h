// Memory of the host as the emulated device sees it: pinned blocks, which a device may read, and
// the rest, which it may not.
#pragma once
#include <cstddef>

namespace mullion::simt {

void* pinned_allocate(size_t bytes);
void pinned_free(void* pointer);  // reports a pointer that is none of ours
bool is_pinned(const void* pointer);

}  // namespace mullion::simt
