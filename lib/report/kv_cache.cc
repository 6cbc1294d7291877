// What a cache of keys and values of fewer bits costs: artifacts.<id>.kv_cache of the report.
#include "report/facts.h"
#include "report/html.h"
#include "report/markdown.h"

namespace attar {
namespace {

constexpr const char* kCacheNote =
    "The same model with keys and values rounded as such a cache keeps them, against itself with a float cache; simulated over the text of the perplexity above.";

/// An artifact a line: type, KL to itself, perplexity with it, share of equal top tokens. `show` wraps a number.
template <class Show, class Name>
std::vector<std::vector<std::string>> cache_rows(const Json& report, const Show& show, const Name& name) {
  std::vector<std::vector<std::string>> out;
  for (const auto& [id, artifact] : artifacts_of(report).items()) {
    const Json* cache = find_at(artifact, {"kv_cache"});
    const Json *kl = number_of(find_at(cache, {"kld"})), *error = number_of(find_at(cache, {"kld", "stderr"}));
    const Json *perplexity = number_of(find_at(cache, {"perplexity"})), *same = number_of(find_at(cache, {"top1_agreement"}));
    if (!kl && !perplexity) continue;
    std::string distance = kl ? show(kl, significant(kl->get<double>(), 3)) : "–";
    if (kl && error) distance += " ± " + show(error, significant(error->get<double>(), 2));
    out.push_back({name(id), name(text_of(find_at(cache, {"type"}))), distance,
                   perplexity ? show(perplexity, significant(perplexity->get<double>(), 5)) : "–",
                   same ? show(same, percent(same->get<double>())) : "–"});
  }
  return out;
}

const std::vector<std::string> kCacheHeader = {"artifact", "cache", "KL to itself", "perplexity with it", "same top token"};

}  // namespace

std::string kv_cache_html(const Json& report) {
  std::vector<std::vector<HtmlCell>> rows;
  for (auto& cells : cache_rows(report, number_html, escape_html)) {
    rows.push_back({{cells[0], "name"}, {cells[1], ""}});
    for (size_t i = 2; i < cells.size(); ++i) rows.back().push_back({cells[i], "number"});
  }
  return rows.empty() ? "" : "<h3>A smaller cache</h3>\n<p class=note>" + escape_html(kCacheNote) + "</p>\n" + table_html(kCacheHeader, rows, true);
}

std::string kv_cache_markdown(const Json& report) {
  const auto rows = cache_rows(report, [](const Json*, const std::string& shown) { return shown; }, escape_markdown);
  return rows.empty() ? "" : std::string("\n## A smaller cache\n\n") + kCacheNote + "\n\n" + markdown_table(kCacheHeader, rows);
}

}  // namespace attar
