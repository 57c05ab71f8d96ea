// Each elementwise formula once, for every device: a functor with the value and the derivative as
// templates over T, a scalar or a short array of scalars (an Eigen array on the CPU). From the
// lists at the end come every device's kernels and the public ops: adding an op is one functor, one
// entry there, one line in autograd/ops.h and one row of the op table (docs/adding-an-op.md).
#pragma once
#include <cmath>
#include <type_traits>

#include "tensor/host_device.h"

namespace mullion {

// Called unqualified below, so that an array type's own functions are found.
using std::erf;
using std::exp;
using std::log;
using std::sqrt;
using std::tanh;

// The scalar type of T: T itself, or the element type of an array.
template <typename T, typename = void>
struct ScalarOfType {
  using type = T;
};
template <typename T>
struct ScalarOfType<T, std::void_t<typename T::Scalar>> {
  using type = typename T::Scalar;
};
template <typename T>
using ScalarOf = typename ScalarOfType<T>::type;

// 0 where x <= 0, else `value`: also where x is NaN, which must stay visible.
template <typename T>
MULLION_HD T unless_nonpositive(const T& x, const T& value) {
  if constexpr (std::is_floating_point_v<T>)
    return x <= 0 ? T(0) : value;
  else
    return (x <= 0).select(T::Zero(), value);
}

struct Neg {
  template <typename T>
  MULLION_HD static T value(const T& x) {
    return -x;
  }
  template <typename T>
  MULLION_HD static T backward(const T&, const T&, const T& g) {
    return -g;
  }
};
struct Exp {
  template <typename T>
  MULLION_HD static T value(const T& x) {
    return exp(x);
  }
  template <typename T>
  MULLION_HD static T backward(const T&, const T& y, const T& g) {
    return g * y;
  }
};
struct Log {
  template <typename T>
  MULLION_HD static T value(const T& x) {
    return log(x);
  }
  template <typename T>
  MULLION_HD static T backward(const T& x, const T&, const T& g) {
    return g / x;
  }
};
struct Sqrt {
  template <typename T>
  MULLION_HD static T value(const T& x) {
    return sqrt(x);
  }
  template <typename T>
  MULLION_HD static T backward(const T&, const T& y, const T& g) {
    return g * 0.5f / y;
  }
};
struct Square {
  template <typename T>
  MULLION_HD static T value(const T& x) {
    return x * x;
  }
  template <typename T>
  MULLION_HD static T backward(const T& x, const T&, const T& g) {
    return g * x * 2.0f;
  }
};
struct Tanh {
  template <typename T>
  MULLION_HD static T value(const T& x) {
    return tanh(x);
  }
  template <typename T>
  MULLION_HD static T backward(const T&, const T& y, const T& g) {
    return g * (1.0f - y * y);
  }
};
struct Sigmoid {
  template <typename T>
  MULLION_HD static T value(const T& x) {
    return 1.0f / (1.0f + exp(-x));
  }
  template <typename T>
  MULLION_HD static T backward(const T&, const T& y, const T& g) {
    return g * y * (1.0f - y);
  }
};
struct Relu {
  template <typename T>
  MULLION_HD static T value(const T& x) {
    return unless_nonpositive(x, x);
  }
  template <typename T>
  MULLION_HD static T backward(const T& x, const T&, const T& g) {
    return unless_nonpositive(x, g);
  }
};
// x * sigmoid(x)
struct Silu {
  template <typename T>
  MULLION_HD static T value(const T& x) {
    return x / (1.0f + exp(-x));
  }
  template <typename T>
  MULLION_HD static T backward(const T& x, const T&, const T& g) {
    const T s = 1.0f / (1.0f + exp(-x));
    return g * s * (1.0f + x * (1.0f - s));
  }
};
// x * Phi(x), Phi the normal distribution by the error function (Hendrycks and Gimpel 2016).
struct Gelu {
  template <typename T>
  MULLION_HD static T value(const T& x) {
    return x * phi(x);
  }
  template <typename T>
  MULLION_HD static T backward(const T& x, const T&, const T& g) {
    const T density = exp(T(x * x * -0.5f)) * ScalarOf<T>(0.39894228040143267794);
    return g * (phi(x) + x * density);
  }

 private:
  template <typename T>
  MULLION_HD static T phi(const T& x) {
    return 0.5f * (1.0f + erf(T(x * ScalarOf<T>(0.70710678118654752440))));
  }
};
// The approximation of Gelu by tanh: inner(x) = sqrt(2 / pi) * (x + 0.044715 x^3).
struct GeluTanh {
  template <typename T>
  MULLION_HD static T value(const T& x) {
    return x * 0.5f * (1.0f + tanh(inner(x)));
  }
  template <typename T>
  MULLION_HD static T backward(const T& x, const T&, const T& g) {
    using S = ScalarOf<T>;
    const T t = tanh(inner(x));
    const T slope = (1.0f + x * x * S(3 * 0.044715)) * S(0.79788456080286535588);
    return g * 0.5f * (1.0f + t + x * (1.0f - t * t) * slope);
  }

 private:
  template <typename T>
  MULLION_HD static T inner(const T& x) {
    using S = ScalarOf<T>;
    return x * (1.0f + x * x * S(0.044715)) * S(0.79788456080286535588);
  }
};

struct Add {
  template <typename T>
  MULLION_HD static T value(const T& a, const T& b) {
    return a + b;
  }
};
struct Sub {
  template <typename T>
  MULLION_HD static T value(const T& a, const T& b) {
    return a - b;
  }
};
struct Mul {
  template <typename T>
  MULLION_HD static T value(const T& a, const T& b) {
    return a * b;
  }
};
struct Div {
  template <typename T>
  MULLION_HD static T value(const T& a, const T& b) {
    return a / b;
  }
};

// The public name and the functor of each op.
#define MULLION_UNARY_OPS(OP) \
  OP(neg, Neg)                \
  OP(exp, Exp)                \
  OP(log, Log)                \
  OP(sqrt, Sqrt)              \
  OP(square, Square)          \
  OP(tanh, Tanh)              \
  OP(sigmoid, Sigmoid)        \
  OP(relu, Relu)              \
  OP(silu, Silu)              \
  OP(gelu, Gelu)              \
  OP(gelu_tanh, GeluTanh)
#define MULLION_BINARY_OPS(OP) \
  OP(add, Add)                 \
  OP(sub, Sub)                 \
  OP(mul, Mul)                 \
  OP(div, Div)

// Their places in the table of kernels, and how many there are.
#define MULLION_OP_PLACE(name, Op) Op,
struct UnaryOps {
  enum : int { MULLION_UNARY_OPS(MULLION_OP_PLACE) size };
};
struct BinaryOps {
  enum : int { MULLION_BINARY_OPS(MULLION_OP_PLACE) size };
};
#undef MULLION_OP_PLACE

}  // namespace mullion
