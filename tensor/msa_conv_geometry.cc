// The rules that a geometry of MSA-Conv must obey, on every device.
#include "tensor/check.h"
#include "tensor/kernel_args/msa_conv.h"

namespace mullion {

void check_msa_conv(const MsaConvGeometry& g) {
  CHECK_AS(Fault::usage, g.batch >= 0 && g.height >= 1 && g.width >= 1, "msa_conv: a map of [",
           g.batch, ", ", g.height, ", ", g.width, "] pixels");
  CHECK_AS(Fault::usage, g.heads >= 1 && g.head_dim >= 1, "msa_conv: ", g.heads, " heads of ",
           g.head_dim, " channels");
  CHECK_AS(Fault::usage, g.kernel_h >= 1 && g.kernel_w >= 1 && g.dilation >= 1, "msa_conv: kernel ",
           g.kernel_h, "x", g.kernel_w, " with dilation ", g.dilation);
  constexpr int64_t kLargest = int64_t{1} << 16;  // keeps every product of sizes below 2^63
  for (int64_t size : {g.height, g.width, g.heads, g.head_dim, g.kernel_h, g.kernel_w, g.dilation,
                       g.pool, g.shift_size})
    CHECK_AS(Fault::usage, size <= kLargest, "msa_conv: a size of ", size, ", at most ", kLargest);
  const bool even = g.kernel_h % 2 == 0 || g.kernel_w % 2 == 0;
  CHECK_AS(Fault::usage, !even || g.dilation % 2 == 0, "msa_conv: kernel ", g.kernel_h, "x",
           g.kernel_w, " with dilation ", g.dilation,
           ": an even kernel needs an even dilation, or the window has no middle");
  CHECK_AS(Fault::usage, g.pool >= 1, "msa_conv: keys pooled by ", g.pool);
  CHECK_AS(Fault::usage, g.shift_size >= 0 && g.direction >= 0 && g.direction < 4,
           "msa_conv: shift by ", g.shift_size, " in direction ", g.direction);
  CHECK_AS(Fault::usage, g.dropout >= 0.0 && g.dropout < 1.0, "msa_conv: dropout ", g.dropout,
           " is not in [0, 1)");
}

}  // namespace mullion
