#include "calibrate/layer_walk.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "base/check.h"
#include "calibrate/gram.h"
#include "calibrate/importance.h"
#include "data_path.h"
#include "kernels/matmul_tiles.h"
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
      walk.show(names[0], [&](const at::Tensor& x) { shown.push_back(x.clone()); });
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

/// A layer in steps is the layer: the walk ends with the same bits as the plain pass over the same batches, whatever was shown on the way, in a
/// family with one norm a half and in one with two, with and without room for what o and down read.
TEST(LayerWalk, StepsAreThePlainForwardBitForBit) {
  for (const bool post_norms : {false, true}) {
    const TokenRows rows = walked_rows();
    ModelSpec spec = walked_spec();
    spec.post_norms = post_norms;
    Decoder model = Decoder::random(spec, 4);
    for (auto& [name, tensor] : model.weights()) tensor = tensor * 6;
    const auto group = single_process();
    for (const int64_t keep : {int64_t{0}, int64_t{9000}, int64_t{1} << 30}) {
      LayerWalk walk(model, rows, {.rows = 7, .batch = 3, .keep_bytes = keep}, *group);
      for (; walk.layer() < walk.layers(); walk.advance())
        for (const std::vector<std::string>& names : input_groups(walk.layer()))
          if (walk.layer() != 1) walk.show(names.back(), [](const at::Tensor& x) { EXPECT_TRUE(x.is_contiguous()); });
      at::NoGradGuard no_grad;
      for (const LayerWalk::Part& part : walk.parts()) EXPECT_TRUE(at::equal(model.after_norm(part.states), model.hidden(part.tokens))) << keep;
    }
  }
}

/// Every linear runs once a walk where what it gives can be kept.
TEST(LayerWalk, RunsEveryLinearOnce) {
  const TokenRows rows = walked_rows();
  Decoder model = Decoder::random(walked_spec(), 4);
  const auto group = single_process();
  std::map<std::string, int> ran;
  const auto walked = [&](int64_t keep) {
    ran.clear();
    LayerWalk walk(model, rows, {.rows = 7, .batch = 7, .keep_bytes = keep}, *group);
    model.set_observer([&](const std::string& name, const at::Tensor&) { ++ran[name]; });
    for (; walk.layer() < walk.layers(); walk.advance())
      for (const std::vector<std::string>& names : input_groups(walk.layer())) walk.show(names[0], [](const at::Tensor&) {});
    model.set_observer({});
  };
  walked(int64_t{1} << 30);
  EXPECT_EQ(ran.size(), 3u * 7);
  for (const auto& [name, times] : ran) EXPECT_EQ(times, 1) << name;
  walked(0);
  EXPECT_EQ(ran.at("model.layers.1.mlp.up_proj.weight"), 2);
  EXPECT_EQ(ran.at("model.layers.1.mlp.down_proj.weight"), 1);
}

TEST(GramSum, IsTheProductAndSymmetric) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(3);
  for (const int64_t in : {1, 40, 128, 300}) {
    const at::Tensor x = at::randn({50, in}, generator, at::kFloat), y = at::randn({33, in}, generator, at::kFloat);
    GramSum sum(in);
    sum.add(x);
    sum.add(y);
    const at::Tensor got = sum.take(*single_process()), all = at::cat({x, y}).to(at::kDouble);
    EXPECT_TRUE(at::equal(got, got.t())) << in;
    EXPECT_TRUE(at::allclose(got.to(at::kDouble), at::mm(all.t(), all), 1e-5, 1e-4)) << in;
  }
}

/// The sum's bits do not depend on threads where our own tiles run.
TEST(GramSum, SameBitsForAnyThreads) {
  if (!matrix_product_is_quickest()) GTEST_SKIP() << "LibTorch's products here";
  const int before = at::get_num_threads();
  const at::Tensor x = at::randn({700, 300}, at::make_generator<at::CPUGeneratorImpl>(3), at::kFloat);
  at::Tensor first;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    GramSum sum(300);
    sum.add(x);
    const at::Tensor got = sum.take(*single_process());
    if (!first.defined()) first = got;
    EXPECT_TRUE(at::equal(first, got)) << threads;
  }
  at::set_num_threads(before);
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
