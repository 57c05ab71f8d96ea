// Which library computes matrix products: a switch for tests and benchmarks.
#pragma once

namespace mullion {

enum class MatmulBackend { automatic, eigen, onednn };

bool has_onednn();  // whether this build has it; automatic then means oneDNN for f32
// Throws Error (Fault::usage) for onednn where this build has none.
void set_matmul_backend(MatmulBackend backend);
MatmulBackend matmul_backend();

}  // namespace mullion
