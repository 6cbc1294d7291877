// What a sweep gave and what each artifact costs: `decision` and `cost` of the report.
#include <algorithm>
#include <set>

#include "base/check.h"
#include "report/facts.h"
#include "report/html.h"

namespace attar {
namespace {

std::string decision_number(const Json* value, int digits = 3) {
  const Json* number = number_of(value);
  return number_html(number, number ? significant(number->get<double>(), digits) : "");
}

/// A count as it stands.
std::string whole_number(const Json* value) {
  const Json* number = number_of(value);
  return number_html(number, number ? fixed(number->get<double>(), 0) : "");
}
/// A large count: 12.0 M.
std::string decision_count(const Json* value) {
  const Json* number = number_of(value);
  return number_html(number, number ? human_count(number->get<double>()) : "");
}

std::set<std::string> front_of(const Json& report, const char* what) {
  std::set<std::string> out;
  if (const Json* front = find_at(report, {"decision", "fronts", what}); front && front->is_array())
    for (const Json& id : *front) out.insert(text_of(&id));
  return out;
}

/// Every candidate of the sweep: what made it, what it is, which fronts it stands on.
std::string candidates_html(const Json& report) {
  const Json* candidates = find_at(report, {"decision", "candidates"});
  if (!candidates || !candidates->is_array() || candidates->empty()) return "";
  const std::string choice = text_of(find_at(report, {"summary", "choice"})), metric = text_of(find_at(report, {"summary", "metric"}));
  const auto size = front_of(report, "size"), latency = front_of(report, "latency"), cost = front_of(report, "cost");
  std::vector<const Json*> sorted;
  for (const Json& candidate : *candidates) sorted.push_back(&candidate);
  std::stable_sort(sorted.begin(), sorted.end(), [](const Json* a, const Json* b) {
    return double_of(find_at(*a, {"bytes"})).value_or(0) < double_of(find_at(*b, {"bytes"})).value_or(0);
  });
  std::vector<std::vector<HtmlCell>> rows;
  std::vector<std::string> classes;
  for (const Json* candidate : sorted) {
    const std::string id = text_of(find_at(*candidate, {"artifact"}));
    std::string values, fronts;
    if (const Json* all = find_at(*candidate, {"values"}); all && all->is_object())
      for (const auto& [axis, value] : all->items())
        values += (values.empty() ? "" : "<br>") + escape_html(axis) + ": " + escape_html(text_of(&value));
    for (const auto& [name, front] : {std::pair{"size", &size}, {"latency", &latency}, {"cost", &cost}})
      if (front->count(id)) fronts += (fronts.empty() ? "" : ", ") + std::string(name);
    const Json *bytes = number_of(find_at(*candidate, {"bytes"})), *quality = number_of(find_at(*candidate, {"quality"})),
               *passed = find_at(*candidate, {"passed"});
    rows.push_back({{escape_html(id) + (id == choice ? " <span class=\"tag chosen\">choice</span>" : ""), "name"},
                    {values, ""},
                    {number_html(bytes, bytes ? human_bytes(bytes->get<double>()) : ""), "number"},
                    {number_html(quality, quality ? shown_metric(metric, quality->get<double>()) : ""), "number"},
                    {decision_number(find_at(report, {"artifacts", id, "latency", "tokens_per_s"})), "number"},
                    {escape_html(fronts), ""},
                    {!passed || passed->is_null() ? ""
                     : passed->get<bool>()        ? "<span class=\"verdict pass\">met</span>"
                                                  : "<span class=\"verdict fail\">not met</span>",
                     ""}});
    classes.push_back(id == choice ? "chosen" : "");
  }
  return "<h3>Candidates of the sweep</h3>\n<p class=note>Smallest first. On a front: no other artifact has better quality for as little size, time a token or money.</p>\n" +
         table_html({"candidate", "made with", "size", metric.empty() ? "quality" : metric, "tokens/s", "on the front of", "gates"}, rows, true,
                    classes);
}

/// What the draw of a seed is worth: candidates that differ by it alone.
std::string seeds_html(const Json& report) {
  const Json* seeds = find_at(report, {"decision", "seeds"});
  if (!seeds || !seeds->is_array() || seeds->empty()) return "";
  const std::string metric = text_of(find_at(report, {"summary", "metric"}));
  const auto shown = [&](const Json* value) {
    const Json* number = number_of(value);
    return number_html(number, number ? shown_metric(metric, number->get<double>()) : "");
  };
  std::vector<std::vector<HtmlCell>> rows;
  for (const Json& group : *seeds) {
    std::string values = escape_html(text_of(find_at(group, {"stage"})));
    if (const Json* all = find_at(group, {"values"}); all && all->is_object())
      for (const auto& [axis, value] : all->items()) values += "<br>" + escape_html(axis) + ": " + escape_html(text_of(&value));
    rows.push_back({{values, "name"}, {whole_number(find_at(group, {"quality", "n"})), "number"}, {shown(find_at(group, {"quality", "value"})), "number"},
                    {shown(find_at(group, {"quality", "low"})) + " to " + shown(find_at(group, {"quality", "high"})), "number"},
                    {decision_number(find_at(group, {"deviation"}), 2), "number"},
                    {shown(find_at(group, {"least"})) + " to " + shown(find_at(group, {"most"})), "number"}});
  }
  return "<h3>Over seeds</h3>\n<p class=note>Candidates that differ by their seed alone, together: what another draw would change.</p>\n" +
         table_html({"candidates", "seeds", metric.empty() ? "mean quality" : "mean " + metric, "95% of the mean", "standard deviation", "range"}, rows, true);
}

/// Money: an artifact a line, and against each API.
std::string costs_html(const Json& report) {
  std::vector<std::vector<HtmlCell>> rows, apis;
  std::string currency, words;
  for (const auto& [id, artifact] : artifacts_of(report).items()) {
    const Json* cost = find_at(artifact, {"cost"});
    if (!cost || !cost->is_object()) continue;
    currency = text_of(find_at(cost, {"currency"}));
    if (words.empty())
      words = "At " + decision_number(find_at(cost, {"assumptions", "per_hour"})) + " an hour (" + escape_html(text_of(find_at(cost, {"date"}))) +
              "), busy " + decision_number(find_at(cost, {"assumptions", "utilisation"})) +
              " of the time, one request at a time; a conversation is " + whole_number(find_at(cost, {"assumptions", "turns"})) + " × (" +
              whole_number(find_at(cost, {"assumptions", "prompt_tokens"})) + " tokens read, " +
              whole_number(find_at(cost, {"assumptions", "new_tokens"})) + " written).";
    rows.push_back({{escape_html(id), "name"},
                    {decision_number(find_at(cost, {"per_million_input_tokens"})), "number"},
                    {decision_number(find_at(cost, {"per_million_output_tokens"})), "number"},
                    {decision_number(find_at(cost, {"per_million_conversations"})), "number"},
                    {decision_count(find_at(cost, {"conversations_per_month_possible"})), "number"}});
    if (const Json* each = find_at(cost, {"apis"}); each && each->is_object())
      for (const auto& [name, api] : each->items()) {
        const Json* reaches = find_at(api, {"one_machine_reaches_it"});
        apis.push_back({{escape_html(id), "name"},
                        {escape_html(name) + " (" + escape_html(text_of(find_at(api, {"date"}))) + ")", ""},
                        {decision_number(find_at(api, {"per_million_conversations"})), "number"},
                        {decision_number(find_at(api, {"times_cheaper"})), "number"},
                        {decision_count(find_at(api, {"break_even_conversations_per_month"})), "number"},
                        {reaches && reaches->is_boolean() ? reaches->get<bool>() ? "yes" : "no" : "", ""}});
      }
  }
  if (rows.empty()) return "";
  std::string out =
      "<h3>What it costs, in " + escape_html(currency) + "</h3>\n<p class=note>" + words + "</p>\n" +
      table_html({"artifact", "million tokens read", "million tokens written", "million conversations", "conversations a month, one machine"}, rows,
                 true);
  if (!apis.empty())
    out += "<h4>Against an API</h4>\n" + table_html({"artifact", "API", "million conversations there", "times cheaper here",
                                                     "pays from conversations a month", "within one machine"},
                                                    apis, true);
  return out;
}

}  // namespace

std::string decision_section(const Json& report) {
  return section_html("decision", "Candidates and cost", "", candidates_html(report) + seeds_html(report) + costs_html(report));
}

}  // namespace attar
