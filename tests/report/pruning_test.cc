#include <gtest/gtest.h>

#include "report/html.h"

namespace attar {
namespace {

Json pruned_stage() {
  return Json::parse(R"({"kind": "prune", "facts": {
    "masks": {"method": "wanda", "pattern": "2:4", "sparsity": 0.5, "sparsity_of_model": 0.31, "broken": 0},
    "search": {"unit": "bytes", "limit": 400000, "candidates": [
      {"vocab": 512, "hidden": 96, "layers": 4, "heads": 4, "kv_heads": 2, "ffn": 160, "parameters": 431234, "cost": 398112, "loss": 2.25, "recovered": 1.75, "chosen": true},
      {"vocab": 512, "hidden": 64, "layers": 6, "heads": 4, "kv_heads": 2, "ffn": 224, "parameters": 420000, "cost": 399001, "loss": 2.5, "recovered": null, "chosen": false}]}}})");
}

TEST(PruningReport, SaysWhatMasksGiveAndWhatASearchTried) {
  const std::string html = pruning_html("small<", pruned_stage());
  EXPECT_NE(html.find("50.0% of the linears"), std::string::npos) << html;
  EXPECT_NE(html.find("31.0% of the whole model"), std::string::npos);
  EXPECT_NE(html.find("no smaller and no faster"), std::string::npos);
  EXPECT_NE(html.find("small&lt;: shapes that were tried"), std::string::npos);
  EXPECT_NE(html.find("chosen"), std::string::npos);
  EXPECT_NE(html.find("1.750"), std::string::npos);
  EXPECT_EQ(html.find("small<"), std::string::npos);
  Json report = {{"lineage", {{"pruned", pruned_stage()}}}};
  const std::string markdown = pruning_markdown(report);
  EXPECT_NE(markdown.find("## Pruning"), std::string::npos);
  EXPECT_NE(markdown.find("| 512 | 96 | 4 | 4 | 2 | 160 | 431 K | 2.250 | 1.750 | chosen |"), std::string::npos) << markdown;
  EXPECT_NE(markdown.find("| 512 | 64 | 6 | 4 | 2 | 224 |"), std::string::npos);
  EXPECT_NE(markdown.find("| 2.500 | – | |"), std::string::npos);
  Json broken = pruned_stage();
  broken["facts"]["masks"]["broken"] = 12;
  EXPECT_NE(pruning_html("x", broken).find("no longer zero"), std::string::npos);
}

TEST(PruningReport, IsSilentWhereThereIsNothing) {
  EXPECT_EQ(pruning_html("x", Json::object()), "");
  EXPECT_EQ(pruning_markdown(Json::object()), "");
  EXPECT_EQ(pruning_markdown({{"lineage", {{"x", {{"kind", "distill"}, {"facts", Json::object()}}}}}}), "");
  for (const char* hostile : {R"({"facts": {"search": 5, "masks": []}})", R"({"facts": {"search": {"candidates": [1, null, {}]}}})",
                              R"({"facts": {"search": {"unit": 7, "candidates": [{"chosen": "yes", "loss": "x", "cost": []}]}, "masks": {"sparsity": "half"}}})"}) {
    pruning_html("x", Json::parse(hostile));
    pruning_markdown({{"lineage", {{"x", Json::parse(hostile)}}}});
  }
}

}  // namespace
}  // namespace attar
