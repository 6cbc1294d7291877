#include "calibrate/layer_walk.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "base/check.h"
#include "calibrate/importance.h"
#include "data_path.h"
#include "spec/gguf_names.h"

namespace attar {
namespace {

ModelSpec walked_spec() {
  ModelSpec s;
  s.vocab = 50, s.hidden = 32, s.head_size = 8, s.context = 32;
  s.layers.assign(3, LayerSpec{.ffn = 64, .heads = 4, .kv_heads = 2});
  return s;
}

TokenRows walked_rows() {
  TokenRows out;
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(3);
  out.ids = at::randint(1, 50, {7, 16}, generator, at::kInt);
  out.learn = at::ones({7, 16}, at::kByte);
  out.segments = at::zeros({7, 16}, at::kInt);
  out.lengths = at::full({7}, 16, at::kInt);
  for (int64_t row : {2, 6}) {
    out.segments[row].slice(0, 9).fill_(-1);
    out.ids[row].slice(0, 9).zero_();
    out.lengths[row] = 9;
  }
  return out;
}

at::Tensor final_states(Decoder& model, const TokenRows& rows) {
  at::NoGradGuard no_grad;
  return model.hidden({rows.ids.to(at::kLong), rows.segments, {}, {}}).reshape({-1, 32}).index({rows.segments.reshape({-1}) >= 0});
}

TEST(LayerWalk, EndsWhereTheForwardPassEnds) {
  const TokenRows rows = walked_rows();
  Decoder model = Decoder::random(walked_spec(), 4);
  for (auto& [name, tensor] : model.weights()) tensor = tensor * 6;
  const auto group = single_process();
  LayerWalk walk(model, rows, {.rows = 7, .batch = 3}, *group);
  EXPECT_EQ(walk.tokens(), 5 * 16 + 2 * 9);
  while (walk.layer() < walk.layers()) walk.advance();
  std::vector<at::Tensor> all;
  for (const LayerWalk::Part& part : walk.parts()) all.push_back(model.after_norm(part.states).reshape({-1, 32}).index({part.valid}));
  EXPECT_TRUE(at::allclose(at::cat(all), final_states(model, rows), 1e-5, 1e-6));
}

/// The inputs shown are the observer's of a whole forward pass, padding left out; and what follows a changed weight is what the changed model gives.
TEST(LayerWalk, ShowsInputsAndCarriesChangesOn) {
  const TokenRows rows = walked_rows();
  Decoder model = Decoder::random(walked_spec(), 4);
  for (auto& [name, tensor] : model.weights()) tensor = tensor * 6;
  const auto group = single_process();
  LayerWalk walk(model, rows, {.rows = 7, .batch = 3}, *group);
  for (; walk.layer() < walk.layers(); walk.advance())
    for (const std::vector<std::string>& names : input_groups(walk.layer())) {
      std::vector<at::Tensor> shown;
      walk.show({names[0]}, [&](const std::string& name, const at::Tensor& x) {
        EXPECT_EQ(name, names[0]);
        shown.push_back(x.clone());
      });
      at::Tensor expected;
      Decoder fresh(model.spec(), model.weights());
      fresh.set_observer([&](const std::string& name, const at::Tensor& x) {
        if (name == names[0]) expected = x.reshape({-1, x.size(-1)}).index({rows.segments.reshape({-1}) >= 0});
      });
      final_states(fresh, rows);
      ASSERT_EQ(shown.size(), 3u);
      EXPECT_TRUE(at::allclose(at::cat(shown), expected, 1e-4, 1e-5)) << names[0];
      for (const std::string& name : names) model.weights().at(name) = at::round(model.weights().at(name) * 8) / 8;
    }
  std::vector<at::Tensor> all;
  for (const LayerWalk::Part& part : walk.parts()) all.push_back(model.after_norm(part.states).reshape({-1, 32}).index({part.valid}));
  EXPECT_TRUE(at::allclose(at::cat(all), final_states(model, rows), 1e-4, 1e-5));
}

TEST(LayerWalk, GroupsNameEveryLinearOnce) {
  std::vector<std::string> linears, named;
  for (const ParameterInfo& p : parameters_of(walked_spec()))
    if (is_linear_weight(p.name)) linears.push_back(p.name);
  for (int64_t layer = 0; layer < 3; ++layer)
    for (const auto& names : input_groups(layer)) named.insert(named.end(), names.begin(), names.end());
  std::sort(linears.begin(), linears.end());
  std::sort(named.begin(), named.end());
  EXPECT_EQ(named, linears);
}

TEST(LayerWalk, NoRowsAreAnError) {
  Decoder model = Decoder::random(walked_spec(), 4);
  const auto group = single_process();
  EXPECT_THROW(LayerWalk(model, TokenRows{}, {}, *group), Error);
}

/// Through the file and back: means by weight are the statistics', by GGUF name and by the model's.
TEST(Importance, GoesThroughTheFile) {
  const TokenRows rows = walked_rows();
  Decoder model = Decoder::random(walked_spec(), 4);
  for (auto& [name, tensor] : model.weights()) tensor = tensor * 6;
  const ActivationStatistics statistics = collect_activations(model, rows, {.rows = 7, .batch = 3}, *single_process());
  const TestFolder folder;
  Imatrix made = importance_matrix(statistics, model.spec());
  made.dataset = "text.txt";
  write_imatrix(made, folder.path() / "imatrix.gguf");
  const Imatrix read = read_imatrix(folder.path() / "imatrix.gguf");
  EXPECT_EQ(read.dataset, "text.txt");
  EXPECT_EQ(read.means.size(), 3u * 7);
  EXPECT_EQ(read.chunks, 7);
  const auto by_weight = importance_by_weight(read, model.spec());
  ASSERT_EQ(by_weight.size(), 3u * 7);
  for (const auto& [name, means] : by_weight)
    for (size_t i = 0; i < means.size(); ++i)
      EXPECT_NEAR(means[i], statistics.mean_square.at(name)[int64_t(i)].item<double>(), 1e-6 * means[i] + 1e-12) << name;

  ModelSpec wider = walked_spec();
  for (LayerSpec& layer : wider.layers) layer.ffn = 96;
  EXPECT_THROW(importance_by_weight(read, wider), Error);
  Imatrix foreign = read;
  foreign.means = {{"blk.77.attn_q.weight", {1.0f}}};
  EXPECT_THROW(importance_by_weight(foreign, model.spec()), Error);
  made.means.begin()->second[0] = -1;
  EXPECT_THROW(write_imatrix(made, folder.path() / "bad.gguf"), Error);
}

}  // namespace
}  // namespace attar
