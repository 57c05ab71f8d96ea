// A small XML reader by hand; rows come out as the JSON form of the data set has them.
#include "apps/llama/evaluation/copa_xml.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "data/text_encoding.h"
#include "data/utf8.h"
#include "tensor/check.h"
#include "tensor/io/file.h"

namespace mullion {
namespace {

// Elements with attributes and text, as far as the data set needs them: comments and the document
// type are passed over, other entities than XML's own five are refused.
class Reader {
 public:
  Reader(std::string text, std::string file) : text_(std::move(text)), file_(std::move(file)) {}

  struct Tag {
    std::string name;  // "/item" where it ends an element, "" at the end of the file
    std::map<std::string, std::string> attributes;
  };

  std::string where() const {
    const auto here = text_.begin() + static_cast<std::ptrdiff_t>(at_);
    return concat(file_, ": line ", 1 + std::count(text_.begin(), here, '\n'));
  }
  [[noreturn]] void refuse(const std::string& what) const {
    fail(Fault::bad_file, where(), ": ", what);
  }

  // The next tag; `before`: the text up to it.
  Tag tag(std::string& before) {
    before.clear();
    while (true) {
      const size_t open = std::min(text_.find('<', at_), text_.size());
      before += plain(std::string_view(text_).substr(at_, open - at_));
      at_ = open;
      if (open == text_.size()) return {};
      if (text_.compare(open, 4, "<!--") == 0) {
        skip("-->");
      } else if (text_.compare(open, 2, "<?") == 0) {
        skip("?>");
      } else if (text_.compare(open, 2, "<!") == 0) {
        skip(">");
      } else {
        return inside();
      }
    }
  }

 private:
  void skip(const char* end) {
    const size_t found = text_.find(end, at_);
    if (found == text_.npos) refuse(concat("no ", end, " ends what begins here"));
    at_ = found + std::string_view(end).size();
  }

  Tag inside() {
    const size_t close = text_.find('>', at_);
    if (close == text_.npos) refuse("a tag without an end");
    std::string_view rest = std::string_view(text_).substr(at_ + 1, close - at_ - 1);
    const auto word = [&](std::string_view ends) {
      const size_t end = std::min(rest.find_first_of(ends), rest.size());
      const std::string_view found = rest.substr(0, end);
      rest.remove_prefix(end);
      return std::string(found);
    };
    const auto skip_space = [&] {
      while (!rest.empty() && ascii_space(rest[0])) rest.remove_prefix(1);
    };
    Tag tag{word(" \t\r\n"), {}};
    for (skip_space(); !rest.empty(); skip_space()) {
      const std::string name = word("=");
      const char quote = rest.size() > 1 ? rest[1] : ' ';
      const size_t end = quote == '"' || quote == '\'' ? rest.find(quote, 2) : rest.npos;
      if (end == rest.npos) refuse(concat("<", tag.name, ">: no attribute NAME=\"VALUE\""));
      tag.attributes[name] = plain(rest.substr(2, end - 2));
      rest.remove_prefix(end + 1);
    }
    at_ = close + 1;
    return tag;
  }

  std::string plain(std::string_view text) const {
    constexpr std::pair<std::string_view, char> kEntities[] = {
        {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    std::string out;
    while (!text.empty()) {
      const size_t plain = std::min(text.find('&'), text.size());
      out += text.substr(0, plain);
      text.remove_prefix(plain);
      if (text.empty()) break;
      const auto* entity = std::find_if(std::begin(kEntities), std::end(kEntities),
                                        [&](const auto& e) { return text.starts_with(e.first); });
      if (entity == std::end(kEntities))
        refuse(concat("an entity that is not known here: ", text.substr(0, 8)));
      out += entity->second;
      text.remove_prefix(entity->first.size());
    }
    return out;
  }

  const std::string text_, file_;
  size_t at_ = 0;
};

nlohmann::json row_of(Reader& reader, const Reader::Tag& item) {
  nlohmann::json row = nlohmann::json::object();
  for (const auto& [attribute, field] :
       {std::pair{"id", "id"}, {"asks-for", "question"}, {"most-plausible-alternative", "label"}}) {
    const auto found = item.attributes.find(attribute);
    if (found == item.attributes.end()) reader.refuse(concat("<item>: no ", attribute));
    row[field] = found->second;
  }
  // Alternatives are counted from 1 here, from 0 in the JSON.
  if (row["label"] != "1" && row["label"] != "2")
    reader.refuse(concat("most-plausible-alternative: ", row["label"].get<std::string>(),
                         " is neither 1 nor 2"));
  row["label"] = row["label"] == "1" ? 0 : 1;
  std::string text, between;
  for (Reader::Tag tag = reader.tag(between); tag.name != "/item"; tag = reader.tag(between)) {
    const char* field = tag.name == "p"    ? "premise"
                        : tag.name == "a1" ? "choice1"
                        : tag.name == "a2" ? "choice2"
                                           : nullptr;
    if (!field) reader.refuse(concat("<", tag.name, "> within an <item>, which has p, a1 and a2"));
    if (row.contains(field)) reader.refuse(concat("<", tag.name, "> a second time"));
    if (reader.tag(text).name != "/" + tag.name) reader.refuse(concat("no </", tag.name, ">"));
    row[field] = text;
  }
  return row;
}

}  // namespace

void each_copa_item(
    const std::filesystem::path& file,
    const std::function<void(const nlohmann::json&, const std::string& where)>& use) {
  constexpr uint64_t kMostBytes = 64 << 20;
  Reader reader(decode_utf8(read_whole_file(file, kMostBytes), file.string()), file.string());
  std::string between;
  const Reader::Tag corpus = reader.tag(between);
  if (corpus.name != "copa-corpus") reader.refuse("no <copa-corpus> begins the file");
  size_t items = 0;
  for (Reader::Tag tag = reader.tag(between); tag.name != "/copa-corpus";
       tag = reader.tag(between)) {
    if (tag.name != "item")
      reader.refuse(tag.name.empty() ? "the file ends without </copa-corpus>"
                                     : concat("<", tag.name, "> where an <item> should be"));
    const std::string where = reader.where();
    use(row_of(reader, tag), where);
    ++items;
  }
  CHECK_AS(Fault::bad_file, items > 0, file.string(), ": no items");
}

}  // namespace mullion
