// Stream capture: what is queued on a capturing stream goes into a graph instead of being run, and
// each launch of the graph runs all of it with the argument bytes of the recording. No events and
// no other streams within it. What other threads may do meanwhile follows the capture's mode, as in
// CUDA; that they queue on its stream is a Finding, since their work would be recorded too.
#pragma once
#include "tensor/simt/streams.h"

namespace mullion::simt {

// Takes the work and answers true where the stream is captured.
bool capture_work(cudaStream_t stream, const char* what, const Uses& uses, const Work& work);
bool is_capturing(cudaStream_t stream);
// A call that the stream's capture does not survive.
cudaError_t break_capture(cudaStream_t stream);
// What every call of the runtime begins with: the error that a test has planned, or that of a call
// which a capture forbids (it waits, allocates, or copies at once), or none. `stream`: where the
// call names one.
cudaError_t refusal(const char* call, const cudaStream_t* stream = nullptr);

}  // namespace mullion::simt
