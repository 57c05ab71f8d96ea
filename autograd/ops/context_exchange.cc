// The exchange as an op: own keys and values go out, held ones come in; gradients go back.
#include "autograd/context_exchange.h"

#include "autograd/ops.h"
#include "autograd/ops/common.h"

namespace mullion {
using namespace detail;  // NOLINT

namespace {

// Rows of K and of V, of own tokens or of all that are held, and where a token's lie.
struct KeyRows {
  Tensor k, v;
  std::vector<HeldSpan> places;  // as ContextPart::held

  // A box of K or V: (B, tokens, heads, D), a view.
  Tensor view(const Tensor& x, const KeyBox& box) const {
    for (const HeldSpan& span : places)
      if (box.begin >= span.begin && box.end <= span.end) {
        const int64_t first = span.at + box.begin - span.begin;
        return raw::slice(raw::slice(x, 1, first, first + box.end - box.begin), 2, box.first_head,
                          box.end_head);
      }
    CHECK(false, "context parallel: tokens ", box.begin, " to ", box.end, " are not at hand");
  }
};

std::vector<HeldSpan> places_of_own(const ContextPart& part) {
  std::vector<HeldSpan> places;
  int64_t at = 0;
  for (const TokenSpan& span : part.own) {
    places.push_back({span.begin, span.end, at});
    at += span.end - span.begin;
  }
  return places;
}

// A message for each transfer: box after box, K then V.
std::vector<Message> messages_for(const std::vector<KeyTransfer>& transfers, const Tensor& like) {
  std::vector<Message> messages;
  for (const KeyTransfer& transfer : transfers)
    messages.push_back(
        {empty({like.dim(0) * transfer.rows() * 2 * like.dim(3)}, like), transfer.peer});
  return messages;
}

// Calls f(rows, piece): the rows of each box in K or V, and their place in the message, of one
// shape.
template <typename F>
void for_boxes(const KeyRows& rows, const KeyTransfer& transfer, const Message& message, F&& f) {
  int64_t first = 0;
  for (const KeyBox& box : transfer.boxes)
    for (const Tensor& x : {rows.k, rows.v}) {
      const Tensor its = rows.view(x, box);
      const Tensor piece = raw::slice(message.tensor, 0, first, first + its.numel());
      f(its, raw::reshape(piece, its.shape()));
      first += its.numel();
    }
}

void pack(const KeyRows& rows, const std::vector<KeyTransfer>& transfers,
          const std::vector<Message>& messages) {
  for (size_t i = 0; i < transfers.size(); ++i)
    for_boxes(rows, transfers[i], messages[i], raw::copy_into);
}

}  // namespace

HeldKeys exchange_keys(const Tensor& k, const Tensor& v,
                       const std::shared_ptr<const ContextPart>& part,
                       const std::shared_ptr<Communicator>& ranks) {
  const OpScope scope("exchange_keys");
  const auto [B, T, H, D] = dims<4>("exchange_keys", "k", k);
  check_same_shape("exchange_keys", k, v);
  check_same_dtype("exchange_keys", k, v);
  CHECK(T == part->own_tokens(), "exchange_keys: ", T, " rows of k for a part of ",
        part->own_tokens(), " tokens");
  const KeyRows own{k, v, places_of_own(*part)};
  const Shape held_shape{B, part->held_tokens(), H, D};
  const KeyRows held{Tensor::zeros(held_shape, k.dtype(), k.device()),
                     Tensor::zeros(held_shape, k.dtype(), k.device()), part->held};
  for (const TokenSpan& span : part->own) {
    const KeyBox box{span.begin, span.end, 0, H};
    raw::copy_into(own.view(k, box), held.view(held.k, box));
    raw::copy_into(own.view(v, box), held.view(held.v, box));
  }
  const std::vector<Message> sends = messages_for(part->sends, k),
                             receives = messages_for(part->receives, k);
  pack(own, part->sends, sends);
  ranks->exchange(sends, receives);
  for (size_t i = 0; i < receives.size(); ++i)
    for_boxes(held, part->receives[i], receives[i],
              [](const Tensor& rows, const Tensor& piece) { raw::copy_into(piece, rows); });
  // dk = the own rows of dK and, of each peer that k was sent to, what that peer's queries add.
  const std::vector<Tensor> result = record_all(
      "exchange_keys", {held.k, held.v}, {k, v},
      [part, ranks, shape = k.shape(), like = Tensor::empty({0}, k.dtype(), k.device()),
       H = H](const Gradients& g) -> Gradients {
        const auto given = [&](const Tensor& d) {
          const Shape whole{shape[0], part->held_tokens(), shape[2], shape[3]};
          return d.defined() ? d : Tensor::zeros(whole, like.dtype(), like.device());
        };
        const KeyRows d_held{given(g[0]), given(g[1]), part->held};
        const KeyRows d_own{empty(shape, like), empty(shape, like), places_of_own(*part)};
        for (const TokenSpan& span : part->own) {
          const KeyBox box{span.begin, span.end, 0, H};
          raw::copy_into(d_held.view(d_held.k, box), d_own.view(d_own.k, box));
          raw::copy_into(d_held.view(d_held.v, box), d_own.view(d_own.v, box));
        }
        const std::vector<Message> back = messages_for(part->receives, d_held.k),
                                   added = messages_for(part->sends, d_held.k);
        pack(d_held, part->receives, back);
        ranks->exchange(back, added);
        for (size_t i = 0; i < added.size(); ++i)
          for_boxes(d_own, part->sends[i], added[i], [](const Tensor& rows, const Tensor& piece) {
            raw::copy_into(add(rows, piece), rows);
          });
        return {d_own.k, d_own.v};
      });
  return {result[0], result[1]};
}

}  // namespace mullion
