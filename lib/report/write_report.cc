#include "report/facts.h"
#include "report/html.h"
#include "report/report.h"

namespace attar {

void write_report(const Json& report, const std::map<std::string, std::vector<Json>>& logs, const fs::path& folder) {
  const Json whole = complete_report(report, logs);
  write_json(folder / "report.json", whole);
  write_file(folder / "report.html", report_html(whole));
  write_file(folder / "report.md", report_markdown(whole));
}

}  // namespace attar
