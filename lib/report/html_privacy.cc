#include "base/check.h"
#include "report/facts.h"
#include "report/html.h"

namespace attar {
namespace {

/// "2.5% [1.1%, 5.7%] of 200" of a share of texts, by whatever `show` makes of a number.
template <class Show>
std::string share_text(const Json* share, const Show& show) {
  const Json *value = number_of(share), *n = number_of(find_at(share, {"n"}));
  const Json *low = number_of(find_at(share, {"low"})), *high = number_of(find_at(share, {"high"}));
  if (!value) return "–";
  std::string out = show(value, percent(value->get<double>()));
  if (low && high) out += " [" + show(low, percent(low->get<double>())) + ", " + show(high, percent(high->get<double>())) + "]";
  return n ? out + " of " + show(n, to_line(*n)) : out;
}

}  // namespace

std::string memorization_note(const Json& report) {
  for (const auto& [id, artifact] : artifacts_of(report).items()) {
    const Json *prefix = number_of(find_at(artifact, {"memorization", "prefix"})), *length = number_of(find_at(artifact, {"memorization", "length"}));
    if (prefix && length)
      return "Share of texts whose next " + to_line(*length) + " tokens a model writes word for word when it is given the first " + to_line(*prefix)
          + " (greedy). What it writes of held-out texts it has not learned: the rest is memory of training rows.";
  }
  return "";
}

std::string privacy_section(const Json& report) {
  std::vector<std::vector<HtmlCell>> rows;
  for (const auto& [id, artifact] : artifacts_of(report).items()) {
    const Json* found = find_at(artifact, {"memorization"});
    if (!number_of(find_at(found, {"trained"}))) continue;
    const auto show = [](const Json* number, const std::string& text) { return number_html(number, text); };
    rows.push_back({{escape_html(id), "name"}, {share_text(find_at(found, {"trained"}), show), "number"},
                    {share_text(find_at(found, {"held_out"}), show), "number"}});
  }
  if (rows.empty()) return "";
  return section_html("privacy", "What it knows by heart", memorization_note(report),
                      table_html({"artifact", "training rows", "held-out rows"}, rows, true));
}

std::string memorization_text(const Json& artifact) {
  const Json* found = find_at(artifact, {"memorization"});
  if (!number_of(find_at(found, {"trained"}))) return "";
  const auto show = [](const Json*, const std::string& text) { return text; };
  return "training rows " + share_text(find_at(found, {"trained"}), show) + ", held-out rows " + share_text(find_at(found, {"held_out"}), show);
}

}  // namespace attar
