// Time over lengths of prompts and answers and numbers of threads: artifacts.<id>.latency of the report.
#include "base/check.h"
#include "report/facts.h"
#include "report/html.h"
#include "report/markdown.h"

namespace attar {
namespace {

/// The points of an artifact, by name; a report without a grid has the one that its numbers are of.
std::vector<std::pair<std::string, const Json*>> latency_points(const Json& artifact) {
  const Json *latency = find_at(artifact, {"latency"}), *grid = find_at(latency, {"grid"});
  std::vector<std::pair<std::string, const Json*>> out;
  if (grid && grid->is_object())
    for (const auto& [name, point] : grid->items()) out.emplace_back(name, &point);
  if (out.empty() && number_of(find_at(latency, {"tokens_per_s"}))) out.emplace_back("", latency);
  return out;
}

/// One number of a point: its key, a part of it or "", its title, what it is multiplied with.
struct PointColumn {
  const char *key, *part, *title;
  double scale;
};
constexpr PointColumn kPointColumns[] = {{"prompt_tokens", "", "prompt", 0},
                                         {"new_tokens", "", "new", 0},
                                         {"threads", "", "threads", 0},
                                         {"ttft_s", "value", "first token, ms", 1000},
                                         {"ttft_s", "p99", "99% below, ms", 1000},
                                         {"time_per_token_s", "value", "next token, ms", 1000},
                                         {"time_per_token_s", "p99", "99% of them below, ms", 1000},
                                         {"tokens_per_s", "value", "tokens/s", 1},
                                         {"prompt_tokens_per_s", "value", "tokens read/s", 1}};

const Json* column_number(const Json& point, const PointColumn& column) {
  return number_of(*column.part ? find_at(point, {column.key, column.part}) : find_at(point, {column.key}));
}

/// Lengths and threads as they are; measured numbers with three digits.
std::string column_text(const Json& number, const PointColumn& column) {
  return column.scale == 0 ? to_line(number) : significant(column.scale * number.get<double>(), 3);
}

/// A table of one artifact's points, and what was left out and why.
std::string points_html(const Json& artifact) {
  std::vector<std::string> header = {"point"};
  for (const PointColumn& column : kPointColumns) header.push_back(column.title);
  std::vector<std::vector<HtmlCell>> rows;
  std::string loose;
  for (const auto& [name, point] : latency_points(artifact)) {
    rows.push_back({{"<code>" + escape_html(name) + "</code>", "name"}});
    for (const PointColumn& column : kPointColumns) {
      const Json* number = column_number(*point, column);
      std::string shown = number_html(number, number ? column_text(*number, column) : "");
      const Json *low = number_of(find_at(*point, {column.key, "p10"})), *high = number_of(find_at(*point, {column.key, "p90"}));
      if (std::string_view(column.part) == "value" && number && low && high)
        shown += " <span class=\"interval under\">[" + number_html(low, column_text(*low, column)) + ", "
            + number_html(high, column_text(*high, column)) + "]</span>";
      rows.back().push_back({shown, "number"});
    }
    const std::string why = text_of(find_at(*point, {"not_pinned"}));
    if (!why.empty()) loose += "<li>" + escape_html(name + ": threads were not pinned: " + why) + "</li>\n";
  }
  if (const Json* left_out = find_at(artifact, {"latency", "left_out"}); left_out && left_out->is_array())
    for (const Json& point : *left_out) loose += "<li>" + escape_html("left out, " + text_of(&point)) + "</li>\n";
  return table_html(header, rows, true) + (loose.empty() ? "" : "<ul class=notes>\n" + loose + "</ul>\n");
}

std::string latency_chart(const std::string& caption, const char* key) {
  return "<figure class=chart><figcaption>" + caption + "</figcaption><div class=canvas><canvas role=img aria-label=\"" + caption +
         "\" data-chart=latency data-of=" + key + "></canvas></div></figure>\n";
}

}  // namespace

std::string latency_grid_html(const Json& report) {
  constexpr size_t kDrawn = 5;  // lines that the charts' script draws
  const std::string choice = text_of(find_at(report, {"summary", "choice"}));
  const bool chosen = find_at(artifacts_of(report), {choice}) != nullptr;
  size_t gridded = 0;
  for (const auto& [id, artifact] : artifacts_of(report).items()) gridded += latency_points(artifact).size() > 1;
  std::string tables;
  for (const auto& [id, artifact] : artifacts_of(report).items()) {
    if (latency_points(artifact).empty() || (gridded == 0 && !find_at(artifact, {"latency", "left_out"}))) continue;
    tables += details_html(id, points_html(artifact), chosen ? id == choice : tables.empty());
  }
  if (tables.empty()) return "";
  std::string out = "<h3>Over lengths and threads</h3>\n<p class=note>Medians, and in brackets what 10% and 90% stay below: of the runs, and for the "
                    "next token of all new tokens but the first.";
  if (gridded > kDrawn) out += " The charts show the choice, the base and the first others; the tables have all.";
  out += "</p>\n";
  if (gridded > 0)
    out += "<div class=grid>\n" + latency_chart("Time to first token", "ttft_s") + latency_chart("Tokens a second", "tokens_per_s") + "</div>\n";
  return out + tables;
}

std::string latency_markdown(const Json& report) {
  std::vector<std::string> header = {"artifact"};
  for (const PointColumn& column : kPointColumns) header.push_back(column.title);
  header.push_back("load, ms"), header.push_back("peak memory");
  std::vector<std::vector<std::string>> rows;
  for (const auto& [id, artifact] : artifacts_of(report).items()) {
    bool first = true;
    for (const auto& [name, point] : latency_points(artifact)) {
      rows.push_back({escape_markdown(id)});
      for (const PointColumn& column : kPointColumns) {
        const Json* number = column_number(*point, column);
        rows.back().push_back(number ? column_text(*number, column) : "–");
      }
      const auto load = double_of(find_at(artifact, {"latency", "load_s"})), peak = double_of(find_at(artifact, {"memory", "peak_rss_bytes"}));
      rows.back().push_back(!first ? "" : load ? significant(1000 * *load, 3) : "–");
      rows.back().push_back(!first ? "" : peak ? human_bytes(*peak) : "–");
      first = false;
    }
  }
  if (rows.empty()) return "";
  return "\n## Running it\n\nGreedy generation for one user, medians. Lengths in tokens; the load is attar's own, of files that had just been read; "
         "peak memory is that of the whole evaluating process.\n\n" + markdown_table(header, rows);
}

}  // namespace attar
