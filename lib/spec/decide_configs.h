#pragma once
// What is decided from measured numbers: gates, routing, prices.
#include <map>

#include "base/fields.h"

namespace attar {

/// Non-inferiority against another artifact's same number.
struct WithinConfig {
  std::string of;
  double margin = 0;
  template <class Visitor> void fields(Visitor&& field) {
    field("of", of, "artifact whose same number is the measure");
    field("margin", margin, "how much worse it may be, in the number's own unit; the whole 95% interval of the difference must lie inside");
  }
};

/// What a gate demands of one number of the report.
struct GateConfig {
  std::optional<double> at_least, at_most;
  std::optional<WithinConfig> within;
  template <class Visitor> void fields(Visitor&& field) {
    field("at_least", at_least, "the number must be this or more");
    field("at_most", at_most, "the number must be this or less");
    field("within", within, "not worse than another artifact's by more than a margin, with its interval");
  }
};

/// Which requests a small model may answer alone.
struct RouteConfig {
  std::string of, small, large, task, score = "max_probability", prices, api;
  double error = 0.05, confidence = 0.95, small_cost = 0;
  template <class Visitor> void fields(Visitor&& field) {
    field("of", of, "the evaluate stage that kept the scores of both");
    field("small", small, "stage or checkpoint that answers where it is sure");
    field("large", large, "stage or checkpoint that answers the rest, or a running server (runtime) of the evaluate stage");
    field("task", task, "task whose scores count; empty: the only one");
    field("score", score,
          "what being sure is: max_probability, margin (of the two likeliest labels), entropy, or learned (evaluate's learned_score)");
    field("error", error, "largest share of wrong answers among those that the small model gives");
    field("confidence", confidence, "how surely the share of wrong answers stays below `error`");
    field("small_cost", small_cost,
          "cost of the small model's answer as a share of the large one's; 0: from prices and measured times, else unknown");
    field("prices", prices, "price file (configs/prices/*.yaml)");
    field("api", api, "large model of the price file that costs are compared with; empty: the first");
  }
};

/// A machine that serves a model.
struct HardwarePrice {
  double per_hour = 0, watts = 0, utilisation = 0.5;
  std::string date, source;
  template <class Visitor> void fields(Visitor&& field) {
    field("per_hour", per_hour, "price of an hour");
    field("watts", watts, "power drawn while it computes; 0: energy is part of per_hour");
    field("utilisation", utilisation, "share of the paid time in which it computes, above 0 to 1");
    field("date", date, "day of the price, YYYY-MM-DD");
    field("source", source, "where the price stands");
  }
};

/// A large model behind an API.
struct ApiPrice {
  double input = 0, output = 0;
  std::string date, source;
  template <class Visitor> void fields(Visitor&& field) {
    field("input", input, "price of a million tokens read");
    field("output", output, "price of a million tokens written");
    field("date", date, "day of the price, YYYY-MM-DD");
    field("source", source, "where the price stands");
  }
};

struct EnergyPrice {
  double per_kwh = 0;
  std::string date, source;
  template <class Visitor> void fields(Visitor&& field) {
    field("per_kwh", per_kwh, "price of a kilowatt-hour");
    field("date", date, "day of the price, YYYY-MM-DD");
    field("source", source, "where the price stands");
  }
};

struct ConversationConfig {
  int64_t turns = 1, prompt_tokens = 200, new_tokens = 50;
  template <class Visitor> void fields(Visitor&& field) {
    field("turns", turns, "requests a conversation");
    field("prompt_tokens", prompt_tokens, "tokens read a request");
    field("new_tokens", new_tokens, "tokens written a request");
  }
};

/// A price file: every price has its day.
struct PriceConfig {
  std::string currency = "EUR";
  HardwarePrice hardware;
  EnergyPrice energy;
  std::map<std::string, ApiPrice> apis;
  ConversationConfig conversation;
  template <class Visitor> void fields(Visitor&& field) {
    field("currency", currency, "of all prices of the file");
    field("hardware", hardware, "the machine that serves the small models, the one that latency was measured on");
    field("energy", energy, "price of energy; left out: nothing is added");
    field("apis", apis, "large models behind an API, by name");
    field("conversation", conversation, "what a conversation is");
  }
};

}  // namespace attar
