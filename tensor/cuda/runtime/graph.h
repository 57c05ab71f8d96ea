// What others ask of the recording of steps (graph.cu).
#pragma once

namespace mullion::cuda {

// Whether this thread records a step.
bool is_recording();

}  // namespace mullion::cuda
