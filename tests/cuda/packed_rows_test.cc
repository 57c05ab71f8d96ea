// Packed rows on the device, against its own passes over each document.
#include "tests/packed_rows.h"

#include "tests/cuda/device_runs.h"

namespace mullion::test {
namespace {

class PackedRowsOnDevice : public OnDevice<> {};

TEST_F(PackedRowsOnDevice, LossAndGradientsAreThoseOfTheDocumentsAlone) {
  for (const char* preset : {"full", "sf"}) check_packed_rows(kCuda, preset, Recompute::none, 1e-5);
}

}  // namespace
}  // namespace mullion::test
