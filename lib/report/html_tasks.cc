#include "report/facts.h"
#include "report/html.h"

namespace attar {

std::string fields_html(const Json& details) {
  const Json* fields = find_at(details, {"fields"});
  if (!fields || !fields->is_array()) return "";
  std::vector<std::vector<HtmlCell>> rows;
  for (const Json& field : *fields) {
    std::vector<HtmlCell> row = {{escape_html(text_of(find_at(field, {"field"}))), "name"}};
    for (const char* key : {"precision", "recall", "f1"}) {
      const Json* number = number_of(find_at(field, {key}));
      row.push_back({number_html(number, number ? percent(number->get<double>()) : ""), "number"});
    }
    const Json* n = number_of(find_at(field, {"n"}));
    row.push_back({number_html(n, n ? to_line(*n) : ""), "number"});
    rows.push_back(std::move(row));
  }
  return rows.empty() ? "" : "<h4>Field by field</h4>\n" + table_html({"field", "precision", "recall", "F1", "values"}, rows);
}

std::string mistakes_html(const Json& details) {
  const Json* mistakes = find_at(details, {"mistakes"});
  if (!mistakes || !mistakes->is_array()) return "";
  std::vector<std::vector<HtmlCell>> rows;
  for (const Json& mistake : *mistakes) {
    const Json* line = number_of(find_at(mistake, {"line"}));
    rows.push_back({{number_html(line, line ? to_line(*line) : ""), "number"}, {escape_html(text_of(find_at(mistake, {"expected"}))), ""},
                    {escape_html(text_of(find_at(mistake, {"written"}))), ""}});
  }
  return rows.empty() ? "" : details_html("The first wrong answers", table_html({"line of the test file", "expected", "written"}, rows));
}

}  // namespace attar
