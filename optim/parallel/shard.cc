// Owners by size, the largest first to who has least; one exchange sends values to all.
#include "optim/parallel/shard.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "tensor/check.h"

namespace mullion {

std::vector<int64_t> shard_owners(const std::vector<int64_t>& elements, int64_t ranks) {
  CHECK_AS(Fault::usage, std::ssize(elements) >= ranks, "--shard optimizer: ", elements.size(),
           " trained parameters are fewer than ", ranks, " ranks");
  std::vector<size_t> order(elements.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return elements[a] > elements[b]; });
  std::vector<int64_t> owners(elements.size()), load(static_cast<size_t>(ranks));
  for (const size_t i : order) {
    const auto least = std::min_element(load.begin(), load.end());
    owners[i] = least - load.begin();
    *least += elements[i];
  }
  return owners;
}

namespace {
std::vector<int64_t> elements_of(const std::vector<NamedParameter>& parameters) {
  std::vector<int64_t> elements;
  for (const NamedParameter& p : parameters) elements.push_back(p.value.numel());
  return elements;
}
}  // namespace

OptimizerShard::OptimizerShard(Communicator& ranks, std::vector<NamedParameter> parameters)
    : ranks_(ranks),
      parameters_(std::move(parameters)),
      owners_(shard_owners(elements_of(parameters_), ranks.size())) {}

bool OptimizerShard::owns(const std::string& name) const {
  for (size_t i = 0; i < parameters_.size(); ++i)
    if (parameters_[i].name == name) return owners_[i] == ranks_.rank();
  fail(Fault::other, "shard: ", name, " is no trained parameter");
}

std::vector<NamedParameter> OptimizerShard::own(const std::vector<NamedParameter>& all) const {
  std::vector<NamedParameter> result;
  for (const NamedParameter& p : all)
    if (owns(p.name)) result.push_back(p);
  return result;
}

std::vector<ParameterGroup> OptimizerShard::own(std::vector<ParameterGroup> groups) const {
  for (ParameterGroup& group : groups) group.parameters = own(group.parameters);
  return groups;
}

int64_t OptimizerShard::elements() const {
  int64_t sum = 0;
  for (const NamedParameter& p : own(parameters_)) sum += p.value.numel();
  return sum;
}

void OptimizerShard::share() const {
  std::vector<Message> sends, receives;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Tensor& value = parameters_[i].value;
    if (owners_[i] != ranks_.rank()) {
      receives.push_back({value, owners_[i]});
      continue;
    }
    for (int64_t r = 0; r < ranks_.size(); ++r)
      if (r != ranks_.rank()) sends.push_back({value, r});
  }
  ranks_.exchange(sends, receives);
}

}  // namespace mullion
