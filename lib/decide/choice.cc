#include "decide/choice.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

#include "decide/intervals.h"
#include "report/facts.h"

namespace attar {
namespace {

/// What is lost against perfection: the main task metric turned round where more of it is better, else perplexity.
std::optional<double> loss_of(const Json& artifact) {
  if (const auto main = main_metric(artifact)) return is_share(main->metric) ? -*double_of(main->measure) : *double_of(main->measure);
  return double_of(find_at(artifact, {"perplexity"}));
}

std::optional<double> paid(const Json& artifact, const std::string& what) {
  if (what == "size") return double_of(find_at(artifact, {"bytes"}));
  if (what == "cost") return double_of(find_at(artifact, {"cost", "per_million_conversations"}));
  const auto speed = double_of(find_at(artifact, {"latency", "tokens_per_s"}));
  return speed && *speed > 0 ? std::optional<double>(1 / *speed) : std::nullopt;
}

/// Candidates that differ by seeds alone, as one line each.
Json over_seeds(const Json& candidates) {
  struct Group {
    Json stage, values;
    std::vector<double> quality;
  };
  std::map<std::string, Group> groups;
  for (const Json& candidate : candidates) {
    Json values = candidate["values"];
    bool seeded = false;
    for (const auto& [axis, value] : candidate["values"].items())
      if (axis.ends_with(".seed")) seeded = true, values.erase(axis);
    if (!seeded || !candidate["quality"].is_number()) continue;
    Group& group = groups[to_line({candidate["stage"], values})];
    group.stage = candidate["stage"], group.values = std::move(values);
    group.quality.push_back(candidate["quality"].get<double>());
  }
  Json out = Json::array();
  for (const auto& [key, group] : groups) {
    const std::vector<double>& all = group.quality;
    if (all.size() < 2) continue;
    const Difference mean = paired_means(all, std::vector<double>(all.size(), 0.0));
    double squares = 0;
    for (const double value : all) squares += (value - mean.value) * (value - mean.value);
    out.push_back({{"stage", group.stage}, {"values", group.values},
                   {"quality", {{"value", mean.value}, {"low", mean.low}, {"high", mean.high}, {"n", all.size()}}},
                   {"deviation", std::sqrt(squares / static_cast<double>(all.size() - 1))},
                   {"least", *std::min_element(all.begin(), all.end())}, {"most", *std::max_element(all.begin(), all.end())}});
  }
  return out;
}

}  // namespace

std::vector<std::string> pareto(std::vector<Trade> points) {
  std::erase_if(points, [](const Trade& p) { return !std::isfinite(p.paid) || !std::isfinite(p.lost); });
  std::sort(points.begin(), points.end(),
            [](const Trade& a, const Trade& b) { return std::tie(a.paid, a.lost, a.id) < std::tie(b.paid, b.lost, b.id); });
  std::vector<std::string> out;
  double best = INFINITY;
  for (const Trade& p : points)
    if (p.lost < best) best = p.lost, out.push_back(p.id);
  return out;
}

Json decide(const Json& artifacts, const Json& judged_gates, const std::map<std::string, SweepCandidate>& candidates) {
  std::map<std::string, bool> gated;  // artifact -> all of its gates hold
  for (const Json& gate : judged_gates) {
    const std::string path = gate.value("path", "");
    bool& whole = gated.try_emplace(path.substr(0, path.find('.')), true).first->second;
    whole = whole && gate.value("passed", false);
  }
  Json fronts = Json::object();
  for (const char* what : {"size", "latency", "cost"}) {
    std::vector<Trade> points;
    for (const auto& [id, artifact] : artifacts.items()) {
      const auto price = paid(artifact, what), loss = loss_of(artifact);
      if (price && loss) points.push_back({id, *price, *loss});
    }
    if (!points.empty()) fronts[what] = pareto(std::move(points));
  }
  // Gates of single artifacts (a base, say) hold for all; what is chosen among are the candidates that have gates of their own.
  bool swept = false;
  for (const auto& [id, held] : gated) swept = swept || candidates.count(id);
  std::string choice;
  double least = INFINITY;
  for (const auto& [id, artifact] : artifacts.items()) {
    const auto bytes = paid(artifact, "size");
    const auto gates = gated.find(id);
    const bool eligible = gated.empty() || (gates != gated.end() && gates->second && (!swept || candidates.count(id)));
    if (bytes && eligible && *bytes < least) least = *bytes, choice = id;
  }
  Json list = Json::array();
  for (const auto& [id, candidate] : candidates) {
    const Json* artifact = find_at(artifacts, {id});
    if (!artifact) continue;
    const auto main = main_metric(*artifact);
    const auto gates = gated.find(id);
    list.push_back({{"artifact", id},
                    {"stage", candidate.stage},
                    {"values", candidate.values},
                    {"bytes", paid(*artifact, "size") ? Json((*artifact)["bytes"]) : Json()},
                    {"quality", main ? Json(*double_of(main->measure)) : Json()},
                    {"passed", gates == gated.end() ? Json() : Json(gates->second)}});
  }
  Json seeds = over_seeds(list);
  return {{"choice", choice.empty() ? Json() : Json(choice)},
          {"choice_rule", gated.empty() ? "the smallest artifact; the recipe sets no gates"
                              : swept   ? "the smallest candidate of the sweep that meets all of its gates"
                                        : "the smallest artifact with gates that meets all of its own"},
          {"fronts", std::move(fronts)}, {"candidates", std::move(list)}, {"seeds", std::move(seeds)}};
}

}  // namespace attar
