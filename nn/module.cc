// Walks over fields(): every question about a model is one.
#include "nn/module.h"

#include <map>
#include <utility>

#include "tensor/absent.h"

namespace mullion {

void Fields::operator()(const std::string& name, Module& child) {
  modules.emplace_back(prefix_ + name, &child);
  const std::string before = std::exchange(prefix_, prefix_ + name + ".");
  child.fields(*this);
  prefix_ = before;
}

void for_each_parameter(Module& module,
                        const std::function<void(const std::string&, Tensor&)>& visit) {
  Fields fields;
  module.fields(fields);
  std::map<const Tensor::Impl*, Tensor*> first;
  std::vector<std::pair<Tensor*, const Tensor*>> aliases;
  std::vector<std::pair<std::string, Tensor*>> own;
  for (auto& [name, parameter] : fields.parameters) {
    const auto [known, fresh] = first.emplace(&parameter->impl(), parameter);
    if (fresh)
      own.emplace_back(std::move(name), parameter);
    else
      aliases.emplace_back(parameter, known->second);
  }
  for (const auto& [name, parameter] : own) visit(name, *parameter);
  for (const auto& [alias, parameter] : aliases) *alias = *parameter;
}

std::vector<NamedParameter> named_parameters(Module& module) {
  std::vector<NamedParameter> result;
  for_each_parameter(module, [&](const std::string& name, Tensor& parameter) {
    result.push_back({name, parameter});
  });
  return result;
}

void for_each_weight(Module& module,
                     const std::function<void(const std::string&, Weight&)>& visit) {
  Fields fields;
  module.fields(fields);
  std::map<const Tensor::Impl*, Weight*> first;
  std::vector<std::pair<Weight*, const Weight*>> aliases;
  std::vector<std::pair<std::string, Weight*>> own;
  for (const auto& [name, weight] : fields.weights) {
    const Tensor& held = weight->is_blocks() ? weight->blocks().bytes() : weight->tensor();
    const auto [known, fresh] = first.emplace(&held.impl(), weight);
    if (fresh)
      own.emplace_back(name, weight);
    else
      aliases.emplace_back(weight, known->second);
  }
  for (const auto& [name, weight] : own) visit(name, *weight);
  for (const auto& [alias, weight] : aliases) *alias = *weight;
}

int64_t element_count(Module& module) {
  int64_t count = parameter_count(named_parameters(module));
  for_each_weight(module, [&](const std::string&, Weight& w) {
    if (w.is_blocks()) count += w.numel();
  });
  return count;
}

namespace {
// The whole storage of a tensor.
Tensor bytes_of(const Tensor& x) {
  auto impl = std::make_shared<Tensor::Impl>();
  impl->storage = x.impl().storage;
  impl->shape = {x.impl().storage->bytes()};
  impl->strides = {1};
  impl->dtype = DType::u8;
  return Tensor(std::move(impl));
}
}  // namespace

void move_to(Module& module, Device device) {
  std::map<const Storage*, std::shared_ptr<Storage>> moved;
  for_each_parameter(module, [&](const std::string& name, Tensor& parameter) {
    if (parameter.device() == device) return;
    CHECK(!is_absent(parameter), "moving a model: ", name, " has no elements yet");
    const bool trained = requires_grad(parameter);
    auto impl = std::make_shared<Tensor::Impl>(parameter.impl());
    std::shared_ptr<Storage>& storage = moved[impl->storage.get()];
    if (!storage) storage = raw::to_device(bytes_of(parameter), device).impl().storage;
    impl->storage = storage;
    impl->grad_data = nullptr;
    parameter = Tensor(std::move(impl));
    if (trained) set_requires_grad(parameter, true);
  });
  for_each_weight(module, [&](const std::string&, Weight& w) {
    if (w.is_blocks()) w = to_device(w.blocks(), device);
  });
}

void set_trainable(Module& module, const std::function<bool(const std::string&)>& predicate) {
  for_each_parameter(module, [&](const std::string& name, Tensor& parameter) {
    set_requires_grad(parameter, predicate(name));
  });
}

std::vector<NamedParameter> trainable_parameters(Module& module) {
  std::vector<NamedParameter> result;
  for (NamedParameter& p : named_parameters(module))
    if (requires_grad(p.value)) result.push_back(std::move(p));
  return result;
}

int64_t parameter_count(const std::vector<NamedParameter>& parameters) {
  int64_t count = 0;
  for (const NamedParameter& p : parameters) count += p.value.numel();
  return count;
}

void clear_grads(const std::vector<NamedParameter>& parameters) {
  for (const NamedParameter& p : parameters) clear_grad(p.value);
}

}  // namespace mullion
