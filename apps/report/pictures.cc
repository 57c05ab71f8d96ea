// Attention patterns and predictions as pictures.
#include <algorithm>
#include <cmath>

#include "apps/report/chart.h"
#include "apps/report/sections.h"
#include "apps/tic/image_data.h"
#include "autograd/ops.h"
#include "data/image_folder.h"
#include "tensor/attention_pattern.h"

namespace mullion {
namespace {

constexpr int64_t kTokens = 64, kHeads = 4;
constexpr uint8_t kSeen[3] = {0, 92, 150}, kHidden[3] = {250, 250, 248}, kFuture[3] = {213, 94, 0};

// Row i, column j: whether the query at token i sees the key at token j; a key after the query is
// a leak and drawn in another colour.
Image pattern_image(const AttentionPattern& pattern, int64_t head) {
  Image image;
  image.resize(kTokens, kTokens);
  for (int64_t i = 0; i < kTokens; ++i) {
    for (int64_t j = 0; j < kTokens; ++j) {
      const uint8_t* colour = !visible(pattern, head, i, j) ? kHidden : j > i ? kFuture : kSeen;
      std::copy_n(colour, 3, image.row(static_cast<int>(i)) + 3 * j);
    }
  }
  return image;
}

// Every n-th picture, so that all classes have their part.
std::vector<int64_t> spread(int64_t size, int count) {
  std::vector<int64_t> chosen;
  const int64_t n = std::min<int64_t>(count, size);
  for (int64_t i = 0; i < n; ++i) chosen.push_back((2 * i + 1) * size / (2 * n));
  return chosen;
}

}  // namespace

void add_pattern(Document& document, const std::string& name) {
  const AttentionPattern pattern = make_pattern(name, {.n_heads = kHeads, .context = kTokens});
  std::vector<Picture> pictures;
  for (int64_t head = 0; head < kHeads;) {
    int64_t end = head + 1;
    while (end < kHeads && same_view(pattern, head, end)) ++end;
    const std::string caption =
        end == head + 1 ? "head " + std::to_string(head)
                        : "heads " + std::to_string(head) + " to " + std::to_string(end - 1);
    pictures.push_back({pattern_image(pattern, head), name + ", " + caption, false});
    head = end;
  }
  const std::string share =
      short_number(std::round(1000 * visible_fraction(pattern, kTokens)) / 10);
  document.pictures(pictures, 192,
                    name + ": " + describe(pattern) + " Over all heads " + share +
                        " % of full attention's pairs are seen.");
}

void add_attention(Document& document, const std::vector<RunRecord>& runs) {
  document.heading(3, "Attention patterns");
  document.paragraph(
      "Row: the token that asks; column: the token that is asked; top left the "
      "beginning. Drawn from the predicate that the kernels are tested against, for "
      "64 tokens and 4 heads.");
  std::vector<std::string> names = {"full", "s2", "sf"};
  for (const RunRecord& run : runs) {
    const auto kind = run.config.find("attention.kind");
    if (kind == run.config.end() || kind->second.size() < 2) continue;
    const std::string name = kind->second.substr(1, kind->second.size() - 2);  // without quotes
    const auto& known = pattern_names();
    if (std::find(known.begin(), known.end(), name) == known.end()) continue;
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  for (const std::string& name : names) add_pattern(document, name);
}

void add_predictions(Document& document, const RunRecord& run, const std::filesystem::path& images,
                     int count) {
  const LoadedTic loaded = load_tic(run.folder, false);
  const TicDescription& d = loaded.description;
  FolderOptions options;
  options.classes = &d.classes;
  const ImageFolder folder(images.string(), options);
  tell_of(folder);
  const EvalTransform transform = d.transform(d.img_size, d.img_size);
  NoGrad no_grad;
  std::vector<Picture> pictures;
  int64_t right = 0;
  for (const int64_t index : spread(folder.size(), count)) {
    const PictureFile picture(folder.path(index), d.exif);
    const auto p = softmax((*loaded.model)(picture.input(transform))).to_vector<float>();
    const auto best = static_cast<size_t>(std::max_element(p.begin(), p.end()) - p.begin());
    const auto truth = static_cast<size_t>(folder.label(index));
    right += best == truth;
    std::string caption = d.shown(best) + " " + short_number(std::round(100 * p[best])) + " %";
    if (best != truth) caption += ", is " + d.shown(truth);
    Image shown;
    picture.encoded.decode(shown);
    pictures.push_back({std::move(shown), caption, best != truth});
  }
  document.heading(3, "Predictions of " + run.name);
  document.pictures(pictures, 96,
                    std::to_string(pictures.size()) + " images of " + images.string() +
                        ", spread over the classes: " + std::to_string(right) +
                        " right; the framed ones are wrong.");
}

}  // namespace mullion
