// Gathers ahead of a unit's use, sums behind its backward pass, both while others compute.
#include "optim/parallel/full_shard.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "autograd/engine.h"
#include "nn/state.h"
#include "optim/parallel/piece.h"
#include "tensor/absent.h"
#include "tensor/check.h"
#include "tensor/kernel_table.h"
#include "tensor/op_scope.h"

namespace mullion {
namespace {

// Elements of a storage as a flat tensor.
Tensor view(const std::shared_ptr<Storage>& storage, DType type, int64_t first, int64_t n) {
  Tensor::Impl impl;
  impl.storage = storage;
  impl.shape = {n};
  impl.strides = impl.shape.strides();
  impl.offset = first;
  impl.dtype = type;
  return Tensor(std::make_shared<Tensor::Impl>(std::move(impl)));
}

// Its own work is none of the op's within whose backward a unit begins.
OpScope own_scope() { return OpScope("weights of a unit", false, 0); }

}  // namespace

FullShard::FullShard(Communicator& ranks, Module& model, const std::vector<Module*>& units,
                     Device device, int64_t passes, FullShardOptions options)
    : StepRanks(ranks, passes, options.ranks_a_pass),
      device_(device),
      plan_{.ranks = ranks.size(),
            .ranks_a_pass = options.ranks_a_pass,
            .passes = passes,
            .units = {},
            .overlap = options.overlap,
            .rest_stays = options.rest_stays,
            .device = device.type},
      units_(units.size() + 1),
      nothing_(std::make_shared<Storage>(0, device)) {
  for_each_weight(model, [](const std::string& name, Weight& w) {
    if (w.is_blocks())
      throw Error(concat("--shard full: ", name, " is held in the blocks of its file"),
                  Fault::usage, "--weights bf16 or f32");
  });
  std::map<const Tensor::Impl*, size_t> unit_of;
  for (size_t i = 0; i < units.size(); ++i) {
    places_[units[i]] = i;
    for (const NamedParameter& p : named_parameters(*units[i]))
      CHECK(unit_of.emplace(&p.value.impl(), i).second, "--shard full: ", p.name,
            " belongs to two units");
  }
  places_[&model] = units.size();
  for (const NamedParameter& p : named_parameters(model)) {
    const auto found = unit_of.find(&p.value.impl());
    Unit& unit = units_[found == unit_of.end() ? units.size() : found->second];
    Flat& flat = requires_grad(p.value) ? unit.trained : unit.frozen;
    flat.members.push_back({p.name, p.value, 0, p.value.impl().offset, is_absent(p.value)});
  }
  for (Unit& unit : units_) {
    unit.trained.type = DType::f32;
    const std::vector<int64_t> frozen = lay_out(unit.frozen);
    plan_.units.push_back(
        {std::accumulate(frozen.begin(), frozen.end(), int64_t{0}), lay_out(unit.trained)});
  }
  plan_.check();
  for (Unit& unit : units_) {
    for (Flat* flat : {&unit.frozen, &unit.trained}) {
      if (flat->share > 0) flat->part = Tensor::zeros({flat->share}, flat->type, device_);
      deal(*flat, [&](const Member& m) {
        if (!m.later) return m.value;
        CHECK(options.fill, "--shard full: ", m.name, " has no values");
        const Tensor values = Tensor::empty(m.value.shape(), m.value.dtype());
        options.fill(m.name, values);
        return values;
      });
      release(*flat);
    }
    cut(unit.trained);
  }
}

FullShard::~FullShard() { drop_sum(); }

// Storages one after another, so that views of one storage stay that. The bytes of each.
std::vector<int64_t> FullShard::lay_out(Flat& flat) const {
  std::map<const Storage*, std::pair<int64_t, long>> storages;  // first byte, tensors
  std::vector<int64_t> sizes;
  int64_t bytes = 0;
  for (Member& m : flat.members) {
    CHECK(flat.type == DType::u8 || m.value.dtype() == flat.type, "--shard full: ", m.name,
          " is of type ", name_of(m.value.dtype()), ", only f32 can be trained");
    const Storage* storage = m.value.impl().storage.get();
    auto& [at, tensors] = storages.try_emplace(storage, bytes, 0).first->second;
    m.at = at;
    if (tensors++ > 0) continue;
    sizes.push_back(SpreadUnit::padded(m.later ? m.value.bytes() : storage->bytes()));
    bytes += sizes.back();
  }
  // Whoever had the elements by another tensor would keep them, and see none of the updates.
  for (const Member& m : flat.members)
    CHECK(m.value.impl().storage.use_count() == storages[m.value.impl().storage.get()].second,
          "--shard full: the elements of ", m.name, " have other tensors as well");
  flat.share = plan_.part(bytes) / size_of(flat.type);
  return sizes;
}

// Into this rank's part of a flat, the values of those tensors that reach into it.
void FullShard::deal(const Flat& flat, const std::function<Tensor(const Member&)>& value_of) const {
  const int64_t size = flat.share * size_of(flat.type), begin = rank() * size;
  for (const Member& m : flat.members) {
    const int64_t from = std::max(begin, m.begin());
    const int64_t to = std::min(begin + size, m.begin() + m.value.bytes());
    if (from >= to) continue;
    const Tensor values = value_of(m);
    const int64_t first = values.impl().offset * size_of(values.dtype()) - m.begin();
    raw::copy_into(view(values.impl().storage, DType::u8, first + from, to - from),
                   view(flat.part.impl().storage, DType::u8, from - begin, to - from));
  }
}

void FullShard::put(Flat& flat, const Tensor& whole) const {
  flat.whole = whole;
  for (const Member& m : flat.members) {
    m.value.impl().storage = whole.impl().storage;
    m.value.impl().offset = m.first();
  }
}

void FullShard::release(Flat& flat) const {
  if (flat.coming) std::exchange(flat.coming, nullptr)->wait();
  flat.whole = Tensor();
  for (const Member& m : flat.members) {
    m.value.impl().storage = nothing_;
    m.value.impl().offset = 0;
  }
}

void FullShard::release(Unit& unit) {
  release(unit.frozen);
  release(unit.trained);
  if (kept_ == &unit) kept_ = nullptr;
}

// Begins to gather its weights.
void FullShard::call(Unit& unit) {
  for (Flat* flat : {&unit.frozen, &unit.trained}) {
    if (flat->share == 0 || flat->whole.defined()) continue;
    flat->whole = Tensor::empty({ranks_.size() * flat->share}, flat->type, device_);
    flat->coming = ranks_.start_all_gather(flat->part, flat->whole);
  }
}

void FullShard::land(Unit& unit) {
  call(unit);
  for (Flat* flat : {&unit.frozen, &unit.trained})
    if (flat->coming) {
      std::exchange(flat->coming, nullptr)->wait();
      put(*flat, flat->whole);
    }
}

void FullShard::begin_unit(const Module& module) {
  const auto place = places_.find(&module);
  if (place == places_.end()) return;
  Unit& unit = units_[place->second];
  if (unit.depth++ > 0) return;
  const OpScope scope = own_scope();
  if (&unit == &root()) {  // a new pass: nothing of an earlier one holds
    let_go();
    last_[0] = nullptr;
    return land(unit);
  }
  if (kept_ && kept_ != &unit) release(*kept_);
  Unit*& last = last_[within_backward_];
  if (last && last != &unit) {
    next_[within_backward_][last] = &unit;
    if (within_backward_) send_gradients(*last);  // the pass has left it
  }
  last = &unit;
  land(unit);
  const auto next = next_[within_backward_].find(&unit);
  if (next != next_[within_backward_].end()) call(*next->second);
}

void FullShard::end_unit(const Module& module) noexcept {
  const auto place = places_.find(&module);
  if (place == places_.end()) return;
  Unit& unit = units_[place->second];
  if (--unit.depth > 0) return;
  // The backward pass begins with the last one.
  if (&unit != &root() && !within_backward_ && !next_[0].contains(&unit))
    kept_ = &unit;
  else
    release(unit);
}

void FullShard::backward(const Tensor& loss) {
  try {
    within_backward_ = true;
    last_[1] = nullptr;
    mullion::backward(loss);
    within_backward_ = false;
    for (Unit& unit : units_) send_gradients(unit);
    take_sum();
  } catch (...) {
    within_backward_ = false;
    drop_gradients();
    throw;
  }
}

// Those of a step that failed, wherever they are.
void FullShard::drop_gradients() noexcept {
  drop_sum();
  for (Unit& unit : units_) {
    unit.trained.gradient = Tensor();
    for (const Member& m : unit.trained.members) clear_grad(m.value);
  }
}

// What arrives is written where this has memory.
void FullShard::drop_sum() noexcept {
  try {
    if (sum_) sum_->travel->wait();
  } catch (const std::exception&) {  // of a rank that is lost, reported where it is met
  }
  sum_.reset();
}

// Begins to add up a unit's gradients of one pass, those that there are, on all ranks the same
// ones. A sum that was begun before is there by then.
void FullShard::send_gradients(Unit& unit) {
  Flat& flat = unit.trained;
  const auto has = [](const Member& m) { return grad(m.value).defined(); };
  if (std::none_of(flat.members.begin(), flat.members.end(), has)) return;
  take_sum();
  const OpScope scope = own_scope();
  Sum sum{&flat, Tensor::zeros({ranks_.size() * flat.share}, DType::f32, device_),
          Tensor::empty({(ranks_.size() - 1) * flat.share}, DType::f32, device_), nullptr};
  for (const Member& m : flat.members) {
    CHECK(has(m), "--shard full: ", m.name, " has no gradient, others of its unit have");
    const Tensor place = raw::slice(sum.whole, 0, m.first(), m.first() + m.value.numel());
    raw::copy_into(grad(m.value), raw::reshape(place, m.value.shape()));
    clear_grad(m.value);
  }
  std::vector<Message> sends, receives;
  int64_t at = 0;
  for (int64_t r = 0; r < ranks_.size(); ++r) {
    if (r == rank()) continue;
    sends.push_back({raw::slice(sum.whole, 0, r * flat.share, (r + 1) * flat.share), r});
    receives.push_back({raw::slice(sum.arriving, 0, at, at + flat.share), r});
    at += flat.share;
  }
  sum.travel = ranks_.start_exchange(sends, receives);
  sum_ = std::move(sum);
  if (!plan_.overlap) take_sum();
}

// What has been sent, added up in the order of the ranks and to the sums of the passes before.
void FullShard::take_sum() {
  if (!sum_) return;
  sum_->travel->wait();
  const Sum sum = *std::exchange(sum_, std::nullopt);
  const OpScope scope = own_scope();
  Flat& flat = *sum.flat;
  const auto of_rank = [&](int64_t r) {
    const Tensor& from = r == rank() ? sum.whole : sum.arriving;
    const int64_t at = (r > rank() ? r - 1 : r) * flat.share;
    return raw::slice(from, 0, at, at + flat.share);
  };
  const auto add = [&](const Tensor& x, const Tensor& y) {
    kernels(device_).accumulate({.x = x.data<void>(),
                                 .y = y.data<void>(),
                                 .dtype = DType::f32,
                                 .n = flat.share,
                                 .alpha = 1.0});
  };
  const Tensor total = raw::clone(of_rank(0));
  for (int64_t r = 1; r < ranks_.size(); ++r) add(of_rank(r), total);
  if (flat.gradient.defined())
    add(total, flat.gradient);
  else
    flat.gradient = total;
}

void FullShard::cut(Flat& flat) const {
  const int64_t begin = rank() * flat.share;
  for (const Member& m : flat.members) {
    const int64_t from = std::max(begin, m.first());
    const int64_t to = std::min(begin + flat.share, m.first() + m.value.numel());
    if (from >= to) continue;
    const Tensor value = raw::slice(flat.part, 0, from - begin, to - begin);
    set_requires_grad(value, true);
    const Piece piece{m.name, from - m.first(), to - from, true};
    flat.pieces.push_back({piece.name(), value});
  }
}

std::vector<NamedParameter> FullShard::pieces() const {
  std::vector<NamedParameter> all;
  for (const Unit& unit : units_)
    all.insert(all.end(), unit.trained.pieces.begin(), unit.trained.pieces.end());
  return all;
}

std::vector<ParameterGroup> FullShard::own(std::vector<ParameterGroup> groups) const {
  const std::vector<NamedParameter> all = pieces();
  for (ParameterGroup& group : groups) {
    std::vector<NamedParameter> mine;
    for (const NamedParameter& p : group.parameters)
      for (const NamedParameter& piece : all)
        if (Piece::named(piece.name, piece.value.numel()).of == p.name) mine.push_back(piece);
    group.parameters = std::move(mine);
  }
  return groups;
}

void FullShard::finish(std::vector<Tensor>& losses) {
  share_losses(losses);
  for (Unit& unit : units_) {
    Flat& flat = unit.trained;
    const Tensor gradient = std::exchange(flat.gradient, Tensor());
    if (!gradient.defined()) continue;
    for (const NamedParameter& piece : flat.pieces) {
      const int64_t first = piece.value.impl().offset;
      piece.value.grad_data()->grad = raw::slice(gradient, 0, first, first + piece.value.numel());
    }
  }
}

void FullShard::add_up(Tensor& squares) const { ranks_.all_reduce(squares); }

void FullShard::let_go() {
  for (Unit& unit : units_) release(unit);
}

std::vector<NamedParameter> FullShard::collect() {
  let_go();
  std::vector<NamedParameter> trained;
  for (Unit& unit : units_) {
    Flat& flat = unit.trained;
    if (flat.share == 0) continue;
    const Tensor mine = raw::to_device(flat.part, Device{});
    std::vector<Message> sends, receives;
    Tensor whole;
    if (rank() == 0) {
      whole = Tensor::empty({ranks_.size() * flat.share}, DType::f32);
      for (int64_t r = 0; r < ranks_.size(); ++r)
        receives.push_back({raw::slice(whole, 0, r * flat.share, (r + 1) * flat.share), r});
    }
    sends.push_back({mine, 0});
    ranks_.exchange(sends, receives);
    if (whole.defined()) put(flat, whole);
    for (const Member& m : flat.members) trained.push_back({m.name, m.value});
  }
  return trained;
}

void FullShard::refill(const TensorSource& source) {
  std::vector<NamedParameter> trained;
  for (const Unit& unit : units_)
    for (const Member& m : unit.trained.members) trained.push_back({m.name, m.value});
  check_tensors(source, trained);
  let_go();
  for (const Unit& unit : units_)
    deal(unit.trained, [&](const Member& m) {
      const Tensor values = Tensor::empty(m.value.shape(), m.value.dtype());
      load_tensor(source, m.name, values);
      return values;
    });
}

void FullShard::refill(const std::function<void()>& load) {
  let_go();
  for (Unit& unit : units_)
    if (unit.trained.share > 0)
      put(unit.trained, Tensor::zeros({ranks_.size() * unit.trained.share}, DType::f32));
  load();
  for (Unit& unit : units_) {
    const Tensor& whole = unit.trained.whole;
    if (!whole.defined()) continue;
    const int64_t first = rank() * unit.trained.share;
    raw::copy_into(raw::slice(whole, 0, first, first + unit.trained.share), unit.trained.part);
  }
  let_go();
}

}  // namespace mullion
