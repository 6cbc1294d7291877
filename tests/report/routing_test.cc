#include <regex>
#include <set>

#include "base/check.h"
#include "data_path.h"
#include "report/html.h"
#include "report/report.h"
#include "report/sample_report.h"

namespace attar {
namespace {

Json sample_router(const std::string& small, double at_least) {
  return parse_json(R"json({"format": "attar router", "version": 1, "task": "triage", "labels": ["refund", "access", "other"],
    "small": {"artifact": ")json" +
                        small + R"json(", "sha256": "bb"}, "large": {"artifact": "teacher", "sha256": "aa"},
    "score": "max_probability", "rule": {"score": "max_probability", "at_least": )json" +
                        std::to_string(at_least) + R"json(},
    "guarantee": {"error": 0.05, "confidence": 0.95, "method": "Learn-then-Test, exact binomial", "design_rows": 60, "test_rows": 240, "served": 201, "wrong": 3,
      "p_value": 0.0123, "error_bound": 0.0381, "seed": 7},
    "expected": {"large_share": 0.1625, "quality": {"value": 0.966, "low": 0.941, "high": 0.982, "n": 300}, "small_only": 0.951, "large_only": 0.971},
    "apgr": 0.71, "cpt50": 0.08, "cpt80": 0.22,
    "cost": {"small_share_of_large": 0.03, "routed_share_of_large": 0.1925, "break_even_large_share": 0.97, "saves": true},
    "curve": [{"large_share": 0.0, "quality": 0.951, "recovered": 0.0, "at_least": null, "cost_share": 0.03}, {"large_share": 1.0, "quality": 0.971, "recovered": 1.0, "at_least": 1.0, "cost_share": 1.03}],
    "learned": {"of": "last", "weights": [1.0, 2.0], "bias": 0.5}})json",
                    "router");
}

/// A run with everything that a report may have: routers, a sweep's candidates, money, a smaller cache.
Json whole_report() {
  Json report = sample_report();
  report["routers"] = {{"router", sample_router("gguf", 0.875)}};
  report["artifacts"]["gguf"]["kv_cache"] = parse_json(R"json({"type": "q8_0", "perplexity": {"value": 12.375}, "kld": {"mean": 0.00125, "stderr": 0.00031},
      "top1_agreement": {"value": 0.9875, "stderr": 0.001}})json", "kv");
  report["artifacts"]["gguf"]["cost"] =
      parse_json(R"json({"currency": "EUR", "date": "2026-11-20", "per_million_input_tokens": 0.0625, "per_million_output_tokens": 1.125,
      "per_million_conversations": 71.5, "apis": {"large": {"per_million_conversations": 850.0, "date": "2026-11-19", "times_cheaper": 11.875,
      "break_even_conversations_per_month": 54321.0, "one_machine_reaches_it": true}}, "assumptions": {"per_hour": 0.0875, "utilisation": 0.5}})json",
                 "cost");
  report["decision"] = parse_json(R"json({"choice": "gguf", "choice_rule": "the rule", "fronts": {"size": ["gguf", "teacher"], "cost": ["gguf"]},
      "candidates": [{"artifact": "gguf", "stage": "gguf", "values": {"gguf.type": "q4_0"}, "bytes": 402112, "quality": 0.95, "passed": true},
                     {"artifact": "teacher", "stage": "gguf", "values": {"gguf.type": "f16"}, "bytes": 12690000, "quality": 0.97, "passed": false}],
      "seeds": [{"stage": "gguf", "values": {"gguf.type": "q4_0"}, "quality": {"value": 0.9375, "low": 0.90625, "high": 0.96875, "n": 3},
                 "deviation": 0.0145, "least": 0.921875, "most": 0.953125}]})json",
                                  "decision");
  return report;
}

void numbers_in(const Json& value, std::set<std::string>& out) {
  if (value.is_number()) out.insert(to_line(value));
  if (value.is_structured())
    for (const Json& inner : value) numbers_in(inner, out);
}

std::string file_of(const Json& report, const char* name) {
  const TestFolder folder;
  write_report(report, sample_logs(), folder.path());
  return read_file(folder / name);
}

TEST(Routing, ThePageTellsThePromiseAndEveryNumberStandsInTheJson) {
  const TestFolder folder;
  write_report(whole_report(), sample_logs(), folder.path());
  const std::string html = read_file(folder / "report.html");
  std::set<std::string> numbers;
  numbers_in(read_json(folder / "report.json"), numbers);
  const std::string page = html.substr(0, html.find("<script"));
  static const std::regex value("data-value=\"([^\"]*)\"");
  for (std::sregex_iterator it(page.begin(), page.end(), value), end; it != end; ++it) EXPECT_TRUE(numbers.count((*it)[1])) << (*it)[1];
  for (const char* number :
       {"0.875", "0.1625", "0.941", "0.71", "0.08", "0.22", "0.1925", "0.97", "201", "0.0123", "0.00125", "0.00031", "12.375", "0.9875"})
    EXPECT_NE(page.find(std::string("data-value=\"") + number + "\""), std::string::npos) << number;
  EXPECT_NE(page.find("data-chart=route data-router=\"router\""), std::string::npos);
  EXPECT_NE(page.find("gguf answers where max_probability is at least"), std::string::npos);
  EXPECT_NE(page.find("A smaller cache"), std::string::npos);
  EXPECT_LT(page.find("<section id=\"decision\">"), page.find("<section id=\"routing\">"));
  EXPECT_NE(html.find("function route("), std::string::npos);
  EXPECT_EQ(file_of(sample_report(), "report.html").find("<section id=\"routing\">"), std::string::npos);
}

