// Routing to a running server: an evaluate stage asks it, a route stage weighs its answers against a file's.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "data_path.h"
#include "decide/route.h"
#include "device/device.h"
#include "http_server.h"
#include "stages/run.h"

namespace attar {
namespace {

constexpr int64_t kRoutedRows = 240;

/// A small real server that knows the answer behind each prompt; it says how sure it is where `sure` is true.
std::unique_ptr<HttpTestServer> knowing_server(std::map<std::string, std::string> answers, bool sure) {
  return std::make_unique<HttpTestServer>([answers = std::move(answers), sure](const ServedRequest& request) {
    ServedAnswer out;
    if (request.method == "GET") {
      out.body = R"({"data": [{"id": "large", "owned_by": "llamacpp"}]})";
      return out;
    }
    const Json asked = parse_json(request.body, "request");
    const auto known = answers.find(asked["prompt"].get<std::string>());
    Json answer = {{"content", known == answers.end() ? "nobody knows" : known->second}};
    // The further behind in the alphabet, the less sure.
    const double sureness = 0.99 - 0.001 * static_cast<double>(std::distance(answers.begin(), known));
    if (sure && asked.contains("n_probs"))
      answer["completion_probabilities"] = Json::array({{{"token", answer["content"]}, {"logprob", std::log(sureness)}}});
    out.body = to_line(answer);
    return out;
  });
}

class RouteToServer : public ::testing::Test {
 protected:
  void SetUp() override { set_up_machine(1); }

