// attar drift: new inputs against those that a model was judged on.
#include <cstdio>
#include <iostream>

#include "engine_tools.h"
#include "report/terminal.h"
#include "stages/drift.h"

namespace attar {
namespace {

std::string short_number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.4g", value);
  return text;
}

}  // namespace

int tool_drift(const Words& words) {
  DriftRequest request;
  request.reference = words.get("reference"), request.artifact = words.get("artifact"), request.model = words.get("model");
  request.data = words.get("data"), request.task = words.get("task");
  request.level = words.number("level"), request.threshold = words.number("threshold");
  const Json found = measure_drift(request);
  const bool drifted = found["drifted"].get<bool>();
  if (words.has("json")) {
    std::cout << to_line(found) << "\n";
    return drifted ? 3 : 0;
  }
  std::vector<std::vector<std::string>> rows;
  for (const Json& test : found["tests"]) {
    std::vector<std::string> row = {test["name"].get<std::string>()};
    for (const char* key : {"reference", "now", "effect", "p_adjusted"}) row.push_back(short_number(test[key].get<double>()));
    row.push_back(test["drifted"].get<bool>() ? "DRIFTED" : "same");
    rows.push_back(std::move(row));
  }
  std::cout << found["rows"] << " new rows against " << found["reference_rows"] << " of the reference, " << found["labelled"] << " with labels\n"
            << format_table({"what", "reference", "now", "effect", "p (Holm)", ""}, rows)
            << (drifted ? "drifted: p below " : "no drift: none has p below ") << short_number(request.level) << " and an effect of "
            << short_number(request.threshold) << " or more\n";
  return drifted ? 3 : 0;
}

}  // namespace attar
