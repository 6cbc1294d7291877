#include "decide/cost.h"

#include <gtest/gtest.h>

#include "base/check.h"
#include "data_path.h"

namespace attar {
namespace {

constexpr const char* kPrices = R"(currency: EUR
hardware: {per_hour: 0.36, watts: 100, utilisation: 0.5, date: 2026-11-01}
energy: {per_kwh: 0.36, date: 2026-10-31}
apis:
  large: {input: 2.0, output: 10.0, date: 2026-11-02}
conversation: {turns: 2, prompt_tokens: 100, new_tokens: 10}
)";

std::string fault_of(const fs::path& file) {
  try {
    read_prices(file);
  } catch (const Error& error) {
    std::string all;
    for (const Fault& fault : error.faults()) all += fault.line() + "\n";
    return all;
  }
  return "";
}

TEST(Cost, ByHand) {
  TestFolder folder;
  write_file(folder.path() / "p.yaml", kPrices);
  const PriceConfig prices = read_prices(folder.path() / "p.yaml");
  // 100 prompt tokens in 0.1 s, 50 tokens/s: a request reads 0.1 s and writes 0.2 s; a conversation is 0.6 s.
  const Json artifact = {{"latency", {{"tokens_per_s", {{"value", 50}}}, {"ttft_s", {{"value", 0.1}}}, {"prompt_tokens", 100}}}};
  const Json cost = artifact_cost(artifact, prices);
  const double second = 0.36 / 3600 / 0.5 + 100 * 0.36 / 3.6e6;  // 2.1e-4
  EXPECT_NEAR(cost["per_million_output_tokens"].get<double>(), 1e6 / 50 * second, 1e-9);
  EXPECT_NEAR(cost["per_million_input_tokens"].get<double>(), 1e6 * 0.001 * second, 1e-9);
  EXPECT_NEAR(cost["per_million_conversations"].get<double>(), 1e6 * 0.6 * second, 1e-9);
  const double by_api = 2 * (100 * 2.0 + 10 * 10.0);
  EXPECT_NEAR(cost["apis"]["large"]["per_million_conversations"].get<double>(), by_api, 1e-9);
  const double month = 730 * 0.36 + 730 * 0.5 * 0.1 * 0.36;
  EXPECT_NEAR(cost["apis"]["large"]["break_even_conversations_per_month"].get<double>(), month / by_api * 1e6, 1e-6);
  EXPECT_NEAR(cost["conversations_per_month_possible"].get<double>(), 730 * 3600 * 0.5 / 0.6, 1e-6);
  EXPECT_TRUE(cost["apis"]["large"]["one_machine_reaches_it"].get<bool>());
  EXPECT_NEAR(cost_share(cost, ""), 1e6 * 0.6 * second / by_api, 1e-12);
  EXPECT_THROW(cost_share(cost, "larger"), Error);
  EXPECT_TRUE(artifact_cost(Json::object(), prices).is_null());
}

TEST(Cost, PricesWithoutDatesAreRefused) {
  TestFolder folder;
  const fs::path file = folder.path() / "p.yaml";
  const auto without = [&](const std::string& part, const std::string& with = "") {
    std::string text = kPrices;
    text.replace(text.find(part), part.size(), with);
    write_file(file, text);
    return fault_of(file);
  };
  EXPECT_NE(without(", date: 2026-11-01").find("hardware.date"), std::string::npos);
  EXPECT_NE(without(", date: 2026-10-31").find("energy.date"), std::string::npos);
  EXPECT_NE(without(", date: 2026-11-02").find("apis.large.date"), std::string::npos);
  EXPECT_NE(without("2026-11-02", "2026-13-02").find("2026-13-02"), std::string::npos);
  EXPECT_NE(without("2026-11-02", "yesterday").find("yesterday"), std::string::npos);
  EXPECT_NE(without("per_hour: 0.36", "per_hour: -1").find("per_hour"), std::string::npos);
  EXPECT_NE(without("utilisation: 0.5", "utilisation: 0").find("utilisation"), std::string::npos);
  EXPECT_NE(without("watts", "wats").find("watts"), std::string::npos);
  EXPECT_NE(without("turns: 2", "turns: 0").find("conversation"), std::string::npos);
  EXPECT_EQ(without("EUR", "USD"), "");
}

}  // namespace
}  // namespace attar
