// Module: something that owns parameters. It lists each member once, by name, in fields(); from
// that list come the parameters, their names in checkpoints, freezing and printing. Names are the
// file's names: a member `q_proj` with a member `weight` is `q_proj.weight`.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "autograd/node.h"

namespace mullion {

class Module;

// What fields() is given: call it once for every member.
class Fields {
 public:
  using Visit = std::function<void(const std::string& name, Tensor& parameter)>;
  explicit Fields(Visit visit) : visit_(std::move(visit)) {}

  void operator()(const std::string& name, Tensor& parameter) {
    if (parameter.defined()) visit_(prefix_ + name, parameter);  // optional ones may be absent
  }
  void operator()(const std::string& name, Module& child);
  template <typename M>
  void operator()(const std::string& name, std::vector<std::unique_ptr<M>>& children) {
    for (size_t i = 0; i < children.size(); ++i)
      (*this)(name + "." + std::to_string(i), *children[i]);
  }

 private:
  Visit visit_;
  std::string prefix_;
};

class Module {
 public:
  virtual ~Module() = default;
  virtual void fields(Fields& fields) = 0;
};

struct NamedParameter {
  std::string name;
  Tensor value;  // a handle: shares the module's elements and gradient
};

// Every parameter, in the order of fields().
std::vector<NamedParameter> named_parameters(Module& module);
// visit may assign to the parameter, e.g. one loaded from a file.
void for_each_parameter(Module& module, const Fields::Visit& visit);
// Puts every parameter on a device; views of one storage stay that. Its gradients stay behind, and
// so do the moments of an optimizer: before those are made.
void move_to(Module& module, Device device);
// requires_grad for the parameters whose name satisfies the predicate, none for the others.
void set_trainable(Module& module, const std::function<bool(const std::string&)>& predicate);
// Those with requires_grad.
std::vector<NamedParameter> trainable_parameters(Module& module);
int64_t parameter_count(const std::vector<NamedParameter>& parameters);
void clear_grads(const std::vector<NamedParameter>& parameters);

}  // namespace mullion
