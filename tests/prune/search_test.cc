#include "prune/search.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/check.h"
#include "data_path.h"
#include "prune/file_bytes.h"
#include "spec/latency_table.h"

namespace attar {
namespace {

ModelSpec spec_to_search() {
  ModelSpec s;
  s.vocab = 1000, s.hidden = 256, s.head_size = 32, s.context = 256;
  s.layers.assign(8, LayerSpec{.ffn = 768, .heads = 8, .kv_heads = 4});
  return s;
}

SearchLimit parameter_limit(double most) {
  return {"parameters", most, {""}, [](const ModelSpec& spec, int64_t, const std::string&) { return static_cast<double>(parameter_count(spec)); }};
}

/// A judge with a taste: more hidden channels, then more layers.
double pretended_loss(const Candidate& c) { return 10 - 0.01 * static_cast<double>(c.spec.hidden) - 0.1 * static_cast<double>(c.spec.layers.size()); }

TEST(Search, CandidatesFillTheLimitAndNoneHoldsAnother) {
  const ModelSpec spec = spec_to_search();
  const double most = 0.4 * static_cast<double>(parameter_count(spec));
  const auto candidates = search_candidates(spec, {}, {{0, 1000}, {1, 400}}, parameter_limit(most), 3);
  EXPECT_GT(candidates.size(), 5u);
  bool small_vocabulary = false;
  for (const Candidate& c : candidates) {
    EXPECT_LE(parameter_count(c.spec), most);
    EXPECT_EQ(c.cost, static_cast<double>(parameter_count(c.spec)));
    small_vocabulary = small_vocabulary || c.spec.vocab == 400;
    // One step wider would be too much, or there is no wider.
    ModelSpec wider = c.spec;
    for (LayerSpec& layer : wider.layers) layer.ffn += 32;
    if (c.spec.layers[0].ffn < 768) { EXPECT_GT(parameter_count(wider), most); }
    for (const Candidate& other : candidates) {
      if (&other == &c) continue;
      const bool held = other.spec.vocab >= c.spec.vocab && other.spec.hidden >= c.spec.hidden && other.spec.layers.size() >= c.spec.layers.size() &&
                        other.spec.layers[0].ffn >= c.spec.layers[0].ffn && other.spec.layers[0].heads >= c.spec.layers[0].heads &&
                        other.spec.layers[0].kv_heads >= c.spec.layers[0].kv_heads;
      EXPECT_FALSE(held);
    }
  }
  EXPECT_TRUE(small_vocabulary);
}

TEST(Search, ALimitThatCannotBeMetNamesTheNearest) {
  const ModelSpec spec = spec_to_search();
  try {
    search_candidates(spec, {}, {{0, 1000}}, parameter_limit(1000), 3);
    FAIL();
  } catch (const Error& error) {
    // Half the hidden channels, layers and kv heads, and one step of FFN.
    ModelSpec least = spec;
    least.hidden = 128;
    least.layers.assign(4, LayerSpec{.ffn = 32, .heads = 4, .kv_heads = 2});
    EXPECT_NE(std::string(error.what()).find(std::to_string(parameter_count(least))), std::string::npos) << error.what();
  }
  PruneConfig both;
  both.hidden = 0.5;
  EXPECT_THROW(search_candidates(spec, both, {{0, 1000}}, parameter_limit(1e6), 3), Error);
  PruneConfig none;
  none.search.hidden.clear();
  EXPECT_THROW(search_candidates(spec, none, {{0, 1000}}, parameter_limit(1e6), 3), Error);
  SearchConfig two;
  two.bytes = 5, two.parameters = 5;
  EXPECT_THROW(search_limit(two), Error);
  EXPECT_FALSE(has_search({}));
}

TEST(Search, SharesThatTakeProtectedLayersAreNotTried) {
  ModelSpec spec = spec_to_search();
  spec.layers.resize(3);
  PruneConfig config;
  config.search.depth = {1, 0.67, 0.3};
  for (const Candidate& c : search_candidates(spec, config, {{0, 1000}}, parameter_limit(0.6 * static_cast<double>(parameter_count(spec))), 1))
    EXPECT_GE(c.spec.layers.size(), 2u);
  config.search.depth = {0.3};
  EXPECT_THROW(search_candidates(spec, config, {{0, 1000}}, parameter_limit(1e9), 1), Error) << "says which layers are protected";
}

TEST(Search, SameSeedSameShapes) {
  const ModelSpec spec = spec_to_search();
  PruneConfig config;
  config.search.candidates = 4;
  const double most = 0.4 * static_cast<double>(parameter_count(spec));
  const auto shapes = [&](uint64_t seed) {
    std::vector<double> out;
    for (const Candidate& c : search_candidates(spec, config, {{0, 1000}}, parameter_limit(most), seed)) out.push_back(c.cost);
    return out;
  };
  EXPECT_EQ(shapes(1).size(), 4u);
  EXPECT_EQ(shapes(1), shapes(1));
  bool other = false;
  for (uint64_t seed = 2; seed < 8; ++seed) other = other || shapes(seed) != shapes(1);
  EXPECT_TRUE(other);
}

TEST(Search, FinalistsAreRecoveredAndTheBestOfThemIsChosen) {
  const ModelSpec spec = spec_to_search();
  PruneConfig config;
  config.search.finalists = 3;
  const SearchLimit limit = parameter_limit(0.4 * static_cast<double>(parameter_count(spec)));
  auto candidates = search_candidates(spec, config, {{0, 1000}}, limit, 3);
  std::vector<size_t> recovered;
  const SearchJudges judges{pretended_loss, [&](const Candidate& c, size_t number) {
                              recovered.push_back(number);
                              return 20 - pretended_loss(c);  // what looked worst of the three recovers best
                            }};
  const size_t best = search_best(candidates, config.search, judges, {}, "f", true);
  ASSERT_EQ(recovered.size(), 3u);
  EXPECT_EQ(best, recovered[2]);
  for (size_t i : recovered)
    for (size_t j = 0; j < candidates.size(); ++j)
      if (std::find(recovered.begin(), recovered.end(), j) == recovered.end()) { EXPECT_LE(*candidates[i].loss, *candidates[j].loss); }
  const Json table = search_table(candidates, best, limit);
  EXPECT_EQ(table["candidates"].size(), candidates.size());
  EXPECT_TRUE(table["candidates"][0]["chosen"].get<bool>()) << "best first";
  EXPECT_TRUE(table["candidates"][3]["recovered"].is_null());
}

TEST(Search, GoesOnWhereItWasKilled) {
  const TestFolder folder;
  const ModelSpec spec = spec_to_search();
  PruneConfig config;
  config.search.finalists = 2;
  const SearchLimit limit = parameter_limit(0.4 * static_cast<double>(parameter_count(spec)));
  const auto fresh = [&] { return search_candidates(spec, config, {{0, 1000}}, limit, 3); };
  auto whole = fresh();
  const SearchJudges plain{pretended_loss, [](const Candidate& c, size_t) { return pretended_loss(c) - 1; }};
  const size_t expected = search_best(whole, config.search, plain, {}, "f", true);

  int64_t losses = 0, recoveries = 0;
  const auto killed_after = [&](int64_t most) {
    return SearchJudges{[&, most](const Candidate& c) {
                          if (++losses > most) fail("search", "no interruption", "one");
                          return pretended_loss(c);
                        },
                        [&](const Candidate& c, size_t) {
                          if (++recoveries == 2) fail("search", "no interruption", "one");
                          return pretended_loss(c) - 1;
                        }};
  };
  auto first = fresh();
  EXPECT_THROW(search_best(first, config.search, killed_after(3), folder / "search.json", "f", true), Error);
  losses = 0;
  auto second = fresh();
  EXPECT_THROW(search_best(second, config.search, killed_after(1000), folder / "search.json", "f", true), Error) << "while recovering";
  EXPECT_EQ(losses, static_cast<int64_t>(second.size()) - 3);
  losses = 0;
  auto third = fresh();
  EXPECT_EQ(search_best(third, config.search, killed_after(1000), folder / "search.json", "f", true), expected);
  EXPECT_EQ(losses, 0);
  EXPECT_EQ(recoveries, 3);
  EXPECT_EQ(search_table(third, expected, limit), search_table(whole, expected, limit));
  auto other = fresh();
  search_best(other, config.search, killed_after(1000), folder / "search.json", "another table", true);
  EXPECT_EQ(losses, static_cast<int64_t>(other.size())) << "what another search knew is not used";
}

TEST(Search, BytesAreThoseOfTheFile) {
  const ModelSpec spec = spec_to_search();
  // F32 throughout: four bytes a parameter, and the table of names.
  const int64_t f32 = gguf_tensor_bytes(spec, "f32");
  EXPECT_GE(f32, 4 * parameter_count(spec));
  EXPECT_LT(f32, 4 * parameter_count(spec) + 20000);
  EXPECT_LT(gguf_tensor_bytes(spec, "q4_0"), f32 / 5);
  EXPECT_THROW(gguf_tensor_bytes(spec, "q4_9"), Error);
  const TestFolder folder;
  EXPECT_GT(gguf_metadata_bytes(spec, nullptr, folder / "m.gguf"), 300);
  EXPECT_FALSE(fs::exists(folder / "m.gguf"));
}

/// Fewer bits a weight leave room for wider shapes; which is better is measured, so both are tried, and a shape that two types give once.
TEST(Search, TypesShareTheLimitWithWidths) {
  const ModelSpec spec = spec_to_search();
  const TestFolder folder;
  PruneConfig config;
  config.search.finalists = 0;
  SearchLimit limit{"bytes", 0.3 * static_cast<double>(gguf_tensor_bytes(spec, "q8_0")), {"q4_0", "q8_0"},
                    [](const ModelSpec& s, int64_t, const std::string& type) { return static_cast<double>(gguf_tensor_bytes(s, type)); }};
  const auto fresh = [&] { return search_candidates(spec, config, {{0, 1000}}, limit, 3); };
  auto candidates = fresh();
  int64_t widest[2] = {0, 0};
  for (size_t i = 0; i < candidates.size(); ++i) {
    const Candidate& c = candidates[i];
    ASSERT_TRUE(c.type == "q4_0" || c.type == "q8_0");
    EXPECT_EQ(c.cost, static_cast<double>(gguf_tensor_bytes(c.spec, c.type)));
    EXPECT_LE(c.cost, limit.most);
    int64_t& most = widest[c.type == "q8_0"];
    most = std::max(most, parameter_count(c.spec));
    for (size_t j = 0; j < i; ++j) EXPECT_NE(to_line(config_from_spec(c.spec, "f")), to_line(config_from_spec(candidates[j].spec, "f")));
  }
  EXPECT_GT(widest[0], widest[1]);
  EXPECT_GT(widest[1], 0);

  // What the judge chose is kept with what it measured.
  int64_t judged = 0;
  const SearchJudges judges{[&](Candidate& c) {
                              ++judged;
                              c.types = {{"w", GgmlType::q5_0}}, c.cost = 17;
                              return pretended_loss(c);
                            },
                            {}};
  const size_t best = search_best(candidates, config.search, judges, folder / "search.json", "f", true);
  auto again = fresh();
  EXPECT_EQ(search_best(again, config.search, judges, folder / "search.json", "f", true), best);
  EXPECT_EQ(judged, static_cast<int64_t>(candidates.size()));
  EXPECT_EQ(search_table(again, best, limit), search_table(candidates, best, limit));
  EXPECT_EQ(again[best].types.at("w"), GgmlType::q5_0);
  EXPECT_EQ(search_table(again, best, limit)["candidates"][0]["types"]["q5_0"], 1);

  limit.most = 1000;
  EXPECT_THROW(fresh(), Error);
  SearchConfig unlimited;
  unlimited.types = {"q4_0"};
  EXPECT_THROW(search_limit(unlimited), Error) << "types share a limit in bytes";
  unlimited.parameters = 100;
  EXPECT_THROW(search_limit(unlimited), Error);
}

TEST(Search, LatencyIsATableToo) {
  LatencyTable table;
  table.machine = "test", table.widths = {64, 256, 1024};
  for (int64_t rows : table.widths)
    for (int64_t columns : table.widths) table.linear_ms.push_back(1e-6 * static_cast<double>(rows * columns));
  table.layer_ms = 0.02;
  const ModelSpec spec = spec_to_search();
  const SearchLimit limit{
      "ms_per_token", 0.5 * table.token(spec), {""}, [&](const ModelSpec& s, int64_t, const std::string&) { return table.token(s); }};
  const auto candidates = search_candidates(spec, {}, {{0, 1000}}, limit, 3);
  ASSERT_FALSE(candidates.empty());
  for (const Candidate& c : candidates) EXPECT_LE(table.token(c.spec), limit.most);
}

}  // namespace
}  // namespace attar