  /// A recipe whose student learns the task a little, evaluated beside the server and routed to it.
  Json routed(const TaskConfig& task, const std::map<std::string, std::string>& rows, const std::string& router, bool sure = true) {
    const auto line = [](const std::string& text, const std::string& label) { return to_line(Json{{"text", text}, {"label", label}}) + "\n"; };
    std::string judged, trained;
    for (const auto& [text, label] : rows) {
      judged += line(text, label), trained += line(text, label);
      // What the student cannot know it has seen with either label.
      if (text.starts_with("some ")) trained += line(text, label == "red" ? "blue" : "red");
    }
    write_file(folder_ / "test.jsonl", judged);
    write_file(folder_ / "train.jsonl", trained);
    write_json(folder_ / "task.yaml", write_fields(task));
    write_file(folder_ / "model.yaml",
               "hidden_size: 32\nintermediate_size: 64\nnum_hidden_layers: 1\nnum_attention_heads: 2\nnum_key_value_heads: 1\n"
               "max_position_embeddings: 64\n");
    std::map<std::string, std::string> known;
    for (const auto& [text, label] : rows) known[text + "\n"] = label;
    const auto server = knowing_server(known, sure);
    write_file(folder_ / "r.yaml", "name: r\nseed: 1\ntask: task.yaml\nstages:\n  tok: {kind: train_tokenizer, vocab_size: 300}\n"
                                   "  student: {kind: distill, model: model.yaml, tokens: tok, data: {seq: 64, pack: false}, "
                                   "train: {steps: 200, batch: 16, warmup: 1, lr: 0.01, eval_every: 1000}}\n"
                                   "  report: {kind: evaluate, of: [student], latency: false, runtime: {served: {url: " + server->address() + "}}}\n"
                                   "  router: {kind: route, of: report, error: 0.1, small_cost: 0.05, " + router + "}\n");
    RunOptions options;
    options.out = folder_ / "run";
    run_recipe(load_recipe(folder_ / "r.yaml", {}), options);
    EXPECT_EQ(run_recipe(load_recipe(folder_ / "r.yaml", {}), options).ran, 0) << "done is done";
    return read_json(options.out / "router" / "router.json");
  }
  static TaskConfig task_named(const std::string& kind) {
    TaskConfig task;
    task.name = "t", task.kind = kind, task.train = "train.jsonl", task.test = "test.jsonl";
    return task;
  }
  TestFolder folder_;
};

TEST_F(RouteToServer, AClassificationsHardRequestsGoToTheServer) {
  TaskConfig task = task_named("classification");
  task.labels = {"red", "blue"};
  std::map<std::string, std::string> rows;
  // A third of the texts say nothing of their label; the server knows it nevertheless.
  for (int64_t i = 0; i < kRoutedRows; ++i)
    rows[str(i % 3 ? (i % 2 ? "a red thing " : "a blue thing ") : "some thing ", i)] = i % 2 ? "red" : "blue";
  const Json router = routed(task, rows, "small: student, large: served");
  EXPECT_EQ(router["large"]["artifact"], "served");
  EXPECT_EQ(router["large"]["accuracy"]["value"], 1.0);
  EXPECT_EQ(router["large"]["accuracy"]["n"], kRoutedRows);
  EXPECT_EQ(router["rule"]["score"], "max_probability") << "where the text says it the student is sure, and right";
  EXPECT_GT(router["expected"]["large_share"].get<double>(), 0.1);
  EXPECT_LT(router["expected"]["large_share"].get<double>(), 0.9);
  EXPECT_GT(router["expected"]["quality"]["value"].get<double>(), router["expected"]["small_only"].get<double>());
  const Json report = read_json(folder_ / "run" / "report" / "report.json");
  EXPECT_EQ(report["routers"]["router"]["large"]["artifact"], "served");
  const std::string page = read_file(folder_ / "run" / "report" / "report.html");
  EXPECT_NE(page.find("served the rest"), std::string::npos);
  // The server's own calibration stands beside the student's.
  const Json& tasks = report["artifacts"]["served"]["tasks"]["t"];
  EXPECT_NEAR(tasks["ece"]["value"].get<double>(), 1 - (0.99 - 0.001 * (kRoutedRows - 1) / 2.0), 1e-9) << "always right, less sure";
  EXPECT_FALSE(tasks.contains("brier")) << "the other label's probability is not known";
  EXPECT_EQ(report["artifacts"]["served"]["task_details"]["t"]["reliability"].size(), 15u);
  // Both score files are of the same examples: the router is held against them again.
  const fs::path report_folder = folder_ / "run" / "report";
  const Scores small = read_scores(score_file(report_folder, "t", "student")), large = read_scores(score_file(report_folder, "t", "served"));
  EXPECT_FALSE(judge_router(router, "router.json", small, &large)["broken"].get<bool>());
}

TEST_F(RouteToServer, FreeTextsAreRoutedByWhetherTheyAreExact) {
  TaskConfig task = task_named("text");
  task.max_tokens = 4;
  std::map<std::string, std::string> rows;
  for (int64_t i = 0; i < kRoutedRows; ++i) rows[str("number ", i)] = i % 4 ? "yes" : "no";
  const Json router = routed(task, rows, "small: student, large: served");
  EXPECT_EQ(router["large"]["accuracy"]["value"], 1.0);
  EXPECT_EQ(router["labels"], (std::vector<std::string>{"wrong", "right"}));
  // A server may be the small one too where it says how sure it is: it is right, so it answers nearly all.
  const Json turned = routed(task, rows, "small: served, large: student");
  EXPECT_EQ(turned["rule"]["score"], "max_probability");
  EXPECT_LT(turned["expected"]["large_share"].get<double>(), 0.3);
}

TEST_F(RouteToServer, ASmallServerThatSaysNotHowSureItIsIsRefused) {
  TaskConfig task = task_named("classification");
  task.labels = {"red", "blue"};
  std::map<std::string, std::string> rows;
  for (int64_t i = 0; i < kRoutedRows; ++i) rows[str("thing ", i)] = i % 2 ? "red" : "blue";
  std::string said;
  try {
    routed(task, rows, "small: served, large: student", false);
  } catch (const Error& error) {
    said = error.what();
  }
  EXPECT_NE(said.find("how sure served was of each answer"), std::string::npos) << said;
  EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  const Json report = read_json(folder_ / "run" / "report" / "report.json");
  EXPECT_EQ(report["artifacts"]["served"]["task_details"]["t"]["confidence"], "not given by this server");
  EXPECT_FALSE(report["artifacts"]["served"]["tasks"]["t"].contains("ece"));
  EXPECT_FALSE(read_scores(score_file(folder_ / "run" / "report", "t", "served")).header.confident);
}

}  // namespace
}  // namespace attar
