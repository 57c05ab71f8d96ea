// Module: something that owns parameters. It lists each member once, by name, in fields(); from
// that list come parameters and child modules, their names in checkpoints, freezing and LoRA. Names
// are the file's names: a member `q_proj` with a member `weight` is `q_proj.weight`.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "autograd/weight.h"

namespace mullion {

class Module;

// What fields() is given: call it once for every member. A tensor that an earlier member has
// already (a tied head) is no parameter of its own: it follows what becomes of that one.
class Fields {
 public:
  void operator()(const std::string& name, Tensor& parameter) {
    if (parameter.defined()) parameters.emplace_back(prefix_ + name, &parameter);  // may be absent
  }
  // A matrix of a layer: a parameter, or blocks, which nothing trains.
  void operator()(const std::string& name, Weight& weight) {
    if (weight.defined()) weights.emplace_back(prefix_ + name, &weight);
    (*this)(name, weight.tensor());
  }
  void operator()(const std::string& name, Module& child);
  template <typename M>
  void operator()(const std::string& name, std::vector<std::unique_ptr<M>>& children) {
    for (size_t i = 0; i < children.size(); ++i)
      (*this)(name + "." + std::to_string(i), *children[i]);
  }
  std::vector<std::pair<std::string, Tensor*>> parameters;
  std::vector<std::pair<std::string, Weight*>> weights;
  std::vector<std::pair<std::string, Module*>> modules;  // a parent before its children

 private:
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
void for_each_parameter(Module& module,
                        const std::function<void(const std::string& name, Tensor&)>& visit);
// Every weight of a layer, tensors and blocks alike. visit may give it another form; a weight that
// was the same as an earlier one (a tied head) follows.
void for_each_weight(Module& module,
                     const std::function<void(const std::string& name, Weight&)>& visit);
// Elements of all parameters and blocks.
int64_t element_count(Module& module);
// The modules below it of one kind, with their paths: "model.layers.0.self_attn.q_proj".
template <typename M>
void for_each_module(Module& module,
                     const std::function<void(const std::string& path, M&)>& visit) {
  Fields fields;
  module.fields(fields);
  for (const auto& [path, child] : fields.modules)
    if (auto* wanted = dynamic_cast<M*>(child)) visit(path, *wanted);
}
// Puts every parameter and block on a device; views of one storage stay that. Its gradients stay
// behind, and so do the moments of an optimizer: before those are made.
void move_to(Module& module, Device device);
// requires_grad for the parameters whose name satisfies the predicate, none for the others.
void set_trainable(Module& module, const std::function<bool(const std::string&)>& predicate);
// Those with requires_grad.
std::vector<NamedParameter> trainable_parameters(Module& module);
int64_t parameter_count(const std::vector<NamedParameter>& parameters);
void clear_grads(const std::vector<NamedParameter>& parameters);

}  // namespace mullion
