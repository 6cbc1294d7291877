#include "decide/registry.h"

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/hash.h"
#include "data_path.h"

namespace attar {
namespace {

/// A run's folder as `attar run` leaves it, with one artifact.
fs::path small_run(const fs::path& place, const std::string& bytes, double accuracy, bool passed = true) {
  make_folder(place / "gguf");
  make_folder(place / "report");
  write_file(place / "gguf" / "model.gguf", bytes);
  write_json(place / "recipe.json", {{"name", "job"}, {"stages", {{"report", {{"kind", "evaluate"}}}}}});
  write_json(place / "report" / "report.json",
             {{"verdict", passed ? "pass" : "fail"},
              {"name", "job"},
              {"artifacts",
               {{"gguf",
                 {{"stage", "gguf"},
                  {"path", "gguf/model.gguf"},
                  {"sha256", sha256(bytes)},
                  {"bytes", bytes.size()},
                  {"parameters", 10},
                  {"tasks", {{"t", {{"accuracy", {{"value", accuracy}, {"low", accuracy - 0.02}, {"high", accuracy + 0.02}, {"n", 500}}}}}}}}}}},
              {"gates", Json::array({Json{{"path", "gguf.tasks.t.accuracy"}, {"passed", passed}}})},
              {"summary", {{"choice", passed ? Json("gguf") : Json()}}},
              {"data", {{"train", {{"path", "train.jsonl"}, {"sha256", "d0"}}}}},
              {"lineage",
               {{"student", {{"kind", "distill"}, {"key", "k1"}, {"inputs", Json::object()}}},
                {"other", {{"kind", "distill"}, {"key", "k3"}, {"inputs", Json::object()}}},
                {"gguf", {{"kind", "export"}, {"key", "k2"}, {"inputs", {{"model", {{"name", "student"}, {"key", "k1"}}}}}}}}}});
  return place;
}

TEST(Registry, AddPromoteRollBack) {
  TestFolder folder;
  Registry registry(folder.path() / "r.db", true);
  const RegistryModel one = registry.add(small_run(folder.path() / "a", "aaaa", 0.8), "", ""),
                      two = registry.add(small_run(folder.path() / "b", "bbbbb", 0.9), "gguf", "");
  EXPECT_EQ(one.label(), "job@1");
  EXPECT_EQ(two.label(), "job@2");
  EXPECT_EQ(registry.add(folder.path() / "a", "", "").id, one.id);  // the same file once
  EXPECT_EQ(registry.find("job").label(), "job@2");                 // none in use: the newest
  registry.promote("job@1", false);
  EXPECT_EQ(registry.find("job").label(), "job@1");
  EXPECT_THROW(registry.roll_back("job"), Error);
  registry.promote("job@2", false);
  EXPECT_TRUE(registry.find("job@2").promoted);
  EXPECT_EQ(registry.roll_back("job").label(), "job@1");
  EXPECT_TRUE(registry.list("job")[0].promoted);
  EXPECT_FALSE(registry.list("job")[1].promoted);
  EXPECT_THROW(registry.roll_back("job"), Error);
  EXPECT_EQ(registry.history("job").size(), 3u);
  registry.promote("job@2", false);
  EXPECT_EQ(registry.roll_back("job").label(), "job@1");
  EXPECT_THROW(registry.find("jib"), Error);
}

TEST(Registry, OutlivesItsProcess) {
  TestFolder folder;
  {
    Registry registry(folder.path() / "r.db", true);
    registry.add(small_run(folder.path() / "a", "aaaa", 0.8), "", "it's; DROP TABLE models");
    registry.promote("1", false);
  }
  Registry registry(folder.path() / "r.db", false);
  ASSERT_EQ(registry.list().size(), 1u);
  EXPECT_EQ(registry.list()[0].name, "it's; DROP TABLE models");
  EXPECT_TRUE(registry.list()[0].promoted);
}

TEST(Registry, ChangedFilesAndMissedGatesAreRefused) {
  TestFolder folder;
  Registry registry(folder.path() / "r.db", true);
  small_run(folder.path() / "a", "aaaa", 0.8);
  write_file(folder.path() / "a" / "gguf" / "model.gguf", "other");
  EXPECT_THROW(registry.add(folder.path() / "a", "", ""), Error);
  registry.add(small_run(folder.path() / "b", "bbbb", 0.8), "", "");
  write_file(folder.path() / "b" / "gguf" / "model.gguf", "other");
  EXPECT_THROW(registry.promote("job@1", false), Error);
  small_run(folder.path() / "c", "cccc", 0.3, false);
  EXPECT_THROW(registry.add(folder.path() / "c", "", ""), Error);  // no choice
  EXPECT_EQ(registry.add(folder.path() / "c", "gguf", "").label(), "job@2");
  EXPECT_THROW(registry.promote("job@2", false), Error);
  EXPECT_EQ(registry.promote("job@2", true).label(), "job@2");
  EXPECT_THROW(registry.add(folder.path() / "nowhere", "", ""), Error);
  EXPECT_THROW(registry.add(folder.path() / "c", "ggfu", ""), Error);
}

TEST(Registry, OtherFilesAreNoRegistry) {
  TestFolder folder;
  EXPECT_THROW(Registry(folder.path() / "none.db", false), Error);
  write_file(folder.path() / "text.db", std::string(5000, 'x'));
  EXPECT_THROW(Registry(folder.path() / "text.db", false), Error);
  {
    Database other(folder.path() / "other.db", true);
    other.run("CREATE TABLE mine(x)");
  }
  EXPECT_THROW(Registry(folder.path() / "other.db", true), Error);
}

TEST(Registry, LineageHoldsOnlyWhatTheModelIsMadeOf) {
  TestFolder folder;
  Registry registry(folder.path() / "r.db", true);
  registry.add(small_run(folder.path() / "a", "aaaa", 0.8), "", "");
  const Json lineage = registry.lineage("job@1");
  ASSERT_EQ(lineage["stages"].size(), 2u);
  EXPECT_EQ(lineage["stages"][0]["stage"], "student");
  EXPECT_EQ(lineage["stages"][1]["stage"], "gguf");
  EXPECT_EQ(lineage["data"]["train"]["sha256"], "d0");
  EXPECT_EQ(lineage["file"]["sha256"], sha256("aaaa"));
}

TEST(Registry, CompareAndRecheck) {
  TestFolder folder;
  Registry registry(folder.path() / "r.db", true);
  registry.add(small_run(folder.path() / "a", "aaaa", 0.8), "", "");
  registry.add(small_run(folder.path() / "b", "bbbbb", 0.9), "", "");
  const Json numbers = compare_models(registry.find("job@1"), registry.find("job@2"));
  EXPECT_EQ(numbers[0]["number"], "bytes");
  EXPECT_EQ(numbers[0]["difference"]["value"], -1.0);
  EXPECT_EQ(numbers[2]["number"], "tasks.t.accuracy");
  EXPECT_LT(numbers[2]["difference"]["high"].get<double>(), 0);
  registry.promote("job@2", false);
  const auto fresh = [](double accuracy) {
    return [=](const RegistryModel&) -> Json {
      return {{"tasks", {{"t", {{"accuracy", {{"value", accuracy}, {"low", accuracy - 0.02}, {"high", accuracy + 0.02}, {"n", 500}}}}}}}};
    };
  };
  EXPECT_FALSE(registry.recheck(false, 0, "new", fresh(0.88)).at(0).worse);
  EXPECT_TRUE(registry.recheck(false, 0, "new", fresh(0.85)).at(0).worse);
  EXPECT_FALSE(registry.recheck(false, 0.03, "new", fresh(0.85)).at(0).worse);
  EXPECT_EQ(registry.recheck(true, 0, "new", fresh(0.9)).size(), 2u);
  const auto failed = registry.recheck(false, 0, "new", [](const RegistryModel&) -> Json { fail("no such label"); });
  EXPECT_TRUE(failed.at(0).worse);
  EXPECT_NE(failed.at(0).note.find("no such label"), std::string::npos);
}

}  // namespace
}  // namespace attar
