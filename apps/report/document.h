// A report under construction: blocks that become one self-contained HTML page (no script, nothing
// from outside) and the same in Markdown, where a figure is its caption.
#pragma once
#include <string>
#include <vector>

#include "data/image.h"

namespace mullion {

struct Table {
  std::string title;
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  // as many cells as columns
  std::string note;
};

struct Picture {
  Image image;
  std::string caption;
  bool marked = false;  // framed, e.g. a wrong prediction
};

// A chart of svg_chart() (chart.h) as a file of its own, which takes its style along.
std::string standalone_svg(const std::string& chart);

class Document {
 public:
  explicit Document(std::string title);
  void heading(int level, const std::string& text);
  void paragraph(const std::string& text);
  void code(const std::string& summary, const std::string& text, bool open = true);
  void table(const Table& table);
  // SVGs side by side; empty ones are left out. The caption says it in words.
  void charts(const std::vector<std::string>& svgs, const std::string& caption);
  // Pictures in a row that wraps; `side`: the width in which each is shown, pixels.
  void pictures(const std::vector<Picture>& pictures, int side, const std::string& caption);

  std::string html() const;
  std::string markdown() const { return markdown_; }

 private:
  std::string title_, body_, markdown_;
};

std::string base64(const std::vector<uint8_t>& bytes);

}  // namespace mullion
