// Each conversation is encoded once; of a long one the middle is cut out, and its targets with it.
#include "data/instruction_rows.h"

#include <algorithm>

#include "tensor/check.h"
#include "tensor/io/sha256.h"

namespace mullion {
namespace {

constexpr size_t kMostNotes = 1000;

// The ids of a conversation, and those that belong to an answer.
struct EncodedRow {
  std::vector<int32_t> ids;
  std::vector<uint8_t> learned;
  size_t answer = 0, end = 0;  // ids of the last answer
};

bool overlaps(size_t begin, size_t end, const ByteSpan& span) {
  return begin < span.end && (end > span.begin || (begin == end && begin >= span.begin));
}

EncodedRow encode(const Conversation& c, const ChatTemplate& chat, const Tokenizer& tokenizer,
                  const InstructionOptions& options) {
  const RenderedChat rendered = chat.render(c);
  const EncodeOptions how = chat.encode_options();
  EncodedRow row;
  row.ids = tokenizer.encode(rendered.text, how);
  std::vector<size_t> places;
  try {
    places = token_places(tokenizer, rendered.text, row.ids, how.bos);
  } catch (const Error& error) {
    throw Error(c.where + ": " + error.what(), Fault::bad_file);
  }
  row.learned.assign(row.ids.size(), options.mask_prompt ? 0 : 1);
  row.answer = row.end = row.ids.size();
  for (size_t a = 0; a < rendered.answers.size(); ++a) {
    const bool last = a + 1 == rendered.answers.size();
    for (size_t i = how.bos ? 1 : 0; i < row.ids.size(); ++i) {
      if (!overlaps(places[i], places[i + 1], rendered.answers[a])) continue;
      if (last || !options.last_turn) row.learned[i] = 1;
      if (!last) continue;
      if (row.answer == row.ids.size()) row.answer = i;
      row.end = i + 1;
    }
  }
  return row;
}

void keep(EncodedRow& row, size_t first, size_t begin, size_t end) {
  const auto cut = [&](auto& values) {
    values.erase(values.begin() + static_cast<std::ptrdiff_t>(end), values.end());
    values.erase(values.begin() + static_cast<std::ptrdiff_t>(first),
                 values.begin() + static_cast<std::ptrdiff_t>(begin));
  };
  cut(row.ids);
  cut(row.learned);
}

// An answer of which the tokens in [first, begin) hold a part is not learned: its rest would follow
// what it does not answer. Whether there was one.
bool unlearn_cut_answers(EncodedRow& row, size_t first, size_t begin) {
  bool found = std::find(row.learned.begin() + static_cast<std::ptrdiff_t>(first),
                         row.learned.begin() + static_cast<std::ptrdiff_t>(begin),
                         1) != row.learned.begin() + static_cast<std::ptrdiff_t>(begin);
  for (size_t i = first; i > 0 && row.learned[first] && row.learned[i - 1]; --i)
    row.learned[i - 1] = 0;
  for (size_t i = begin; i < row.answer && row.learned[begin - 1] && row.learned[i]; ++i)
    row.learned[i] = 0;
  return found;
}

uint64_t count_targets(const EncodedRow& row) {
  return static_cast<uint64_t>(
      std::count(row.learned.begin() + (row.learned.empty() ? 0 : 1), row.learned.end(), 1));
}

}  // namespace

InstructionRows::InstructionRows(const std::vector<std::string>& files,
                                 const InstructionOptions& options, const ChatTemplate& chat,
                                 const Tokenizer& tokenizer,
                                 const std::function<bool(uint64_t)>& progress)
    : options_(options), chat_(chat), tokenizer_(tokenizer) {
  CHECK_AS(Fault::usage, options.context >= 2, "--ctx-size ", options.context,
           ": at least 2 tokens");
  uint64_t before = 0;
  for (const std::string& file : files) {
    uint64_t rows = before;
    files_.push_back(read_conversations(file, options.reading, [&](const Conversation& c) {
      take(c);
      return !progress || progress(++rows);
    }));
    counts_.rows += files_.back().rows;
    counts_.bad += files_.back().bad;
    before = counts_.rows;
  }
  refuse_if_empty(files);
}

void InstructionRows::note(const Conversation& c, size_t tokens, const std::string& what) {
  if (notes_.size() < kMostNotes) notes_.push_back({c.where, what, static_cast<int64_t>(tokens)});
}

void InstructionRows::take(const Conversation& c) {
  EncodedRow row = encode(c, chat_, tokenizer_, options_);
  const size_t full = row.ids.size(), most = static_cast<size_t>(options_.context);
  full_lengths_.push_back(static_cast<int64_t>(full));
  if (full > most && options_.truncate == Truncate::skip) {
    ++counts_.too_long;
    return note(c, full, "left out: longer than the context");
  }
  if (full > most && options_.truncate == Truncate::right) {
    const bool answer = row.end > most;
    keep(row, most, most, most);
    ++counts_.truncated;
    counts_.answers_cut += answer;
    note(c, full, answer ? "cut on the right, the answer too" : "cut on the right");
  } else if (full > most) {
    const size_t answer = row.end - row.answer, source = row.answer;
    const bool plain = source <= (chat_.encode_options().bos ? 1u : 0u);  // a text has no source
    if (plain || answer >= most) {
      keep(row, 0, plain ? 0 : source, (plain ? 0 : source) + most);
      ++counts_.answers_cut;
      note(c, full,
           concat("an answer of ", answer, " tokens, cut on the right",
                  plain ? "" : ", without its source"));
    } else if (row.end > most) {
      const size_t room = most - answer, last = room / 2, first = room - last;
      if (options_.mask_prompt && unlearn_cut_answers(row, first, source - last))
        ++counts_.answers_cut;
      keep(row, first, source - last, row.end);
      ++counts_.truncated;
      note(c, full,
           concat("the source keeps its first ", first, " and last ", last, " of ", source,
                  " tokens"));
    } else {
      keep(row, row.end, row.end, row.end);  // what the template writes after the answer
    }
  }
  const uint64_t targets = count_targets(row);
  if (targets == 0) {
    ++counts_.without_target;
    return note(c, full, "left out: nothing is left to learn");
  }
  ++counts_.kept;
  counts_.tokens += row.ids.size();
  counts_.targets += targets;
  ids_.insert(ids_.end(), row.ids.begin(), row.ids.end());
  learned_.insert(learned_.end(), row.learned.begin(), row.learned.end());
  begin_.push_back(ids_.size());
  where_.push_back(c.where);
}

void InstructionRows::refuse_if_empty(const std::vector<std::string>& files) const {
  const InstructionCounts& c = counts_;
  const std::string name = files.empty() ? "data" : files[0];
  const std::string first = notes_.empty() ? "" : "; the first: " + notes_[0].where;
  const std::string hint = "--truncate middle keeps the answers; a larger --ctx-size cuts less";
  if (static_cast<double>(c.without_target) >
      options_.max_without_target * static_cast<double>(c.rows))
    throw Error(concat(name, ": ", c.without_target, " of ", c.rows,
                       " rows have nothing left to learn at ", options_.context, " tokens", first),
                Fault::bad_file, hint);
  if (c.kept == 0)
    throw Error(concat(name, ": no row is left to learn from: of ", c.rows, ", ", c.too_long,
                       " are longer than ", options_.context, " tokens, ", c.without_target,
                       " have no target, ", c.bad, " are bad", first),
                Fault::bad_file, hint);
}

int64_t InstructionRows::length(int64_t row) const {
  const auto i = static_cast<size_t>(row);
  return static_cast<int64_t>(begin_[i + 1] - begin_[i]);
}

TextRow InstructionRows::read(int64_t row) const {
  CHECK(row >= 0 && row < size(), "row ", row, " of ", size());
  const auto begin = static_cast<std::ptrdiff_t>(begin_[static_cast<size_t>(row)]);
  const auto end = static_cast<std::ptrdiff_t>(begin_[static_cast<size_t>(row) + 1]);
  return {{ids_.begin() + begin, ids_.begin() + end},
          {learned_.begin() + begin, learned_.begin() + end},
          {}};
}

std::string InstructionRows::fingerprint() const {
  Sha256 hash;
  hash.update(ids_.data(), ids_.size() * sizeof(int32_t));
  hash.update(learned_.data(), learned_.size());
  hash.update(begin_.data(), begin_.size() * sizeof(size_t));
  return hash.hex();
}

}  // namespace mullion
