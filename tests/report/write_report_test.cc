#include "report/report.h"

#include <regex>
#include <set>

#include "data_path.h"
#include "report/sample_report.h"
#include "report/terminal.h"

namespace attar {
namespace {

std::string html_of(const Json& report, const std::map<std::string, std::vector<Json>>& logs = {}) {
  const TestFolder folder;
  write_report(report, logs, folder.path());
  return read_file(folder / "report.html");
}

std::string markdown_of(const Json& report) {
  const TestFolder folder;
  write_report(report, {}, folder.path());
  return read_file(folder / "report.md");
}

void collect_numbers(const Json& value, std::set<std::string>& out) {
  if (value.is_number()) out.insert(to_line(value));
  if (value.is_structured())
    for (const Json& inner : value) collect_numbers(inner, out);
}

/// Everything between the tags that a browser would show or run: without the embedded JSON and the scripts.
std::string without_scripts(const std::string& html) {
  std::string out;
  for (size_t at = 0; at < html.size();) {
    const size_t begin = html.find("<script", at);
    out += html.substr(at, begin == std::string::npos ? begin : begin - at);
    if (begin == std::string::npos) break;
    at = html.find("</script>", begin) + 9;
  }
  return out;
}

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

TEST(WriteReport, EveryNumberOfThePageStandsInTheJson) {
  const TestFolder folder;
  write_report(sample_report(), sample_logs(), folder.path());
  std::set<std::string> numbers;
  collect_numbers(read_json(folder / "report.json"), numbers);
  const std::string html = without_scripts(read_file(folder / "report.html"));
  static const std::regex value("data-value=\"([^\"]*)\"");
  size_t found = 0;
  for (std::sregex_iterator it(html.begin(), html.end(), value), end; it != end; ++it, ++found) EXPECT_TRUE(numbers.count((*it)[1])) << (*it)[1];
  EXPECT_GT(found, 80u);
  for (const char* number : {"402112", "0.95", "-0.02", "-0.041", "0.0789", "410.5", "0.8125", "73728", "63211", "97"})
    EXPECT_NE(html.find(std::string("data-value=\"") + number + "\""), std::string::npos) << number;
}

TEST(WriteReport, TellsWhatTheModelKnowsByHeart) {
  const std::string html = html_of(sample_report()), card = markdown_of(sample_report());
  EXPECT_EQ(count_of(html, "<section id=\"privacy\">"), 1u);
  EXPECT_NE(html.find("data-value=\"0.125\""), std::string::npos);
  EXPECT_NE(html.find("data-value=\"0.0432\""), std::string::npos);
  EXPECT_NE(html.find("whose next 24 tokens"), std::string::npos);
  EXPECT_NE(card.find("| teacher | training rows 12.5% \\[8.6%, 17.8%\\] of 200, held-out rows 1.5%"), std::string::npos) << card;
  Json silent = sample_report();
  silent["artifacts"]["teacher"].erase("memorization");
  EXPECT_EQ(count_of(html_of(silent), "<section id=\"privacy\">"), 0u);
  EXPECT_EQ(markdown_of(silent).find("by heart"), std::string::npos);
}

TEST(WriteReport, TheJsonInThePageIsReportJson) {
  const TestFolder folder;
  Json report = sample_report();
  report["name"] = "</script><script>alert(1)</script>";
  write_report(report, sample_logs(), folder.path());
  const std::string html = read_file(folder / "report.html"), opening = "<script type=\"application/json\" id=report-json>";
  const size_t begin = html.find(opening) + opening.size();
  EXPECT_EQ(parse_json(html.substr(begin, html.find("</script>", begin) - begin), "page"), read_json(folder / "report.json"));
}

TEST(WriteReport, NothingHostileReachesThePageOrTheCard) {
  const std::string evil = "<img src=x onerror=alert(1)>\"'&`|\n# x\x01\xFF";
  Json report = sample_report();
  report["name"] = evil;
  report["license"] = evil;
  Json artifact = report["artifacts"]["teacher"];
  artifact["path"] = evil + ".gguf";
  artifact["text"] = evil;
  artifact["notes"] = {evil};
  artifact["task_details"]["triage"]["labels"] = {evil, evil + "2", "fine"};
  artifact["tasks"][evil] = artifact["tasks"]["triage"];
  artifact["task_details"][evil] = artifact["task_details"]["triage"];
  report["artifacts"][evil] = artifact;
  report["gates"][0]["path"] = evil;
  report["environment"][evil] = evil;
  report["lineage"][evil] = report["lineage"]["gguf"];
  report["lineage"][evil]["key"] = evil;
  report["lineage"][evil]["facts"]["tensors"][0]["name"] = evil;
  const std::string html = html_of(report, {{evil, sample_logs()["teacher"]}});
  const std::string shown = without_scripts(html);
  EXPECT_EQ(shown.find("<img"), std::string::npos);
  EXPECT_EQ(shown.find("onerror=alert(1)>\""), std::string::npos);
  EXPECT_GT(count_of(shown, "&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;"), 10u);
  EXPECT_EQ(html.find('\x01'), std::string::npos);
  EXPECT_EQ(html.find('\xFF'), std::string::npos);
  EXPECT_EQ(count_of(html, "<script"), count_of(html, "</script>"));

  const std::string card = markdown_of(report);
  const std::string body = card.substr(card.find("\n---\n") + 5);
  for (size_t at = body.find("<img"); at != std::string::npos; at = body.find("<img", at + 1)) {
    // Escaped, or in a fenced block, where nothing is markup.
    EXPECT_TRUE(body[at - 1] == '\\' || count_of(body.substr(0, at), "```") % 2 == 1) << body.substr(at > 60 ? at - 60 : 0, 120);
  }
}

TEST(WriteReport, OpensOfflineWithItsChartsInside) {
  const std::string html = html_of(sample_report(), sample_logs());
  EXPECT_NE(html.find("Chart.js v"), std::string::npos);
  EXPECT_NE(html.find("data-chart=quality"), std::string::npos);
  EXPECT_NE(html.find("data-chart=curves data-stage=\"teacher\""), std::string::npos);
  EXPECT_NE(html.find("data-chart=reliability"), std::string::npos);
  for (const char* remote : {"src=\"http", "href=\"http", "url(http", "@import", "<link"}) EXPECT_EQ(html.find(remote), std::string::npos) << remote;
  EXPECT_LT(html.size(), 5u << 20);
}

TEST(WriteReport, SameReportSameBytesAndAgainFromItsOwnJson) {
  const TestFolder folder;
  write_report(sample_report(), sample_logs(), folder.path());
  const std::string html = read_file(folder / "report.html"), json = read_file(folder / "report.json"), card = read_file(folder / "report.md");
  // Read back and without the logs, as when a run was cleaned.
  write_report(read_json(folder / "report.json"), {}, folder.path());
  EXPECT_EQ(read_file(folder / "report.html"), html);
  EXPECT_EQ(read_file(folder / "report.json"), json);
  EXPECT_EQ(read_file(folder / "report.md"), card);
}

TEST(WriteReport, NamesTheSmallestArtifactThatPassesAndItsPrice) {
  const TestFolder folder;
  write_report(sample_report(), {}, folder.path());
  Json report = read_json(folder / "report.json");
  EXPECT_EQ(report["summary"]["choice"], "gguf");
  EXPECT_DOUBLE_EQ(report["artifacts"]["gguf"]["against_base"]["times_smaller"].get<double>(), 12690000.0 / 402112.0);
  EXPECT_DOUBLE_EQ(report["artifacts"]["gguf"]["against_base"]["difference"]["low"].get<double>(), -0.041);
  EXPECT_EQ(report["summary"]["pareto"], (Json{"gguf", "teacher"}));
  EXPECT_EQ(report["artifacts"]["teacher"]["task_details"]["triage"]["top_confusions"][0], (Json{{"truth", "other"}, {"predicted", "access"},
      {"count", 3}, {"of", 100}}));
  report["gates"][0]["passed"] = false;
  report["verdict"] = "fail";
  write_report(report, {}, folder.path());
  EXPECT_TRUE(read_json(folder / "report.json")["summary"]["choice"].is_null());
  EXPECT_NE(read_file(folder / "report.html").find("No artifact meets all of its gates"), std::string::npos);
}

TEST(WriteReport, CurvesKeepMeansOfAllSteps) {
  const TestFolder folder;
  write_report(sample_report(), sample_logs(), folder.path());
  const Json curves = read_json(folder / "report.json")["curves"]["teacher"];
  ASSERT_EQ(curves.size(), 3u);
  EXPECT_LE(curves[0]["points"].size(), 240u);
  EXPECT_EQ(curves[0]["points"][0], (Json{3.0, 1.37}));  // steps 1 to 5: mean of 3/step
  EXPECT_EQ(curves[2]["held_out"], true);
  EXPECT_EQ(curves[2]["points"].size(), 10u);
}

TEST(WriteReport, WhatIsMissingIsLeftOut) {
  const char* reports[] = {"{}", "[]", "null", R"({"artifacts": null, "gates": 3, "lineage": []})", R"({"artifacts": {"a": {"bytes": 10}}})",
                           R"({"artifacts": {"a": {"bytes": null, "tasks": {"t": {"accuracy": null}}, "kld": "x"}, "b": 3}, "summary": 1, "curves": 2, "base": "a"})",
                           R"({"artifacts": {"a": {"bytes": 0}, "b": {"bytes": 5, "task_details": {"t": {"labels": ["x"], "confusion": [[1, 2]], "f1": [], "reliability": 3}}}}, "base": "a"})",
                           R"({"gates": [1, {}], "lineage": {"s": 1, "e": {"facts": {"tensors": [1], "pruned": {"layers": [2]}, "notes": [3]}}}, "recipe": {"task": 1}})"};
  for (const char* text : reports) {
    const Json report = parse_json(text, "report");
    const std::string html = html_of(report);
    EXPECT_NE(html.find("</html>"), std::string::npos) << text;
    EXPECT_EQ(markdown_of(report).substr(0, 4), "---\n") << text;
    terminal_summary(report);
  }
  EXPECT_NE(html_of(parse_json(reports[4], "report")).find("data-value=\"10\""), std::string::npos);
  EXPECT_EQ(terminal_summary(parse_json(reports[4], "report")), "artifact  size\n────────  ────\na         10 B\n");
}

TEST(WriteReport, TwentyArtifactsOfManyClassesStaySmall) {
  Json report = sample_report(), details = Json::object();
  details["labels"] = Json::array(), details["confusion"] = Json::array(), details["f1"] = Json::array();
  for (int i = 0; i < 77; ++i) {
    details["labels"].push_back("a class with a rather long name, number " + std::to_string(i));
    Json row = Json::array();
    for (int j = 0; j < 77; ++j) row.push_back((i * 7 + j * 3) % 11 == 0 ? 2 : 0);
    details["confusion"].push_back(row);
    details["f1"].push_back(0.5 + i / 200.0);
  }
  Json artifact = report["artifacts"]["teacher"];
  artifact["task_details"]["triage"] = details;
  for (int i = 0; i < 20; ++i) report["artifacts"]["candidate_" + std::to_string(i)] = artifact;
  EXPECT_LT(html_of(report, sample_logs()).size(), 5u << 20);
}

TEST(TerminalSummary, SaysVerdictNumbersAndGates) {
  const std::string text = terminal_summary(sample_report());
  EXPECT_EQ(text.substr(0, text.find('\n')), "triage: pass, every gate is met");
  for (const char* part : {"393 KiB", "95.0% [92.0, 97.0]", "0.0789 ±0.0024", "89.9%", "at least 0.93", "0.9500", "met"}) EXPECT_NE(text.find(part),
      std::string::npos) << part << "\n" << text;
}

TEST(Markdown, BeginsWithHuggingFacesHeader) {
  Json report = sample_report();
  report["base_model"] = "someone/some-model";
  const std::string card = markdown_of(report);
  EXPECT_EQ(
      card.substr(0, card.find("model-index")),
      "---\nlicense: apache-2.0\nbase_model: \"someone/some-model\"\npipeline_tag: text-generation\ntags:\n- attar\n- distillation\n- pruning\n- gguf\n- llama.cpp\n");
  EXPECT_NE(card.find("\n---\n"), std::string::npos);
  for (const char* part : {"| gguf | 393 KiB | 501 K | 6.42 | 95.0% (92.0% to 97.0%) |", "llama-server -m gguf/model.gguf",
      "ollama create triage -f Modelfile", "FROM ./gguf/model.gguf"})
    EXPECT_NE(card.find(part), std::string::npos) << part << "\n" << card;
}

TEST(Markdown, LicencesThatHuggingFaceDoesNotKnowAreOther) {
  Json report = sample_report();
  report["license"] = "Our own: \"terms\"";
  EXPECT_NE(markdown_of(report).find("license: other\nlicense_name: \"Our own: \\\"terms\\\"\"\n"), std::string::npos);
  report["license"] = "";
  EXPECT_NE(markdown_of(report).find("license: unknown\n"), std::string::npos);
}

}  // namespace
}  // namespace attar
