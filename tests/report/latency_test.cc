#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "data_path.h"
#include "report/facts.h"
#include "report/report.h"
#include "report/sample_report.h"
#include "report/terminal.h"

namespace attar {
namespace {

Json grid_point(int prompt, int threads, double first) {
  const auto spread = [](double value) { return Json{{"value", value}, {"p10", 0.875 * value}, {"p90", 1.125 * value}, {"p99", 1.25 * value}}; };
  return {{"prompt_tokens", prompt}, {"new_tokens", 16}, {"threads", threads}, {"pinned", true}, {"runs", 5}, {"warm_up", 1},
          {"ttft_s", spread(first)}, {"time_per_token_s", spread(0.03125)}, {"tokens_per_s", spread(31.5)}, {"prompt_tokens_per_s", spread(prompt / first)}};
}

/// Both artifacts over two lengths and two numbers of threads; one point was left out.
Json report_with_grid() {
  Json report = sample_report();
  for (const char* id : {"teacher", "gguf"}) {
    Json& latency = report["artifacts"][id]["latency"];
    latency = grid_point(32, 1, 0.0625);
    for (const int threads : {1, 2})
      for (const int prompt : {32, 128})
        latency["grid"]["p" + std::to_string(prompt) + "_n16_t" + std::to_string(threads)] = grid_point(prompt, threads, prompt / 512.0 / threads);
    latency["load_s"] = {{"value", 0.4375}, {"least", 0.40625}, {"most", 0.46875}, {"runs", 3}, {"page_cache", "warm"}};
  }
  report["artifacts"]["gguf"]["latency"]["left_out"] = {"p4096_n16_t1: the context holds 512 tokens"};
  report["artifacts"]["gguf"]["latency"]["grid"]["p128_n16_t2"]["not_pinned"] = "2 threads on 1 core";
  return report;
}

std::string page_of(const Json& report, const char* file = "report.html") {
  const TestFolder folder;
  write_report(report, {}, folder.path());
  return read_file(folder / file);
}

void numbers_of(const Json& value, std::set<std::string>& out) {
  if (value.is_number()) out.insert(to_line(value));
  if (value.is_structured())
    for (const Json& inner : value) numbers_of(inner, out);
}

TEST(LatencyReport, ThePageHasEveryPointWithItsSpread) {
  const std::string html = page_of(report_with_grid());
  std::set<std::string> numbers;
  numbers_of(report_with_grid(), numbers);
  const size_t begin = html.find("Over lengths and threads"), end = html.find("<section", begin);
  ASSERT_NE(begin, std::string::npos);
  const std::string part = html.substr(begin, end - begin);
  static const std::regex value("data-value=\"([^\"]*)\"");
  size_t found = 0;
  for (std::sregex_iterator it(part.begin(), part.end(), value), none; it != none; ++it, ++found) EXPECT_TRUE(numbers.count((*it)[1])) << (*it)[1];
  EXPECT_EQ(found, 2u * 4u * (9u + 2u * 4u));  // nine columns, four of them with two more in brackets
  EXPECT_NE(part.find("data-chart=latency data-of=ttft_s"), std::string::npos);
  EXPECT_NE(part.find("data-chart=latency data-of=tokens_per_s"), std::string::npos);
  EXPECT_NE(part.find("left out, p4096_n16_t1: the context holds 512 tokens"), std::string::npos);
  EXPECT_NE(part.find("p128_n16_t2: threads were not pinned: 2 threads on 1 core"), std::string::npos);
  EXPECT_NE(part.find("<details open><summary>gguf"), std::string::npos) << "the choice's table is open";
  EXPECT_NE(html.find("data-value=\"0.4375\">438<"), std::string::npos);
  EXPECT_NE(html.find("1 thread, each on a core of its own"), std::string::npos);
}

TEST(LatencyReport, TheCardHasALineForEachPoint) {
  const std::string card = page_of(report_with_grid(), "report.md");
  for (const char* line : {"| gguf | 128 | 16 | 2 | 125 | 156 | 31.2 | 39.1 | 31.5 | 1024 |",
                           "| teacher | 32 | 16 | 1 | 62.5 | 78.1 | 31.2 | 39.1 | 31.5 | 512 | 438 | 298 MiB |"})
    EXPECT_NE(card.find(line), std::string::npos) << line << "\n" << card.substr(card.find("## Running it"));
}

TEST(LatencyReport, OnePointNeedsNoChart) {
  const std::string html = page_of(sample_report());
  EXPECT_EQ(html.find("Over lengths and threads"), std::string::npos);
  const std::string card = page_of(sample_report(), "report.md");
  EXPECT_NE(card.find("| teacher | 32 | 16 | 2 | 5.10 | 6.00 | – | – | 410 | – | – | 298 MiB |"), std::string::npos) << card;
}

TEST(GateNumbers, WholeNumbersAndBytesReadAsSuch) {
  Json report = sample_report();
  report["gates"] = {{{"path", "gguf.bytes"}, {"limit", {{"at_most", 2000000.0}}}, {"value", 402112}, {"passed", true}},
                     {{"path", "gguf.parameters"}, {"limit", {{"at_most", 600000.0}}}, {"value", 500900}, {"passed", true}},
                     {{"path", "gguf.memory.peak_rss_bytes"}, {"limit", {{"at_most", 312000001.0}}}, {"value", 312000000}, {"passed", true}},
                     {{"path", "gguf.latency.grid.p128_n16_t2.ttft_s"}, {"limit", {{"at_most", 0.25}}}, {"value", 0.123456}, {"passed", true}}};
  const std::string words = terminal_summary(report), card = page_of(report, "report.md"), html = page_of(report);
  for (const std::string& text : {words, card}) {
    for (const char* shown : {"at most 1.91 MiB", "393 KiB", "at most 600000 ", "at most 312000001 B", "312000000 B", "at most 0.25 ", "0.1235"})
      EXPECT_NE(text.find(shown), std::string::npos) << shown << "\n" << text;
    EXPECT_EQ(text.find("000.0"), std::string::npos) << text;
  }
  EXPECT_NE(html.find("data-value=\"2000000.0\">1.91 MiB<"), std::string::npos);
  EXPECT_NE(html.find("data-value=\"600000.0\">600000<"), std::string::npos);
}

}  // namespace
}  // namespace attar
