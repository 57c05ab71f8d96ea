// --shard full (ZeRO, stage 3; Rajbhandari et al. 2020): between its uses a rank keeps an equal
// part of each unit of a model (nn/unit.h), of frozen weights too, and of what is trained the
// moments of that part. A unit's weights are gathered when it is computed with, the next unit's
// meanwhile, and let go of when it is done; a unit that is recomputed in the backward pass gets
// them again. When the backward pass has left a unit, its gradients are added up, each part on the
// rank that keeps it, while the next unit computes. What belongs to no unit (embedding, last norm,
// head) is one more.
//
// The tensors of the model stay the same objects: their elements come and go. A tensor that is used
// while they are not here is an error (tensor.cc).
//
// An element is updated by its rank alone, from the sum over the ranks of each pass: the losses are
// those of a run without, but for the order of sums.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/module.h"
#include "nn/unit.h"
#include "optim/optimizer.h"
#include "optim/parallel/spread_plan.h"
#include "optim/parallel/step_ranks.h"

namespace mullion {

class TensorSource;

struct FullShardOptions {
  int64_t ranks_a_pass = 1;  // of StepRanks
  bool overlap = true;       // false: sums of gradients are waited for at once, in less memory
  bool rest_stays = false;   // of SpreadPlan
  // Gives an absent tensor (tensor/absent.h) of the model, by its name, values; asked for those
  // that this rank has a part of, one after another.
  std::function<void(const std::string& name, const Tensor& value)> fill = {};
};

class FullShard : public StepRanks, private UnitWatch {
 public:
  // Takes the weights of the model, which each rank has whole on any device or fills one at a time,
  // and keeps its part of them on `device`. `units`: modules of the model, none within another.
  // Used on this thread. Error(usage) as SpreadPlan::check(), and where weights are held as blocks.
  FullShard(Communicator& ranks, Module& model, const std::vector<Module*>& units, Device device,
            int64_t passes, FullShardOptions options = {});
  ~FullShard() override;

  // This rank's parts of the parameters that are trained, named as pieces (piece.h). What an
  // optimizer and an UpdateStep are made of.
  std::vector<NamedParameter> pieces() const;
  std::vector<ParameterGroup> own(std::vector<ParameterGroup> groups) const;

  void backward(const Tensor& loss) override;
  void finish(std::vector<Tensor>& losses) override;
  void add_up(Tensor& squares) const override;
  bool has_part() const override { return true; }

  std::vector<NamedParameter> collect() override;
  void let_go() override;
  // What is trained gets other values, of which this rank keeps its part: those that `load` gives
  // it in the model, all at once in memory of the host; or those of a source that has exactly these
  // tensors, of which the ones that this rank has a part of are read, one after another.
  void refill(const std::function<void()>& load);
  void refill(const TensorSource& source);

  const SpreadPlan& plan() const { return plan_; }

 private:
  struct Member {
    std::string name;
    Tensor value;
    int64_t at = 0;      // its storage's first byte in the flat
    int64_t offset = 0;  // of its first element in its storage, in elements
    bool later = false;  // absent so far
    int64_t first() const { return at / size_of(value.dtype()) + offset; }  // element of the flat
    int64_t begin() const { return at + offset * size_of(value.dtype()); }  // byte of the flat
  };
  // The weights of a unit of one kind, one after another as their storages were.
  struct Flat {
    std::vector<Member> members;
    DType type = DType::u8;  // f32 of what is trained, else bytes
    int64_t share = 0;       // elements of each rank
    Tensor part;             // this rank's
    Tensor whole;            // undefined between uses
    std::unique_ptr<PendingCollective> coming;
    Tensor gradient;  // of the part, added up over ranks and passes
    std::vector<NamedParameter> pieces;
  };
  struct Unit {
    Flat frozen, trained;
    int depth = 0;
  };
  // Gradients of a unit on their way.
  struct Sum {
    Flat* flat;
    Tensor whole, arriving;  // this rank's, all of them; its share of the others'
    std::unique_ptr<PendingCollective> travel;
  };

  void begin_unit(const Module& module) override;
  void end_unit(const Module& module) noexcept override;
  std::vector<int64_t> lay_out(Flat& flat) const;
  void deal(const Flat& flat, const std::function<Tensor(const Member&)>& value_of) const;
  void call(Unit& unit);
  void land(Unit& unit);
  void release(Unit& unit);
  void release(Flat& flat) const;
  void put(Flat& flat, const Tensor& whole) const;
  void send_gradients(Unit& unit);
  void take_sum();
  void drop_gradients() noexcept;
  void drop_sum() noexcept;
  void cut(Flat& flat) const;
  Unit& root() { return units_.back(); }

  Device device_;
  SpreadPlan plan_;
  std::vector<Unit> units_;  // the last one: what belongs to no other
  std::map<const Module*, size_t> places_;
  std::shared_ptr<Storage> nothing_;  // of weights that are not here
  bool within_backward_ = false;
  // Of the forward and of the backward direction: which unit came after which, and the last one.
  std::map<const Unit*, Unit*> next_[2];
  Unit* last_[2] = {};
  Unit* kept_ = nullptr;  // the forward's last one, with which the backward begins
  std::optional<Sum> sum_;
};

}  // namespace mullion
