#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"

namespace attar {

/// Text as HTML, fit for element content and quoted attributes; line breaks stay, invalid UTF-8 becomes U+FFFD.
std::string escape_html(std::string_view text);

/// A number on the page: shown rounded, with the number as it stands in report.json in data-value. "–" for a null pointer.
std::string number_html(const Json* number, const std::string& shown);

/// A table cell: its HTML, and what orders, aligns or marks it.
struct HtmlCell {
  std::string html;
  std::string kind;  ///< CSS classes: "number", "name", ""
};
/// A table that scrolls sideways where it must; on a phone, with `cards`, every row becomes a card with its column names.
std::string table_html(const std::vector<std::string>& header, const std::vector<std::vector<HtmlCell>>& rows, bool cards = false,
                       const std::vector<std::string>& row_classes = {});
/// <section> with a heading that the table of contents links to; "" if there is no body.
std::string section_html(const std::string& id, const std::string& title, const std::string& note, const std::string& body);
/// Folded away until opened.
std::string details_html(const std::string& summary, const std::string& body, bool open = false);
std::string code_html(const std::string& code);

// Parts of the page; each is "" when the report has nothing to say there. `report` is complete (facts.h).
std::string verdict_section(const Json& report);
std::string gates_section(const Json& report);
std::string artifacts_section(const Json& report);
std::string quality_section(const Json& report);      ///< chart of quality against size
std::string tasks_section(const Json& report);        ///< metrics; confusion, per class, reliability; fields; wrong answers
std::string fields_html(const Json& details);         ///< an extraction's fields
std::string mistakes_html(const Json& details);       ///< the first wrong answers that were written
std::string running_section(const Json& report);      ///< latency, memory, energy, cost
std::string privacy_section(const Json& report);      ///< training rows that come back word for word
/// What memorization's numbers are, with the first artifact's lengths, and one artifact's numbers as text; "" if none was tried.
std::string memorization_note(const Json& report);
std::string memorization_text(const Json& artifact);
std::string training_section(const Json& report);     ///< loss curves
std::string surgery_section(const Json& report);      ///< what was pruned where, types of exports
std::string pruning_html(const std::string& id, const Json& stage);  ///< of one stage: its masks, the shapes that its search tried
std::string pruning_markdown(const Json& report);
std::string decision_section(const Json& report);     ///< candidates of a sweep, money
std::string routing_section(const Json& report);      ///< routers: the promise, the curve, the cost
std::string latency_grid_html(const Json& report);    ///< over lengths and threads, for running_section
std::string kv_cache_html(const Json& report);        ///< what a cache of fewer bits costs, for running_section
std::string use_section(const Json& report);
std::string lineage_section(const Json& report);      ///< how to reproduce, recipe, environment, hashes
std::string words_section(const Json& report);        ///< what the numbers mean

std::string report_html(const Json& report);
std::string report_markdown(const Json& report);

/// How to run the files: a title and the commands for each export of the report.
struct UseSnippet {
  std::string title, language, code;
};
std::vector<UseSnippet> use_snippets(const Json& report);
/// A word for a POSIX shell, quoted where it must be.
std::string shell_word(const std::string& word);

/// The charts' script, and the library it calls (Chart.js, embedded when attar was built).
std::string_view chart_script();
std::string_view chart_library();

}  // namespace attar
