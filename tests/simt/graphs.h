// Stream capture: what is queued on a capturing stream goes into a graph instead of being run, and
// each launch of the graph runs all of it with the argument bytes of the recording. One capture at
// a time; no events and no other streams within it.
#pragma once
#include "tests/simt/streams.h"

namespace mullion::simt {

// Takes the work and answers true where the stream is captured.
bool capture_work(cudaStream_t stream, const Work& work);
bool is_capturing(cudaStream_t stream);
// A call that a capture does not survive.
cudaError_t break_capture();
// What every call of the runtime begins with: the error that a test has planned, or that of a call
// which a capture forbids (it waits, allocates, or copies at once), or none.
cudaError_t refusal(const char* call);

}  // namespace mullion::simt
