// One setting, read by every product.
#include "tensor/precision.h"

#include <atomic>

namespace mullion {
namespace {
std::atomic<ProductPrecision> current{ProductPrecision{}};
}  // namespace

ProductPrecision product_precision() { return current; }
void set_product_precision(ProductPrecision precision) { current = precision; }

}  // namespace mullion
