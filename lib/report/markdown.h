#pragma once
#include <string>
#include <vector>

#include "base/json.h"

namespace attar {

/// Text in a Markdown table or sentence: one line, nothing in it acts as markup. (Not for code spans: backslashes mean nothing there.)
std::string escape_markdown(const std::string& text);
/// A table of cells that are Markdown already; the first column to the left, the others to the right.
std::string markdown_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);

// Parts of the card; each is "" when the report has nothing to say there. `report` is complete (facts.h).
std::string candidates_markdown(const Json& report);  ///< of a sweep, smallest first
std::string costs_markdown(const Json& report);       ///< money, and against each API
std::string routing_markdown(const Json& report);
std::string latency_markdown(const Json& report);     ///< times over lengths and threads, load, memory
std::string kv_cache_markdown(const Json& report);

}  // namespace attar
