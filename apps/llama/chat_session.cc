// A turn: the text written anew, compared with what the cache has seen, the rest fed, an answer.
#include "apps/llama/chat_session.h"

#include <algorithm>

#include "tensor/check.h"

namespace mullion {
namespace {

constexpr size_t kPiece = 512;  // tokens of a turn between two looks at whether to go on

const char* const kMoreRoom =
    "/new begins anew, /undo takes the last turn back; with /kv sink 512 rolled the text has no "
    "end";

}  // namespace

ChatSession::ChatSession(const LanguageModel& model, const Tokenizer& tokenizer,
                         const ChatTemplate& chat, const KvCacheOptions& cache, int64_t context)
    : model_(model), tokenizer_(tokenizer), chat_(chat), context_(context) {
  set_cache(cache);
}

void ChatSession::set_cache(const KvCacheOptions& cache) {
  session_ = std::make_unique<Generation>(model_, cache, context_);
  row_ = session_->add();
  copies_.clear();
  text_.clear();
  ids_.clear();
  cuts_.clear();
}

void ChatSession::begin_anew() {
  set_cache(KvCacheOptions(cache_options()));
  turns_.clear();
}

std::vector<Turn> ChatSession::turns() const {
  std::vector<Turn> all = turns_;
  if (system_) all.insert(all.begin(), {Role::system, *system_, "", "system"});
  return all;
}

bool ChatSession::ask(const std::string& text, const std::function<bool()>& go_on) {
  turns_.push_back({Role::user, text, "", "the turn"});
  bool done = false;
  try {
    done = catch_up(go_on);
  } catch (const Error&) {
    turns_.pop_back();
    throw;
  }
  if (!done) turns_.pop_back();
  return done;
}

void ChatSession::ask_again() {
  CHECK_AS(Fault::usage, !turns_.empty(), "there is no turn to answer again");
  if (turns_.back().role == Role::assistant) turns_.pop_back();
  catch_up({});
}

void ChatSession::take_back() {
  CHECK_AS(Fault::usage, !turns_.empty(), "there is no turn to take back");
  if (turns_.back().role == Role::assistant) turns_.pop_back();
  turns_.pop_back();
}

int64_t ChatSession::seen_of_turns() const {
  if (turns_.empty()) return 0;
  return std::min(cache().position(), static_cast<int64_t>(plan().cut_ids));
}

int64_t ChatSession::room() const {
  const int64_t room = session_->room(row_);
  return room >= KvCache::kNoEnd ? room : room + cache().position() - seen_of_turns();
}

ChatSession::Plan ChatSession::plan() const {
  Plan plan;
  plan.text = chat_.prompt(turns());
  const auto same = static_cast<size_t>(
      std::mismatch(text_.begin(), text_.end(), plan.text.begin(), plan.text.end()).first -
      text_.begin());
  for (const Cut& cut : cuts_)
    if (cut.bytes <= same) {
      plan.cut_ids = cut.ids;
      plan.cut_bytes = cut.bytes;
    }
  plan.ids.assign(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(plan.cut_ids));
  EncodeOptions how = chat_.encode_options();
  if (plan.cut_ids > 0) how.bos = how.space_prefix = false;
  const auto rest = tokenizer_.encode(std::string_view(plan.text).substr(plan.cut_bytes), how);
  plan.ids.insert(plan.ids.end(), rest.begin(), rest.end());
  return plan;
}

// Brings the cache to a beginning of ids_ of at most `shared` ids. Returns how many it has seen.
size_t ChatSession::go_back(size_t shared) {
  if (seen() <= shared) return seen();
  if (!evicts()) {
    session_->cache(row_).rewind(static_cast<int64_t>(shared));
    return shared;
  }
  while (!copies_.empty() && copies_.back().ids > shared) {
    session_->remove(copies_.back().row);
    copies_.pop_back();
  }
  session_->remove(row_);
  row_ = copies_.empty() ? session_->add() : session_->fork(copies_.back().row);
  return seen();
}

bool ChatSession::feed(std::span<const int32_t> ids, const std::function<bool()>& go_on) {
  // What a cache that evicts is given at once is a block; a full one takes it in pieces.
  const size_t piece = evicts() || !go_on ? std::max<size_t>(ids.size(), 1) : kPiece;
  for (size_t begin = 0; begin < ids.size(); begin += piece) {
    if (go_on && !go_on()) return false;
    const auto part = ids.subspan(begin, std::min(piece, ids.size() - begin));
    session_->feed(row_, part);
    fed_ += std::ssize(part);
  }
  return true;
}

bool ChatSession::catch_up(const std::function<bool()>& go_on) {
  Plan next = plan();
  const bool rolled = cache_options().positions == KvPositions::rolled;
  if (!rolled && std::ssize(next.ids) > context())
    throw Error(concat("the context is full: with this turn the conversation has ", next.ids.size(),
                       " tokens, and the context is ", context()),
                Fault::usage, kMoreRoom);
  const size_t before = seen();
  // At least one token is seen anew: after going back there is no prediction of what follows.
  size_t at = go_back(evicts() ? next.cut_ids : std::min(next.cut_ids, next.ids.size() - 1));
  again_ += static_cast<int64_t>(std::min(before, next.ids.size()) - std::min(before, at));
  ids_ = std::move(next.ids);
  text_ = std::move(next.text);
  std::erase_if(cuts_, [&](const Cut& cut) { return cut.ids > next.cut_ids; });
  cuts_.push_back({ids_.size(), text_.size()});
  if (at == ids_.size()) return true;  // a copy of after the same turn
  for (const Copy& copy : copies_) session_->remove(copy.row);
  copies_.clear();
  if (evicts() && at > 0) copies_.push_back({session_->fork(row_), at});
  if (evicts() && at == 0) {
    // Each exchange is a block, as it would have been; the first one says what a percentage is of.
    const std::vector<Turn> all = turns();
    std::vector<Turn> some;
    for (const Turn& turn : all) {
      some.push_back(turn);
      if (turn.role != Role::user || some.size() == all.size()) continue;
      EncodeOptions how = chat_.encode_options();
      const size_t end = tokenizer_.encode(chat_.prompt(some), how).size();
      if (end <= at || end >= ids_.size()) continue;
      if (!feed(std::span(ids_).subspan(at, end - at), go_on)) return false;
      at = end;
    }
  }
  if (!feed(std::span(ids_).subspan(at), go_on)) return false;
  if (evicts()) copies_.push_back({session_->fork(row_), ids_.size()});
  return true;
}

Generated ChatSession::answer(GenerateOptions how) {
  how.before = ids_;
  const std::function<bool(int32_t)> on_token = std::move(how.on_token);
  how.on_token = [&](int32_t id) {
    ids_.push_back(id);
    text_ += tokenizer_.token_bytes(id);
    cuts_.push_back({ids_.size(), text_.size()});
    return !on_token || on_token(id);
  };
  return continue_text(*session_, row_, how);
}

void ChatSession::end_answer(const std::string& text) {
  turns_.push_back({Role::assistant, text, "", "the answer"});
}

}  // namespace mullion
