// attar route tokens on a recipe's capture: the data lies where the manifest says, as a recipe would read it.
#include "stages/token_route.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/check.h"
#include "data_path.h"
#include "device/device.h"
#include "stages/run.h"

namespace attar {
namespace {

TEST(TokenRoute, VariablesInTheManifestsPathAreFilledIn) {
  set_up_machine(1);
  TestFolder folder;
  make_folder(folder / "data");
  std::string lines;
  for (int i = 0; i < 60; ++i) lines += to_line(Json{{"text", str("The ", i % 7, "th parcel of street ", i % 11, " came late.")}}) + "\n";
  write_file(folder / "data" / "rows.jsonl", lines);
  write_file(folder / "model.yaml",
             "hidden_size: 32\nintermediate_size: 64\nnum_hidden_layers: 1\nnum_attention_heads: 2\nnum_key_value_heads: 1\n"
             "max_position_embeddings: 64\n");
  const std::string data = "${ATTAR_TOKEN_ROUTE_TEST}/rows.jsonl";
  write_file(folder / "r.yaml",
             "name: r\nseed: 1\ndata: {path: \"" + data + "\", seq: 32}\nstages:\n"
             "  tok: {kind: train_tokenizer, data: \"" + data + "\", vocab_size: 290}\n"
             "  teacher: {kind: distill, model: model.yaml, tokens: tok, train: {steps: 4, batch: 4, warmup: 1}}\n"
             "  cache: {kind: capture, teacher: teacher, codec: {kind: top_k, k: 8}}\n");
  ASSERT_EQ(::setenv("ATTAR_TOKEN_ROUTE_TEST", (folder / "data").c_str(), 1), 0);
  RunOptions options;
  options.out = folder / "run";
  run_recipe(load_recipe(folder / "r.yaml", {}), options);
  EXPECT_EQ(read_json(folder / "run" / "cache" / "manifest.json")["configuration"]["data"]["path"], data) << "as written, not where it lay";
  TokenRouteRequest request;
  request.cache = folder / "run" / "cache", request.model = folder / "run" / "teacher";
  EXPECT_GT(route_tokens(request).to_json()["tokens"].get<int64_t>(), 0);
  // Another place, or none: one sentence each.
  const auto said = [&request]() -> std::string {
    try {
      route_tokens(request);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  ::setenv("ATTAR_TOKEN_ROUTE_TEST", (folder / "elsewhere").c_str(), 1);
  EXPECT_NE(said().find("elsewhere/rows.jsonl"), std::string::npos) << said();
  EXPECT_NE(said().find("--data FILE"), std::string::npos) << said();
  ::unsetenv("ATTAR_TOKEN_ROUTE_TEST");
  EXPECT_NE(said().find("ATTAR_TOKEN_ROUTE_TEST to be set"), std::string::npos) << said();
  request.data = folder / "data" / "rows.jsonl";
  EXPECT_EQ(said(), "") << "named data needs no variable";
}

}  // namespace
}  // namespace attar
