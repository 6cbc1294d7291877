// attar route: a threshold between a small and a large model from the scores that an evaluate stage kept; or a router held against later scores.
#include <iostream>

#include "base/check.h"
#include "decide/route.h"
#include "front/front.h"

namespace attar {
namespace {

int hold_against(const Words& words, const Scores& small, const Scores* large) {
  const std::string name = words.get("router");
  const Json found = judge_router(read_json(name), name, small, large);
  const bool broken = found["broken"].get<bool>();
  if (words.has("json")) {
    std::cout << to_line(found) << "\n";
  } else {
    std::cout << found["served"] << " of " << found["rows"] << " requests are the small model's, " << found["wrong"]
              << " of its answers are wrong; at most " << 100 * found["error_allowed"].get<double>()
              << "% were promised: " << (broken ? "BROKEN" : "holds") << " (p = " << found["p_value"].get<double>() << ")\n";
  }
  return broken ? 3 : 0;
}

}  // namespace

int tool_route(const Words& words) {
  const Scores small = read_scores(words.get("small"));
  std::optional<Scores> large;
  if (words.has("large")) large = read_scores(words.get("large"));
  if (words.has("router")) return hold_against(words, small, large ? &*large : nullptr);
  if (!large) throw UsageError("option '--large', expected with --small unless --router is given, received nothing");
  RouteConfig config;
  config.score = words.get("score"), config.error = words.number("error"), config.confidence = words.number("confidence");
  const Json router = make_router(small, *large, config, words.number("small-cost"), static_cast<uint64_t>(words.integer("seed")));
  if (words.has("out")) write_json(words.get("out"), router);
  if (words.has("json")) std::cout << to_line(router) << "\n";
  else std::cout << router_text(router);
  return 0;
}

}  // namespace attar
