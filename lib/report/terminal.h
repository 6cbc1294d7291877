#pragma once
#include <string>
#include <vector>

#include "base/json.h"

namespace attar {

/// A readable table for a terminal: columns as wide as their widest cell (Unicode width), numbers right-aligned.
std::string format_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);

/// What a run came to, from its report.json: verdict, a table with a line per artifact, gates.
std::string terminal_summary(const Json& report);

}  // namespace attar
