// Streams and events. `eager`: work runs when it is asked for. `late`: it waits until something has
// to see its result (a synchronisation, an event waited for), as late as CUDA's rules allow, so
// that a missing synchronisation shows: the host reads poison, or the device what the host wrote
// later.
#pragma once
#include <functional>

#include "tests/simt/runtime_api.h"

namespace mullion::simt {

using Work = std::function<void()>;

// `is_free`: done even where earlier work of the stream has failed.
void enqueue(cudaStream_t stream, Work work, bool is_free = false);
int device_of(cudaStream_t stream);  // of null: the calling thread's current one
int current_device();                // of the calling thread
void finish(cudaStream_t stream);    // runs what is queued; throws its Finding
// What the current device's legacy default stream waits for: itself and all its streams but the
// non-blocking ones.
void finish_blocking_streams();
void finish_all_streams();  // of all devices

}  // namespace mullion::simt
