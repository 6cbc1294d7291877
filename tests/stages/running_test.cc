// What running an artifact costs, as an evaluate stage measures it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "decide/gates.h"
#include "device/device.h"
#include "device/threads.h"
#include "stages/trained_model.h"

namespace attar {
namespace {

class Running : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    root_ = new fs::path(fs::temp_directory_path() / ("attar_running_test_" + std::to_string(::getpid())));
    fs::remove_all(*root_);
    train_small_model(*root_, "model", 300);
    fs::copy(*root_ / "model", *root_ / "again", fs::copy_options::recursive);
  }
  static void TearDownTestSuite() {
    fs::remove_all(*root_);
    delete root_, root_ = nullptr;
  }
  static std::string path(const std::string& name) { return (*root_ / name).string(); }
  /// The artifacts of an evaluation of the model and of its copy.
  static Json measured(const Json& more, const std::string& out) {
    Json config = {{"of", {path("model"), path("again")}}, {"text", path("text.txt")}, {"ctx", 32}, {"text_tokens", 256}};
    config.update(more);
    run_stage_alone(*root_, "evaluate", config, out);
    return read_json(*root_ / out / "report.json")["artifacts"];
  }
  static fs::path* root_;
};
fs::path* Running::root_ = nullptr;

TEST_F(Running, AGridOfLengthsAndThreadsStandsInTheReport) {
  const int64_t threads_before = thread_count(), most = std::min<int64_t>(2, static_cast<int64_t>(allowed_cores().size()));
  const Json running = {{"prompt_tokens", {4, 16, 4096}}, {"new_tokens", {2, 3}}, {"threads", {1, most}}, {"runs", 2}, {"load_runs", 2}};
  const Json artifacts = measured({{"running", running}}, "grid");
  EXPECT_EQ(thread_count(), threads_before);
  for (const char* id : {"model", "again"}) {
    const Json latency = artifacts[path(id)]["latency"];
    EXPECT_EQ(latency["grid"].size(), most == 2 ? 8u : 4u);
    EXPECT_EQ(latency["left_out"].size(), most == 2 ? 4u : 2u);
    EXPECT_EQ(latency["left_out"][0], "p4096_n2_t1: the context holds 128 tokens");
    EXPECT_EQ(latency["pinned"], true);
    EXPECT_EQ(latency["ttft_s"], latency["grid"]["p4_n2_t1"]["ttft_s"]);
    const Json load = latency["load_s"];
    EXPECT_EQ(load["runs"], 2);
    EXPECT_EQ(load["page_cache"], "warm");
    EXPECT_GT(load["least"].get<double>(), 0);
    EXPECT_LE(load["least"].get<double>(), load["value"].get<double>());
    EXPECT_LE(load["value"].get<double>(), load["most"].get<double>());
  }
  // The copy was measured after the grid of the model, whose threads must have left no trace.
  EXPECT_EQ(artifacts[path("model")]["perplexity"], artifacts[path("again")]["perplexity"]);
}

TEST_F(Running, AGateMayNameAPoint) {
  const Json artifacts = measured({{"running", {{"prompt_tokens", {4, 8}}, {"new_tokens", 2}, {"runs", 6}, {"load_runs", 1}}}}, "gated");
  const std::string point = path("model") + ".latency.grid.p8_n2_t" + std::to_string(thread_count());
  Gate slow{point + ".ttft_s", {}, ""}, fast{point + ".time_per_token_s.p99", {}, ""}, none{path("model") + ".latency.grid.p9_n2_t1.ttft_s", {}, ""};
  slow.limit.at_most = 1e6, fast.limit.at_most = 1e-12, none.limit.at_most = 1e6;
  const Json judged = judge_gates({slow, fast, none, {path("model") + ".latency.load_s", slow.limit, ""}}, artifacts, {});
  EXPECT_EQ(judged[0]["passed"], true);
  EXPECT_EQ(judged[0]["value"], artifacts[path("model")]["latency"]["grid"]["p8_n2_t" + std::to_string(thread_count())]["ttft_s"]["value"]);
  EXPECT_EQ(judged[1]["passed"], false);
  EXPECT_EQ(judged[2]["note"], "not measured");
  EXPECT_EQ(judged[3]["passed"], true);
  // Six runs give the median an interval, so two artifacts can be compared.
  Gate near{point + ".ttft_s", {}, ""}, far = near;
  near.limit.within = {path("again"), 1e6}, far.limit.within = {path("again"), -1e6};
  const Json compared = judge_gates({near, far}, artifacts, {});
  EXPECT_EQ(compared[0]["passed"], true);
  EXPECT_EQ(compared[1]["passed"], false);
  EXPECT_EQ(compared[0]["method"], "unpaired, Newcombe 1998");
}

TEST_F(Running, WithoutLatencyNothingIsTimed) {
  const Json artifact = measured({{"latency", false}}, "untimed")[path("model")];
  EXPECT_FALSE(artifact.contains("latency"));
  EXPECT_EQ(artifact["energy"], "not measured");
  const Json plain = measured(Json::object(), "plain")[path("model")]["latency"];
  EXPECT_EQ(plain["prompt_tokens"], 32);
  EXPECT_EQ(plain["new_tokens"], 16);
  EXPECT_EQ(plain["grid"].size(), 1u);
  try {
    measured({{"running", {{"runs", 0}}}}, "wrong");
    FAIL() << "no runs were accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("running.runs, expected numbers from 1, received 0"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace attar
