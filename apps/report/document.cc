// Blocks kept as data; HTML and Markdown are two walks over them.
#include "apps/report/document.h"

#include "apps/report/chart.h"
#include "data/png.h"

namespace mullion {
namespace {

constexpr char kStyle[] = R"(
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:64rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{margin-top:2.2rem;border-bottom:1px solid #ddd}h3{margin-top:1.6rem}
.wide{overflow-x:auto}table{border-collapse:collapse;margin:.6rem 0}th,td{padding:.2rem .7rem;border-bottom:1px solid #e3e3e3;
text-align:right}th:first-child,td:first-child{text-align:left}td{overflow-wrap:anywhere;min-width:3rem}
caption{text-align:left;font-weight:600}
pre{background:#f6f6f4;padding:.7rem;overflow-x:auto;font-size:13px}.note{color:#666;font-size:13px}
.charts{display:flex;flex-wrap:wrap;gap:1rem}svg{max-width:100%}
.pictures{display:flex;flex-wrap:wrap;gap:.8rem}figure{margin:0;font-size:12px;text-align:center}
figure img{image-rendering:pixelated;display:block;border:1px solid #bbb}
figure.marked img{border:3px solid #d55e00}@media print{details{display:block}}
)";

constexpr char kChartStyle[] = R"(
svg{background:#fff}
svg text{font:11px system-ui,sans-serif;fill:#444}svg .title{font-weight:600;font-size:13px}
svg .end{text-anchor:end}svg .mid{text-anchor:middle}svg .grid{stroke:#e6e6e6}
svg .line{fill:none;stroke-width:1.8}svg .faint{fill:none;stroke-width:.8;opacity:.28}
)";

std::string markdown_cell(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

std::string joined(const std::vector<std::string>& cells, const std::string& tag) {
  std::string out = "<tr>";
  for (const std::string& cell : cells) {
    out += "<" + tag + ">" + html_escape(cell) + "</" + tag + ">";
  }
  return out + "</tr>\n";
}

}  // namespace

std::string standalone_svg(const std::string& chart) {
  const size_t inside = chart.find('>') + 1;
  return "<svg xmlns=\"http://www.w3.org/2000/svg\"" + chart.substr(4, inside - 4) + "<style>" +
         kChartStyle + "</style>" + chart.substr(inside);
}

Document::Document(std::string title) : title_(std::move(title)) { heading(1, title_); }

void Document::heading(int level, const std::string& text) {
  const std::string tag = "h" + std::to_string(level);
  body_ += "<" + tag + ">" + html_escape(text) + "</" + tag + ">\n";
  markdown_ += std::string(static_cast<size_t>(level), '#') + " " + text + "\n\n";
}

void Document::paragraph(const std::string& text) {
  body_ += "<p>" + html_escape(text) + "</p>\n";
  markdown_ += text + "\n\n";
}

void Document::code(const std::string& summary, const std::string& text, bool open) {
  body_ += std::string("<details") + (open ? " open" : "") + "><summary>" + html_escape(summary) +
           "</summary><pre>" + html_escape(text) + "</pre></details>\n";
  // What is folded away on the page would be in the way in plain text.
  if (open)
    markdown_ += summary + "\n\n```\n" + text + (text.ends_with('\n') ? "" : "\n") + "```\n\n";
}

void Document::table(const Table& table) {
  body_ += "<div class=\"wide\"><table>";
  if (!table.title.empty()) {
    body_ += "<caption>" + html_escape(table.title) + "</caption>";
    markdown_ += "**" + table.title + "**\n\n";
  }
  body_ += "\n" + joined(table.columns, "th");
  std::string rule;
  for (const std::string& column : table.columns) {
    markdown_ += "| " + markdown_cell(column) + " ";
    rule += rule.empty() ? "| :--- " : "| ---: ";
  }
  markdown_ += "|\n" + rule + "|\n";
  for (const auto& row : table.rows) {
    body_ += joined(row, "td");
    for (const std::string& cell : row) markdown_ += "| " + markdown_cell(cell) + " ";
    markdown_ += "|\n";
  }
  body_ += "</table></div>\n";
  markdown_ += "\n";
  if (table.note.empty()) return;
  body_ += "<p class=\"note\">" + html_escape(table.note) + "</p>\n";
  markdown_ += table.note + "\n\n";
}

void Document::charts(const std::vector<std::string>& svgs, const std::string& caption) {
  std::string all;
  for (const std::string& svg : svgs) all += svg;
  if (all.empty()) return;
  body_ += "<div class=\"charts\">" + all + "</div>\n<p class=\"note\">" + html_escape(caption) +
           "</p>\n";
  markdown_ += "*Figure in report.html: " + caption + "*\n\n";
}

void Document::pictures(const std::vector<Picture>& pictures, int side,
                        const std::string& caption) {
  if (pictures.empty()) return;
  body_ += "<div class=\"pictures\">";
  for (const Picture& picture : pictures) {
    body_ += std::string("<figure") + (picture.marked ? " class=\"marked\"" : "") +
             "><img alt=\"\" width=\"" + std::to_string(side) + "\" src=\"data:image/png;base64," +
             base64(encode_png(picture.image)) + "\"><figcaption>" + html_escape(picture.caption) +
             "</figcaption></figure>\n";
  }
  body_ += "</div>\n<p class=\"note\">" + html_escape(caption) + "</p>\n";
  markdown_ += "*Figure in report.html: " + caption + "*\n\n";
}

std::string Document::html() const {
  return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" +
         html_escape(title_) + "</title><style>" + kStyle + kChartStyle +
         "</style></head><body>\n" + body_ + "</body></html>\n";
}

std::string base64(const std::vector<uint8_t>& bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t left = bytes.size() - i;
    const uint32_t word = uint32_t{bytes[i]} << 16 | (left > 1 ? uint32_t{bytes[i + 1]} << 8 : 0) |
                          (left > 2 ? uint32_t{bytes[i + 2]} : 0);
    out += kDigits[word >> 18];
    out += kDigits[word >> 12 & 63];
    out += left > 1 ? kDigits[word >> 6 & 63] : '=';
    out += left > 2 ? kDigits[word & 63] : '=';
  }
  return out;
}

}  // namespace mullion
