// Slots of the table that have no kernel yet; a line goes when its kernel comes.
#include "tensor/cuda/kernels.h"

#include "tensor/check.h"

namespace mullion::cuda {

void copy(const CopyArgs&) { fail(Fault::usage, "copy: no kernel on cuda yet"); }
void fill(const FillArgs&) { fail(Fault::usage, "fill: no kernel on cuda yet"); }
template <typename Op>
void unary(const UnaryArgs&) {
  fail(Fault::usage, "unary: no kernel on cuda yet");
}
template <typename Op>
void unary_grad(const UnaryGradArgs&) {
  fail(Fault::usage, "unary_grad: no kernel on cuda yet");
}
template <typename Op>
void binary(const BinaryArgs&) {
  fail(Fault::usage, "binary: no kernel on cuda yet");
}
#define OP(NAME)                               \
  template void unary<NAME>(const UnaryArgs&); \
  template void unary_grad<NAME>(const UnaryGradArgs&);
OP(Neg)
OP(Exp)
OP(Log)
OP(Sqrt)
OP(Square)
OP(Tanh)
OP(Sigmoid) OP(Relu) OP(Silu) OP(Gelu) OP(GeluTanh) template void binary<Add>(const BinaryArgs&);
template void binary<Sub>(const BinaryArgs&);
template void binary<Mul>(const BinaryArgs&);
template void binary<Div>(const BinaryArgs&);
void affine(const AffineArgs&) { fail(Fault::usage, "affine: no kernel on cuda yet"); }
void accumulate(const AccumulateArgs&) { fail(Fault::usage, "accumulate: no kernel on cuda yet"); }
void sum_axis(const SumAxisArgs&) { fail(Fault::usage, "sum_axis: no kernel on cuda yet"); }
void random(const RandomArgs&) { fail(Fault::usage, "random: no kernel on cuda yet"); }
void matmul(const MatmulArgs&) { fail(Fault::usage, "matmul: no kernel on cuda yet"); }
void adamw(const AdamWArgs&) { fail(Fault::usage, "adamw: no kernel on cuda yet"); }
void sgd(const SgdArgs&) { fail(Fault::usage, "sgd: no kernel on cuda yet"); }
void ema(const EmaArgs&) { fail(Fault::usage, "ema: no kernel on cuda yet"); }
void sum_squares(const SumSquaresArgs&) {
  fail(Fault::usage, "sum_squares: no kernel on cuda yet");
}

}  // namespace mullion::cuda