TEST(Routing, NoThresholdIsSaidPlainly) {
  Json report = whole_report();
  report["routers"]["router"]["rule"] = Json();
  const std::string html = file_of(report, "report.html"), card = file_of(report, "report.md");
  EXPECT_NE(html.find("No threshold: gguf is nowhere sure enough"), std::string::npos);
  EXPECT_NE(card.find("Everything goes to teacher."), std::string::npos);
  report["routers"] = {{"<b>", sample_router("<img src=x>", 0.5)}, {"broken", 3}, {"empty", Json::object()}};
  const std::string hostile = file_of(report, "report.html");
  EXPECT_EQ(hostile.substr(0, hostile.find("<script")).find("<img"), std::string::npos);
}

TEST(Routing, SeveralRoutersAreFoldedButTheChoices) {
  Json report = whole_report();
  report["routers"] = {{"router-a", sample_router("teacher", 0.5)}, {"router-b", sample_router("gguf", 0.5)}};
  const std::string html = file_of(report, "report.html");
  EXPECT_NE(html.find("<summary>router-a</summary>"), std::string::npos);
  EXPECT_NE(html.find("<h3>router-b</h3>"), std::string::npos);
}

TEST(Routing, TheCardListsCandidatesCostRoutersAndCache) {
  const std::string card = file_of(whole_report(), "report.md");
  for (const char* part :
       {"## Candidates\n", "| gguf (choice) | gguf.type: q4\\_0 | 393 KiB | 95.0% |", "size, cost", "**not met**", "## Cost\n",
        "In EUR, prices of 2026-11-20", "| gguf | 0.0625 | 1.12 | 71.5 |", "| gguf | large (2026-11-19) | 850 | 11.9 | 54.3 K |", "## Routing\n",
        "at least 0.8750", "| router | 16.2% | 95.1% | 96.6% \\[94.1, 98.2\\] | 97.1% | 71.0% | 8.0% | 22.0% | 19.2% | 97.0% |",
        "## A smaller cache\n", "| gguf | q8\\_0 | 0.00125 ± 0.00031 | 12.375 | 98.8% |"})
    EXPECT_NE(card.find(part), std::string::npos) << part << "\n" << card;
}

TEST(Routing, EveryArtifactsNumbersHaveACallThatMeasuresThemAgain) {
  Json report = whole_report();
  report["recipe"]["stages"]["report"] = {
      {"kind", "evaluate"}, {"of", {"teacher", "gguf"}}, {"base", "teacher"}, {"text", "some text.txt"}, {"ctx", 512},
      {"stride", 0},        {"text_tokens", 4096},       {"task_rows", 0},    {"latency", true}};
  const std::string html = file_of(report, "report.html");
  EXPECT_NE(
      html.find("attar eval --model runs/triage/gguf/model.gguf --base runs/triage/teacher --text &#39;some text.txt&#39; --task TASK.yaml --ctx 512 "
                "--text-tokens 4096 --latency --json"),
      std::string::npos);
  EXPECT_EQ(file_of(whole_report(), "report.html").find("attar eval --model"), std::string::npos);
}

TEST(Routing, RoutersOfARunAreThoseOfItsReport) {
  const TestFolder run;
  for (const char* stage : {"router", "other", "elsewhere"}) fs::create_directories(run / stage);
  write_json(run / "router/router.json", sample_router("gguf", 0.5));
  write_json(run / "elsewhere/router.json", sample_router("gguf", 0.5));
  const Json stages = parse_json(R"({"report": {"kind": "evaluate"}, "router": {"kind": "route", "of": "report"}, "other": {"kind": "route", "of": "report"},
      "elsewhere": {"kind": "route", "of": "second"}})", "stages");
  const Json routers = routers_of(run.path(), stages, "report");
  ASSERT_EQ(routers.size(), 1u);
  EXPECT_EQ(routers["router"]["apgr"], 0.71);
  EXPECT_FALSE(routers["router"].contains("learned"));
  EXPECT_FALSE(routers["router"].contains("labels"));
  EXPECT_TRUE(routers_of(run.path(), Json(), "report").empty());
}

}  // namespace
}  // namespace attar
