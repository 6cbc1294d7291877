// attar route tokens: a student and a large model that share the tokens of one text, simulated over the large model's cache.
#include <iostream>

#include "engine_tools.h"
#include "base/json.h"
#include "device/device.h"
#include "report/facts.h"
#include "report/terminal.h"
#include "stages/token_route.h"

namespace attar {
namespace {

std::string shown(const std::optional<double>& value, bool share) { return !value ? "–" : share ? percent(*value) : significant(*value, 3); }

void print(const TokenRouting& found) {
  std::cout << found.tokens << " tokens of a " << found.codec << " cache at temperature " << significant(found.temperature, 3) << ": KL "
            << significant(found.kl.mean, 4) << " ± " << significant(found.kl.error, 2) << " nats, " << found.to_json()["kl"]["is"].get<std::string>()
            << "\n";
  if (!found.distributions) {
    std::cout << found.to_json()["note"].get<std::string>() << "\n";
    return;
  }
  std::cout << "a drafted token is accepted with probability " << percent(found.acceptance.mean);
  if (found.acceptance_at_most > found.acceptance.mean) std::cout << " to " << percent(found.acceptance_at_most);
  std::cout << ", the likeliest is the same at " << percent(found.same_top.mean) << "\n";
  std::vector<std::vector<std::string>> rows;
  for (const DraftPoint& d : found.drafts)
    rows.push_back({std::to_string(d.tokens), shown(d.per_call, false), shown(d.per_call_in_text, false), shown(d.speed_up, false)});
  std::cout << format_table({"draft", "tokens a call", "the same in the texts", "speed-up"}, rows);
  rows.clear();
  for (const KeptPoint& k : found.kept)
    rows.push_back({significant(k.at_least, 3), percent(k.kept), shown(k.same_top, true), shown(k.acceptance, true), percent(k.same_top_of_all),
                    shown(k.cost, true)});
  std::cout << format_table({"sure at least", "tokens kept", "same top among them", "accepted among them", "same top of all", "cost"}, rows);
}

}  // namespace

int tool_route_tokens(const Words& words) {
  TokenRouteRequest request;
  request.cache = words.get("cache"), request.model = words.get("model"), request.data = words.get("data"), request.task = words.get("task");
  request.options.rows = words.integer("rows"), request.options.draft = words.integer("draft"),
  request.options.cost_ratio = words.number("cost-ratio");
  request.device = parse_device(words.get("device"));
  const TokenRouting found = route_tokens(request);
  if (words.has("out")) write_json(words.get("out"), found.to_json());
  if (words.has("json")) std::cout << to_line(found.to_json()) << "\n";
  else print(found);
  return 0;
}

}  // namespace attar
