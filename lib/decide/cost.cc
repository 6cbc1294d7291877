#include "decide/cost.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/yaml.h"
#include "report/facts.h"

namespace attar {
namespace {

constexpr double kMillion = 1e6, kJoulesPerKwh = 3.6e6, kHoursPerMonth = 730;

bool is_day(const std::string& text) {
  if (text.size() != 10 || text[4] != '-' || text[7] != '-') return false;
  for (const size_t i : {0, 1, 2, 3, 5, 6, 8, 9})
    if (text[i] < '0' || text[i] > '9') return false;
  const int month = std::stoi(text.substr(5, 2)), day = std::stoi(text.substr(8, 2));
  static const int kDays[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  return month >= 1 && month <= 12 && day >= 1 && day <= kDays[month - 1];
}

class PriceCheck {
 public:
  PriceCheck(std::string file, std::vector<Fault>& faults) : file_(std::move(file)), faults_(faults) {}
  void day(const std::string& key, const std::string& date) {
    if (!is_day(date))
      add(key + ".date", "the day of the price, YYYY-MM-DD", date.empty() ? "nothing" : date,
          "a price without its day says nothing; look it up and write the day down");
  }
  void price(const std::string& key, double value) {
    if (!(value >= 0 && std::isfinite(value))) add(key, "0 or more", str(value));
  }
  void add(const std::string& key, std::string expected, std::string received, std::string hint = "") {
    faults_.push_back({file_ + ": " + key, std::move(expected), std::move(received), std::move(hint)});
  }

 private:
  std::string file_;
  std::vector<Fault>& faults_;
};

}  // namespace

PriceConfig read_prices(const fs::path& file) {
  const Node root = read_yaml(file);
  std::vector<Fault> faults;
  PriceConfig prices;
  read_fields(prices, root, "", faults);
  PriceCheck check_price(file.string(), faults);
  if (root.find("hardware")) check_price.day("hardware", prices.hardware.date);
  else check_price.add("hardware", "the machine that serves, with per_hour and date", "nothing");
  if (root.find("energy")) check_price.day("energy", prices.energy.date);
  check_price.price("hardware.per_hour", prices.hardware.per_hour);
  check_price.price("hardware.watts", prices.hardware.watts);
  check_price.price("energy.per_kwh", prices.energy.per_kwh);
  if (!(prices.hardware.utilisation > 0 && prices.hardware.utilisation <= 1))
    check_price.add("hardware.utilisation", "above 0, at most 1", str(prices.hardware.utilisation));
  for (const auto& [name, api] : prices.apis) {
    check_price.day("apis." + name, api.date);
    check_price.price("apis." + name + ".input", api.input);
    check_price.price("apis." + name + ".output", api.output);
  }
  const ConversationConfig& talk = prices.conversation;
  if (talk.turns < 1 || talk.prompt_tokens < 1 || talk.new_tokens < 1) check_price.add("conversation", "turns and tokens from 1", "less");
  if (!faults.empty()) throw Error(std::move(faults));
  return prices;
}

double api_conversations(const ApiPrice& api, const ConversationConfig& talk) {
  return static_cast<double>(talk.turns) * (static_cast<double>(talk.prompt_tokens) * api.input + static_cast<double>(talk.new_tokens) * api.output);
}

Json artifact_cost(const Json& artifact, const PriceConfig& prices) {
  const auto writing = double_of(find_at(artifact, {"latency", "tokens_per_s"})), first = double_of(find_at(artifact, {"latency", "ttft_s"})),
             prompt = double_of(find_at(artifact, {"latency", "prompt_tokens"}));
  if (!writing || !first || !prompt || *writing <= 0 || *first <= 0 || *prompt <= 0) return Json();
  const HardwarePrice& machine = prices.hardware;
  const ConversationConfig& talk = prices.conversation;
  // A second of computing: the paid time around it, and its energy.
  const double second = machine.per_hour / 3600 / machine.utilisation + machine.watts * prices.energy.per_kwh / kJoulesPerKwh;
  const double read_s = *first / *prompt, write_s = 1 / *writing;
  const double talk_s =
      static_cast<double>(talk.turns) * (static_cast<double>(talk.prompt_tokens) * read_s + static_cast<double>(talk.new_tokens) * write_s);
  const double conversations = kMillion * talk_s * second;
  const double month = kHoursPerMonth * machine.per_hour + kHoursPerMonth * machine.utilisation * machine.watts * prices.energy.per_kwh / 1000;
  const double possible = kHoursPerMonth * 3600 * machine.utilisation / talk_s;
  Json apis = Json::object();
  for (const auto& [name, api] : prices.apis) {
    const double by_api = api_conversations(api, talk);
    Json entry = {{"per_million_conversations", by_api}, {"date", api.date}};
    if (conversations > 0) entry["times_cheaper"] = by_api / conversations;
    // A machine costs the same busy or idle; below this volume the API is cheaper. More than it can serve is no volume for one machine.
    if (by_api > 0) {
      const double even = month / by_api * kMillion;
      entry["break_even_conversations_per_month"] = even;
      entry["one_machine_reaches_it"] = even <= possible;
    }
    apis[name] = std::move(entry);
  }
  return {{"currency", prices.currency},
          {"date", machine.date},
          {"per_million_input_tokens", kMillion * read_s * second},
          {"per_million_output_tokens", kMillion * write_s * second},
          {"per_million_conversations", conversations},
          {"conversation_s", talk_s},
          {"conversations_per_month_possible", possible},
          {"machine_per_month", month},
          {"apis", std::move(apis)},
          {"assumptions",
           {{"per_hour", machine.per_hour},
            {"utilisation", machine.utilisation},
            {"watts", machine.watts},
            {"per_kwh", prices.energy.per_kwh},
            {"turns", talk.turns},
            {"prompt_tokens", talk.prompt_tokens},
            {"new_tokens", talk.new_tokens},
            {"batch", 1}}}};
}

double cost_share(const Json& cost, const std::string& api) {
  const Json* apis = find_at(cost, {"apis"});
  if (!apis || !apis->is_object() || apis->empty()) return 0;
  const auto found = api.empty() ? apis->begin() : apis->find(api);
  if (found == apis->end()) {
    std::vector<std::string> names;
    for (const auto& [name, entry] : apis->items()) names.push_back(name);
    fail("api", "one of the price file", api, nearest_hint(api, names));
  }
  const auto own = double_of(find_at(cost, {"per_million_conversations"})), large = double_of(find_at(*found, {"per_million_conversations"}));
  return own && large && *large > 0 ? *own / *large : 0;
}

}  // namespace attar
