// Packed rows on the CPU: packed_rows.h says against what.
#include "tests/packed_rows.h"

namespace mullion {
namespace {

TEST(PackedRows, LossAndGradientsAreThoseOfTheDocumentsAlone) {
  for (const char* preset : {"full", "sf", "s2", "fixed", "strided", "random"})
    test::check_packed_rows({}, preset, Recompute::none, 1e-5);
}

TEST(PackedRows, RecomputationToo) {
  for (const Recompute how : {Recompute::mlp, Recompute::block})
    test::check_packed_rows({}, "sf", how, 1e-5);
}

}  // namespace
}  // namespace mullion
