// Passes dealt out in turn, losses joined in the order of the passes.
#include "optim/parallel/step_ranks.h"

#include "tensor/check.h"

namespace mullion {

int64_t passes_of_rank(int64_t passes, int64_t rank, int64_t ranks) {
  CHECK_AS(Fault::usage, passes >= ranks, passes, passes == 1 ? " pass" : " passes",
           " a step cannot be dealt out to ", ranks, " ranks");
  return (passes - rank + ranks - 1) / ranks;
}

StepRanks::StepRanks(Communicator& ranks, int64_t passes, int64_t ranks_a_pass)
    : ranks_(ranks),
      passes_(passes),
      group_(ranks.rank() / ranks_a_pass),
      groups_(ranks.size() / ranks_a_pass) {
  own_passes();  // there are enough
}

void StepRanks::share_losses(std::vector<Tensor>& losses) const {
  CHECK(std::ssize(losses) == own_passes(), losses.size(), " losses of ", own_passes(),
        " passes on rank ", rank());
  Tensor all = Tensor::zeros({passes_}, DType::f32, losses.front().device());
  const auto loss_of = [&](int64_t pass) {
    return raw::reshape(raw::slice(all, 0, pass, pass + 1), {});
  };
  for (int64_t i = 0; i < std::ssize(losses); ++i)
    raw::copy_into(raw::reshape(losses[static_cast<size_t>(i)], {}), loss_of(group_ + i * groups_));
  ranks_.all_reduce(all);
  losses.clear();
  for (int64_t pass = 0; pass < passes_; ++pass) losses.push_back(loss_of(pass));
}

}  // namespace mullion
