// Routers of the run: which requests the small model answers alone, with what promise, at what cost.
#include <algorithm>
#include <functional>

#include "base/check.h"
#include "report/facts.h"
#include "report/html.h"
#include "report/markdown.h"

namespace attar {
namespace {

/// One router's number, shown by `show`; how it is wrapped (a page's span, plain text) is the caller's.
using NumberText = std::string (*)(const Json* number, const std::string& shown);

std::string plain_number(const Json*, const std::string& shown) { return shown; }

std::string share_of_router(const Json& router, std::initializer_list<std::string_view> path, NumberText show) {
  const Json* number = number_of(find_at(router, path));
  return show(number, number ? percent(number->get<double>()) : "–");
}

std::string routed_quality(const Json& router, NumberText show) {
  const Json* quality = find_at(router, {"expected", "quality"});
  const Json *low = number_of(find_at(quality, {"low"})), *high = number_of(find_at(quality, {"high"}));
  std::string out = share_of_router(router, {"expected", "quality"}, show);
  if (low && high) out += " [" + show(low, fixed(100 * low->get<double>(), 1)) + ", " + show(high, fixed(100 * high->get<double>(), 1)) + "]";
  return out;
}

/// "gguf answers where max_probability is at least 0.93, teacher the rest (12.0%). Of its answers at most 5.0% are wrong, with confidence 95.0% ..."
std::string router_sentence(const Json& router, NumberText show, const std::function<std::string(const std::string&)>& name) {
  const std::string small = name(text_of(find_at(router, {"small", "artifact"}))), large = name(text_of(find_at(router, {"large", "artifact"})));
  const auto share = [&](std::initializer_list<std::string_view> path) { return share_of_router(router, path, show); };
  const Json *at_least = number_of(find_at(router, {"rule", "at_least"})), *at_most = number_of(find_at(router, {"rule", "at_most"}));
  if (!at_least && !at_most)
    return "No threshold: " + small + " is nowhere sure enough that at most " + share({"guarantee", "error"}) +
           " of its answers are wrong. Everything goes to " + large + ".";
  const Json* threshold = at_least ? at_least : at_most;
  const auto count = [&](const char* key) {
    const Json* number = number_of(find_at(router, {"guarantee", key}));
    return show(number, number ? to_line(*number) : "–");
  };
  const Json* p = number_of(find_at(router, {"guarantee", "p_value"}));
  return small + " answers where " + name(text_of(find_at(router, {"score"}))) + " is at " + (at_least ? "least " : "most ") +
         show(threshold, significant(threshold->get<double>(), 4)) + ", " + large + " the rest (" + share({"expected", "large_share"}) +
         "). Of its answers at most " + share({"guarantee", "error"}) + " are wrong, with confidence " + share({"guarantee", "confidence"}) + ": " +
         count("wrong") + " of " + count("served") + " were, p = " + show(p, p ? significant(p->get<double>(), 2) : "–") + " (" +
         name(text_of(find_at(router, {"guarantee", "method"}))) + ").";
}

const Json& routers_in(const Json& report) {
  static const Json none = Json::object();
  const Json* routers = find_at(report, {"routers"});
  return routers && routers->is_object() ? *routers : none;
}

constexpr std::pair<const char*, const char*> kRouterColumns[] = {
    {"apgr", "gap recovered"}, {"cpt50", "calls for half of it"}, {"cpt80", "calls for 80%"}};

std::vector<std::string> router_header(bool cost) {
  std::vector<std::string> out = {"router", "large calls", "small alone", "routed [95%]", "large alone"};
  for (const auto& [key, title] : kRouterColumns) out.push_back(title);
  if (cost) out.push_back("cost"), out.push_back("pays below");
  return out;
}

std::vector<std::string> router_cells(const Json& router, bool cost, NumberText show) {
  std::vector<std::string> out = {share_of_router(router, {"expected", "large_share"}, show),
                                  share_of_router(router, {"expected", "small_only"}, show), routed_quality(router, show),
                                  share_of_router(router, {"expected", "large_only"}, show)};
  for (const auto& [key, title] : kRouterColumns) out.push_back(share_of_router(router, {key}, show));
  if (cost) {
    out.push_back(share_of_router(router, {"cost", "routed_share_of_large"}, show));
    out.push_back(share_of_router(router, {"cost", "break_even_large_share"}, show));
  }
  return out;
}

bool any_cost(const Json& routers) {
  return std::any_of(routers.begin(), routers.end(), [](const Json& router) {
    return number_of(find_at(router, {"cost", "routed_share_of_large"}));
  });
}

constexpr const char* kRouterNote =
    "Shares of requests. The gap is what the large model answers better than the small one; recovered is the area under the curve (chance: 50%). Cost is that of "
    "sending everything to the large model, the small model's own share counted; routing pays while the share of large calls stays below the last column.";

}  // namespace

std::string routing_section(const Json& report) {
  const Json& routers = routers_in(report);
  if (routers.empty()) return "";
  const bool cost = any_cost(routers);
  const std::string choice = text_of(find_at(report, {"summary", "choice"}));
  std::vector<std::vector<HtmlCell>> rows;
  std::string charts, folded;
  for (const auto& [id, router] : routers.items()) {
    std::vector<HtmlCell> row = {
        {escape_html(id) + " <span class=kind>" + escape_html(text_of(find_at(router, {"small", "artifact"}))) + "</span>", "name"}};
    for (std::string& cell : router_cells(router, cost, number_html)) row.push_back({std::move(cell), "number"});
    rows.push_back(std::move(row));
    const std::string sentence = "<p>" + router_sentence(router, number_html, escape_html) + "</p>\n";
    const std::string chart = "<figure class=\"chart\"><figcaption>" + escape_html(id) +
                              ": quality against the share of large calls</figcaption><div class=canvas>"
                              "<canvas role=img aria-label=\"Quality against the share of large calls\" data-chart=route data-router=\"" +
                              escape_html(id) + "\"></canvas></div></figure>\n";
    const bool open = routers.size() == 1 || text_of(find_at(router, {"small", "artifact"})) == choice;
    if (open) charts += "<h3>" + escape_html(id) + "</h3>\n" + sentence + chart;
    else folded += details_html(id, sentence + chart);
  }
  return section_html("routing", "Routing: the small model answers where it is sure", kRouterNote,
                      table_html(router_header(cost), rows, true) + charts + folded);
}

std::string routing_markdown(const Json& report) {
  const Json& routers = routers_in(report);
  if (routers.empty()) return "";
  const bool cost = any_cost(routers);
  std::string out = "\n## Routing\n\n";
  std::vector<std::vector<std::string>> rows;
  for (const auto& [id, router] : routers.items()) {
    out += escape_markdown(router_sentence(router, plain_number, [](const std::string& text) { return text; })) + "\n\n";
    rows.push_back({escape_markdown(id)});
    for (const std::string& cell : router_cells(router, cost, plain_number)) rows.back().push_back(escape_markdown(cell));
  }
  std::vector<std::string> header = router_header(cost);
  for (std::string& title : header) title = escape_markdown(title);
  return out + markdown_table(header, rows) + "\n" + kRouterNote + "\n";
}

}  // namespace attar
