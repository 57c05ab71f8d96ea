// The precision that products of matrices may give up for speed: a setting of the whole process,
// made by a program at its start (--amp) and read wherever a product is asked for.
#pragma once

namespace mullion {

struct ProductPrecision {
  bool tf32 = false;  // products of f32 on a GPU's tensor cores, with 11 bits of each operand
  bool bf16 = false;  // f32 meets a bf16 weight by being rounded to bf16 itself
};
ProductPrecision product_precision();
void set_product_precision(ProductPrecision precision);

}  // namespace mullion
