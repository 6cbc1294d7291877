#include <gtest/gtest.h>

#include "report/facts.h"
#include "report/html.h"
#include "report/terminal.h"

namespace attar {
namespace {

Json swept_report() {
  const auto accuracy = [](double v) { return Json{{"t", {{"accuracy", {{"value", v}, {"low", v - 0.02}, {"high", v + 0.02}, {"n", 400}}}}}}; };
  Json report = {
      {"verdict", "pass"},
      {"artifacts",
       {{"g-a", {{"stage", "g-a"}, {"bytes", 1000}, {"tasks", accuracy(0.7)}}},
        {"g-b", {{"stage", "g-b"}, {"bytes", 2000}, {"tasks", accuracy(0.9)}}}}},
      {"gates", Json::array({Json{{"path", "g-a.tasks.t.accuracy"},
                                  {"limit", {{"at_least", Json()}, {"within", {{"of", "g-b"}, {"margin", 0.0123}}}}},
                                  {"value", 0.7},
                                  {"difference", {{"value", -0.2}, {"low", -0.23456}, {"high", -0.1}}},
                                  {"passed", false},
                                  {"family", "g"}}})},
      {"decision",
       {{"choice", "g-b"},
        {"choice_rule", "the rule"},
        {"fronts", {{"size", {"g-a", "g-b"}}}},
        {"candidates",
         Json::array(
             {Json{{"artifact", "g-b"}, {"stage", "g"}, {"values", {{"g.type", "<b>"}}}, {"bytes", 2000}, {"quality", 0.9}, {"passed", Json()}},
              Json{{"artifact", "g-a"}, {"stage", "g"}, {"values", {{"g.type", "a"}}}, {"bytes", 1000}, {"quality", 0.7}, {"passed", false}}})}}}};
  report["artifacts"]["g-b"]["cost"] = {
      {"currency", "EUR"},
      {"date", "2026-11-20"},
      {"per_million_conversations", 12.625},
      {"apis", {{"large", {{"per_million_conversations", 99.75}, {"date", "2026-11-19"}, {"break_even_conversations_per_month", 4321.5}}}}}};
  return report;
}

TEST(Decision, TheSweepsChoiceStands) {
  const Json whole = complete_report(swept_report(), {});
  EXPECT_EQ(whole["summary"]["choice"], "g-b");  // the smallest by itself would be g-a, but its gate is not met
  EXPECT_EQ(whole["summary"]["choice_rule"], "the rule");
}

TEST(Decision, CandidatesAndCostStandOnThePage) {
  const std::string html = decision_section(complete_report(swept_report(), {}));
  for (const char* part : {"g.type: &lt;b&gt;", "not met", "data-value=\"12.625\"", "data-value=\"99.75\"", "data-value=\"4321.5\"", "2026-11-19", "EUR"})
    EXPECT_NE(html.find(part), std::string::npos) << part;
  EXPECT_LT(html.find(">g-a<"), html.find(">g-b<"));  // smallest first
  EXPECT_EQ(decision_section(Json::object()), "");
}

TEST(Decision, GatesShowTheIntervalThatDecided) {
  const Json whole = complete_report(swept_report(), {});
  EXPECT_NE(terminal_summary(whole).find("within 0.0123 of g-b"), std::string::npos);
  EXPECT_NE(terminal_summary(whole).find("difference [-0.235, -0.100]"), std::string::npos);
  const std::string html = gates_section(whole);
  EXPECT_NE(html.find("data-value=\"-0.23456\""), std::string::npos);
  EXPECT_NE(html.find("data-value=\"0.0123\""), std::string::npos);
}

}  // namespace
}  // namespace attar
