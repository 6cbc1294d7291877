#include "report/html.h"

#include "base/utf8.h"
#include "report/facts.h"
#include "report/style.h"

namespace attar {
namespace {

/// JSON that may stand inside a <script>: nothing in it can end the element or begin a comment.
std::string script_json(const Json& value) {
  std::string out;
  for (const char c : to_line(value)) {
    if (c == '<') out += "\\u003c";
    else if (c == '>') out += "\\u003e";
    else if (c == '&') out += "\\u0026";
    else out += c;
  }
  return out;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text, at);
    const char c = text[at];
    if (length == 0) out += "\xEF\xBF\xBD";
    else if (length > 1) out += text.substr(at, length);
    else if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else if (c == '\'') out += "&#39;";
    else if ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7F) out += "\xEF\xBF\xBD";
    else out += c;
    at += length ? length : 1;
  }
  return out;
}

std::string number_html(const Json* number, const std::string& shown) {
  if (!number) return "<span class=none>–</span>";
  return "<span data-value=\"" + escape_html(to_line(*number)) + "\">" + escape_html(shown) + "</span>";
}

std::string table_html(const std::vector<std::string>& header, const std::vector<std::vector<HtmlCell>>& rows, bool cards,
    const std::vector<std::string>& row_classes) {
  std::string out = cards ? "<div class=\"wide cards\">" : "<div class=wide>";
  out += header.size() <= 3 ? "<table class=narrow><thead><tr>" : "<table><thead><tr>";
  for (size_t c = 0; c < header.size(); ++c) {
    const bool number = !rows.empty() && c < rows[0].size() && rows[0][c].kind.find("number") != std::string::npos;
    out += std::string(number ? "<th scope=col class=number>" : "<th scope=col>") + escape_html(header[c]) + "</th>";
  }
  out += "</tr></thead><tbody>\n";
  for (size_t r = 0; r < rows.size(); ++r) {
    out += r < row_classes.size() && !row_classes[r].empty() ? "<tr class=\"" + row_classes[r] + "\">" : "<tr>";
    for (size_t c = 0; c < rows[r].size(); ++c) {
      const HtmlCell& cell = rows[r][c];
      const bool name = cell.kind.find("name") != std::string::npos;
      out += name ? "<th scope=row" : "<td";
      if (!cell.kind.empty()) out += " class=\"" + cell.kind + "\"";
      if (cards && c < header.size()) out += " data-label=\"" + escape_html(header[c]) + "\"";
      out += ">" + cell.html + (name ? "</th>" : "</td>");
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string section_html(const std::string& id, const std::string& title, const std::string& note, const std::string& body) {
  if (body.empty()) return "";
  return "<section id=\"" + id + "\"><h2>" + escape_html(title) + "</h2>\n" + (note.empty() ? "" : "<p class=note>" + escape_html(note) + "</p>\n")
      + body + "</section>\n";
}

std::string details_html(const std::string& summary, const std::string& body, bool open) {
  return std::string(open ? "<details open>" : "<details>") + "<summary>" + escape_html(summary) + "</summary>\n" + body + "</details>\n";
}

std::string code_html(const std::string& code) { return "<pre><code>" + escape_html(code) + "</code></pre>\n"; }

std::string report_html(const Json& report) {
  struct Part {
    const char *id, *title;
    std::string (*make)(const Json&);
  };
  static constexpr Part kParts[] = {{"gates", "Gates", gates_section},          {"artifacts", "Artifacts", artifacts_section},  {"quality",
      "Quality and size", quality_section},
                                    {"decision", "Candidates and cost", decision_section},
                                    {"routing", "Routing", routing_section},
                                    {"tasks", "Tasks", tasks_section},          {"running", "Running", running_section},        {"privacy",
                                        "Privacy", privacy_section},            {"training",
                                        "Training", training_section},
                                    {"surgery", "Weights", surgery_section},    {"use", "Use", use_section},                    {"lineage",
                                        "Lineage", lineage_section},
                                    {"words", "Words", words_section}};
  std::string contents, body;
  for (const Part& part : kParts) {
    const std::string section = part.make(report);
    if (section.empty()) continue;
    contents += std::string("<a href=\"#") + part.id + "\">" + part.title + "</a>\n";
    body += section;
  }
  std::string name = text_of(find_at(report, {"name"}));
  if (name.empty()) name = "attar";
  std::string out =
      "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n<meta name=viewport content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=color-scheme content=\"light dark\">\n<meta name=generator content=attar>\n"
      "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
          "img-src data:\">\n";
  out += "<title>" + escape_html(name) + " – attar report</title>\n<style>" + kReportStyle + "</style>\n</head>\n<body>\n<main>\n";
  out += verdict_section(report);
  out += "<nav aria-label=Contents>\n" + contents + "</nav>\n" + body;
  out += "</main>\n<script type=\"application/json\" id=report-json>" + script_json(report) + "</script>\n";
  out += "<script>";
  out += chart_library();
  out += "</script>\n<script>";
  out += chart_script();
  return out + "</script>\n</body>\n</html>\n";
}

}  // namespace attar
