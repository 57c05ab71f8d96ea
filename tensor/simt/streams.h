// Streams and events. `eager`: work runs when it is asked for. `late`: it waits until something has
// to see its result (a synchronisation, an event waited for), as late as CUDA's rules allow, so
// that a missing synchronisation shows: the host reads poison, or the device what the host wrote
// later.
#pragma once
#include <functional>

#include "tensor/simt/runtime_api.h"
#include "tensor/simt/stream_order.h"

namespace mullion::simt {

using Work = std::function<void()>;
using Ready = std::function<bool()>;

// Asks for work that uses memory of the stream's device; `what` names it in messages.
void enqueue(cudaStream_t stream, const char* what, const Uses& uses, Work work);
// The same for work that begins when `ready` first says true, and holds its stream up until then.
// The host goes on meanwhile, but where it waits for the stream.
void enqueue_when(cudaStream_t stream, const char* what, const Uses& uses, Ready ready, Work work);
// Asks for a pointer to be freed, even where earlier work of the stream has failed.
void enqueue_free(cudaStream_t stream, void* pointer);
// For memory that may be used when the stream comes here.
Moment moment_of(cudaStream_t stream, const char* what);
int device_of(cudaStream_t stream);     // of null: the calling thread's current one
int current_device();                   // of the calling thread
bool is_blocking(cudaStream_t stream);  // waits for the legacy stream, and that for it
void finish(cudaStream_t stream);       // the host waits: runs what is queued, throws its Finding
// What the current device's legacy default stream waits for: itself and all its streams but the
// non-blocking ones.
void finish_blocking_streams();
void finish_all_streams();  // of all devices

}  // namespace mullion::simt
