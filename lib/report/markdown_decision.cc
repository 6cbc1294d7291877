// Candidates of a sweep and money, for the model card.
#include <algorithm>

#include "base/check.h"
#include "report/facts.h"
#include "report/markdown.h"

namespace attar {
namespace {

std::string card_number(const Json* value) {
  const auto number = double_of(value);
  return number ? significant(*number, 3) : "–";
}

std::string card_count(const Json* value) {
  const auto number = double_of(value);
  return number ? human_count(*number) : "–";
}

}  // namespace

namespace {

/// Candidates that differ by their seed alone.
std::string seeds_markdown(const Json& report) {
  const Json* seeds = find_at(report, {"decision", "seeds"});
  if (!seeds || !seeds->is_array() || seeds->empty()) return "";
  const std::string metric = text_of(find_at(report, {"summary", "metric"}));
  const auto shown = [&](const Json* value) {
    const auto number = double_of(value);
    return number ? shown_metric(metric, *number) : std::string("–");
  };
  std::vector<std::vector<std::string>> rows;
  for (const Json& group : *seeds) {
    std::string values = text_of(find_at(group, {"stage"}));
    if (const Json* all = find_at(group, {"values"}); all && all->is_object())
      for (const auto& [axis, value] : all->items()) values += ", " + axis + ": " + text_of(&value);
    rows.push_back({escape_markdown(values), card_number(find_at(group, {"quality", "n"})), shown(find_at(group, {"quality", "value"})),
                    shown(find_at(group, {"quality", "low"})) + " to " + shown(find_at(group, {"quality", "high"})),
                    card_number(find_at(group, {"deviation"})), shown(find_at(group, {"least"})) + " to " + shown(find_at(group, {"most"}))});
  }
  return "\n### Over seeds\n\n" +
         markdown_table({"candidates", "seeds", metric.empty() ? "mean quality" : "mean " + escape_markdown(metric), "95% of the mean", "standard deviation", "range"},
                        rows);
}

}  // namespace

std::string candidates_markdown(const Json& report) {
  const Json* candidates = find_at(report, {"decision", "candidates"});
  if (!candidates || !candidates->is_array() || candidates->empty()) return "";
  const std::string metric = text_of(find_at(report, {"summary", "metric"})), choice = text_of(find_at(report, {"summary", "choice"}));
  std::vector<const Json*> sorted;
  for (const Json& candidate : *candidates) sorted.push_back(&candidate);
  std::stable_sort(sorted.begin(), sorted.end(), [](const Json* a, const Json* b) {
    return double_of(find_at(*a, {"bytes"})).value_or(0) < double_of(find_at(*b, {"bytes"})).value_or(0);
  });
  std::vector<std::vector<std::string>> rows;
  for (const Json* candidate : sorted) {
    const std::string id = text_of(find_at(*candidate, {"artifact"}));
    std::string values, fronts;
    if (const Json* all = find_at(*candidate, {"values"}); all && all->is_object())
      for (const auto& [axis, value] : all->items()) values += (values.empty() ? "" : ", ") + axis + ": " + text_of(&value);
    for (const char* name : {"size", "latency", "cost"})
      if (const Json* front = find_at(report, {"decision", "fronts", name});
          front && front->is_array() && std::find(front->begin(), front->end(), Json(id)) != front->end())
        fronts += (fronts.empty() ? "" : ", ") + std::string(name);
    const auto bytes = double_of(find_at(*candidate, {"bytes"})), quality = double_of(find_at(*candidate, {"quality"}));
    const Json* passed = find_at(*candidate, {"passed"});
    rows.push_back({escape_markdown(id) + (id == choice ? " (choice)" : ""), escape_markdown(values), bytes ? human_bytes(*bytes) : "–",
                    quality ? shown_metric(metric, *quality) : "–", card_number(find_at(report, {"artifacts", id, "latency", "tokens_per_s"})),
                    fronts,
                    !passed || !passed->is_boolean() ? ""
                    : passed->get<bool>()            ? "met"
                                                     : "**not met**"});
  }
  return "\n## Candidates\n\nSmallest first. On a front: no other has better quality for as little size, time a token or money.\n\n" +
         markdown_table(
             {"candidate", "made with", "size", metric.empty() ? "quality" : escape_markdown(metric), "tokens/s", "on the front of", "gates"}, rows) +
         seeds_markdown(report);
}

std::string costs_markdown(const Json& report) {
  std::vector<std::vector<std::string>> rows, apis;
  std::string currency, date;
  for (const auto& [id, artifact] : artifacts_of(report).items()) {
    const Json* cost = find_at(artifact, {"cost"});
    if (!cost || !cost->is_object()) continue;
    if (currency.empty()) currency = text_of(find_at(cost, {"currency"})), date = text_of(find_at(cost, {"date"}));
    rows.push_back({escape_markdown(id), card_number(find_at(cost, {"per_million_input_tokens"})),
                    card_number(find_at(cost, {"per_million_output_tokens"})), card_number(find_at(cost, {"per_million_conversations"}))});
    if (const Json* each = find_at(cost, {"apis"}); each && each->is_object())
      for (const auto& [name, api] : each->items())
        apis.push_back({escape_markdown(id), escape_markdown(name + " (" + text_of(find_at(api, {"date"})) + ")"),
                        card_number(find_at(api, {"per_million_conversations"})), card_number(find_at(api, {"times_cheaper"})),
                        card_count(find_at(api, {"break_even_conversations_per_month"}))});
  }
  if (rows.empty()) return "";
  std::string out = "\n## Cost\n\nIn " + escape_markdown(currency) + (date.empty() ? "" : ", prices of " + escape_markdown(date))
      + ", one request at a time on the machine that was measured.\n\n"
      + markdown_table({"artifact", "million tokens read", "million tokens written", "million conversations"}, rows);
  if (!apis.empty())
    out += "\n" + markdown_table({"artifact", "API", "million conversations there", "times cheaper here", "pays from conversations a month"}, apis);
  return out;
}

}  // namespace attar
