#include "prune/masks.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "base/check.h"
#include "calibrate/layer_walk.h"
#include "data_path.h"
#include "model/decoder.h"
#include "prune/mask_rules.h"
#include "stopping_group.h"

namespace attar {
namespace {

Checkpoint model_to_mask(int64_t hidden = 32, int64_t ffn = 160) {
  Checkpoint model;
  ModelSpec& s = model.spec;
  s.vocab = 50, s.hidden = hidden, s.head_size = 8, s.context = 32;
  s.layers.assign(2, LayerSpec{.ffn = ffn, .heads = 4, .kv_heads = 2});
  model.weights = Decoder::random(s, 5).weights();
  for (auto& [name, tensor] : model.weights) tensor = tensor.dim() == 2 ? tensor * 8 : tensor;
  return model;
}

TokenRows rows_to_mask_by() {
  TokenRows out;
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(8);
  out.ids = at::randint(1, 50, {12, 32}, generator, at::kInt);
  out.learn = at::ones({12, 32}, at::kByte);
  out.segments = at::zeros({12, 32}, at::kInt);
  out.lengths = at::full({12}, 32, at::kInt);
  out.segments[11].slice(0, 20).fill_(-1);
  out.lengths[11] = 20;
  return out;
}

PruneConfig mask_config(const std::string& method, const std::string& pattern) {
  PruneConfig config;
  config.method = method, config.pattern = pattern;
  return config;
}

/// One row by its definition: the smallest error of removing a weight, and what the rest then become, from the inverse of what is left of the
/// Hessian.
void obs_row(at::Tensor row, at::Tensor alive, const at::Tensor& h) {
  const int64_t n = row.numel();
  for (int64_t j = 0; j < n; ++j) {
    if (alive[j].item<bool>()) continue;
    const at::Tensor inverse = at::linalg_inv(h.slice(0, j, n).slice(1, j, n));
    row.slice(0, j, n).sub_(inverse[0] * (row[j] / inverse[0][0]));
    row[j] = 0;
  }
}

TEST(MaskPattern, IsAShareOrNOfM) {
  EXPECT_EQ(parse_mask_pattern("0.5").share, 0.5);
  EXPECT_EQ(parse_mask_pattern("0.5").of, 0);
  const MaskPattern two = parse_mask_pattern("2:4");
  EXPECT_EQ(two.zeros, 2);
  EXPECT_EQ(two.of, 4);
  for (const char* wrong : {"", "0", "1", "-0.5", "1.5", "nan", "4:2", "4:4", "0:4", "1:3", "1:128", ":", "2:", ":4", "a:b", "2:4:8", "half"})
    EXPECT_THROW(parse_mask_pattern(wrong), Error) << wrong;
}

TEST(MaskRules, TheLowestGoAndOfEqualsTheFirst) {
  const at::Tensor scores = at::tensor(std::vector<double>{1, 1, 3, 0, 5, 4, 4, 4}).view({2, 4});
  const auto bools = [](std::vector<int> values) { return at::tensor(values, at::kInt).view({2, 4}).to(at::kBool); };
  EXPECT_TRUE(at::equal(highest_of_groups(scores, 1, 2), bools({0, 1, 1, 0, 1, 0, 0, 1})));
  EXPECT_TRUE(at::equal(highest_of_rows(scores, 0.5), bools({0, 1, 1, 0, 1, 0, 0, 1})));
  EXPECT_TRUE(at::equal(highest_of_matrix(scores, 0.5), bools({0, 0, 0, 0, 1, 1, 1, 1})));
  EXPECT_TRUE(at::equal(highest_of_rows(scores, 0.3), bools({1, 1, 1, 0, 1, 0, 1, 1}))) << "rounded down";
}

/// The Cholesky form against the sequence of optimal removals it stands for: blocks of 128, a shorter last one, a column that saw nothing.
TEST(MaskRules, SparseGptRemovesAsTheInverseHessianSays) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(2);
  const int64_t rows = 3, columns = 160;
  at::Tensor x = at::randn({400, columns}, generator, at::kDouble) * at::linspace(0.2, 2, columns, at::kDouble);
  x.slice(1, 1, columns) += 0.7 * x.slice(1, 0, columns - 1).clone();
  x.select(1, 37).zero_();
  const at::Tensor hessian = at::mm(x.t(), x), weight = at::randn({rows, columns}, generator, at::kDouble);
  at::Tensor h = hessian.clone();
  h.diagonal().masked_fill_(h.diagonal() == 0, 1);
  h.diagonal().add_(0.01 * h.diagonal().mean());
  const at::Tensor least = at::empty({columns}, at::kDouble);  // error of removing a weight 1 when the columns before it are settled
  for (int64_t j = 0; j < columns; ++j) least[j] = at::linalg_inv(h.slice(0, j, columns).slice(1, j, columns))[0][0];
  for (const char* text : {"0.5", "2:4", "4:8"}) {
    const MaskPattern pattern = parse_mask_pattern(text);
    at::Tensor expected = weight.clone(), mask = at::ones({rows, columns}, at::kBool);
    expected.select(1, 37).zero_();
    const int64_t step = pattern.of ? pattern.of : 128;
    for (int64_t first = 0; first < columns; first += step) {
      const int64_t end = std::min(first + step, columns);
      const at::Tensor scores = expected.slice(1, first, end).square() / least.slice(0, first, end);
      const at::Tensor flat = pattern.of ? scores : scores.reshape({1, -1});
      const int64_t count = pattern.of ? pattern.zeros : flat.size(1) / 2;
      const at::Tensor goes = std::get<1>(at::sort(flat, /*stable=*/true, 1, false)).slice(1, 0, count);
      mask.slice(1, first, end).copy_(at::ones_like(flat, at::kBool).scatter(1, goes, false).view(scores.sizes()));
      // Columns after the block are untouched by the mask's choice and move with what was removed.
      at::Tensor until = mask.clone();
      until.slice(1, end, columns).fill_(true);
      until.slice(1, 0, first).fill_(true);
      for (int64_t r = 0; r < rows; ++r) obs_row(expected[r], until[r], h);
    }
    at::Tensor pruned = weight.clone();
    const at::Tensor alive = sparsegpt_mask(pruned, hessian, pattern, 0.01);
    EXPECT_TRUE(at::equal(alive, mask)) << text;
    EXPECT_LT((pruned - expected).abs().max().item<double>(), 1e-9) << text;
    EXPECT_EQ(pruned.masked_select(alive.logical_not()).abs().max().item<double>(), 0.0);
  }
  at::Tensor empty = weight.clone();
  EXPECT_THROW(sparsegpt_mask(empty, at::full({columns, columns}, NAN, at::kDouble), parse_mask_pattern("0.5"), 0.01), Error);
}

TEST(MaskModel, EveryMethodAndPatternZerosWhatItSays) {
  const TokenRows rows = rows_to_mask_by();
  const auto group = single_process();
  for (const char* method : {"magnitude", "wanda", "sparsegpt"})
    for (const char* text : {"0.3", "4:8"}) {
      Checkpoint model = model_to_mask();
      const Checkpoint before = model_to_mask();
      const Masks masks = mask_model(model, mask_config(method, text), &rows, *group);
      const MaskPattern pattern = parse_mask_pattern(text);
      EXPECT_EQ(masks.alive.size(), 14u);
      EXPECT_EQ(broken_zeros(masks, model.weights), 0);
      for (const auto& [name, alive] : masks.alive) {
        const at::Tensor& weight = model.weights.at(name);
        if (pattern.of > 0) {
          EXPECT_TRUE((alive.view({-1, pattern.of}).sum(1) == pattern.of - pattern.zeros).all().item<bool>()) << method << text << name;
        }
        if (pattern.of == 0 && std::string(method) == "wanda") {
          EXPECT_TRUE((alive.logical_not().sum(1) == static_cast<int64_t>(pattern.share * alive.size(1))).all().item<bool>()) << name;
        }
        EXPECT_NEAR(alive.logical_not().to(at::kDouble).mean().item<double>(), pattern.share, 1.0 / 16) << name;
        if (std::string(method) != "sparsegpt") { EXPECT_TRUE(at::equal(weight.masked_select(alive), before.weights.at(name).masked_select(alive))); }
      }
      EXPECT_TRUE(at::equal(model.weights.at("model.embed_tokens.weight"), before.weights.at("model.embed_tokens.weight")));
      EXPECT_NEAR(mask_facts(masks, model.spec)["sparsity"].get<double>(), pattern.share, 0.02);
    }
}

/// Every linear's mask follows from inputs that the layers before it, masked as they are in the result, give.
TEST(MaskModel, WandaSeesTheInputsOfMaskedLayers) {
  const TokenRows rows = rows_to_mask_by();
  Checkpoint model = model_to_mask();
  const Checkpoint before = model_to_mask();
  const Masks masks = mask_model(model, mask_config("wanda", "0.5"), &rows, *single_process());
  StateDict so_far = before.weights;
  bool differs = false;
  for (int64_t layer = 0; layer < 2; ++layer)
    for (const std::vector<std::string>& names : input_groups(layer)) {
      const auto squares = [&](const StateDict& weights) {
        Decoder decoder(model.spec, weights);
        at::Tensor sum;
        decoder.set_observer([&](const std::string& name, const at::Tensor& x) {
          if (name == names[0]) sum = x.reshape({-1, x.size(-1)}).index({rows.segments.reshape({-1}) >= 0}).to(at::kDouble).square().sum(0);
        });
        at::NoGradGuard no_grad;
        decoder.hidden({rows.ids.to(at::kLong), rows.segments, {}, {}});
        return sum;
      };
      const at::Tensor norms = squares(so_far).sqrt(), first = squares(before.weights).sqrt();
      for (const std::string& name : names) {
        const at::Tensor scores = before.weights.at(name).to(at::kDouble).abs() * norms;
        const at::Tensor lowest = std::get<1>(at::sort(scores, /*stable=*/true, 1, false)).slice(1, 0, scores.size(1) / 2);
        EXPECT_TRUE(at::equal(masks.alive.at(name), at::ones_like(scores, at::kBool).scatter(1, lowest, false))) << name;
        so_far[name] = model.weights.at(name);
      }
      differs = differs || !at::allclose(norms, first, 1e-3);
    }
  EXPECT_TRUE(differs) << "masked layers change what the next ones read";
}

/// The point of the method: with the same zeros' share, less of the output is lost.
TEST(MaskModel, SparseGptLosesLessOfTheOutputThanMagnitude) {
  const TokenRows rows = rows_to_mask_by();
  const Checkpoint whole = model_to_mask();
  const auto output = [&](const Checkpoint& model) {
    at::NoGradGuard no_grad;
    return Decoder(model.spec, model.weights)
        .hidden({rows.ids.to(at::kLong), rows.segments, {}, {}})
        .reshape({-1, 32})
        .index({rows.segments.reshape({-1}) >= 0});
  };
  std::map<std::string, double> lost;
  for (const char* method : {"magnitude", "sparsegpt"}) {
    Checkpoint model = model_to_mask();
    mask_model(model, mask_config(method, "0.5"), &rows, *single_process());
    lost[method] = (output(model) - output(whole)).square().mean().item<double>();
  }
  EXPECT_LT(lost["sparsegpt"], 0.8 * lost["magnitude"]);
}

/// Killed in the second layer, it goes on after the first, to the same masks and weights; with another pattern it begins anew.
TEST(MaskModel, GoesOnAfterAKillToTheSameBytes) {
  const TokenRows rows = rows_to_mask_by();
  for (const char* method : {"wanda", "sparsegpt"}) {
    const TestFolder folder;
    StoppingGroup whole, killed(1 + 4 + 2), again, other;
    Checkpoint expected = model_to_mask(), stopped = model_to_mask(), resumed = model_to_mask(), changed = model_to_mask();
    const Masks masks = mask_model(expected, mask_config(method, "2:4"), &rows, whole);
    EXPECT_EQ(whole.sums(), 1 + 2 * 4);  // tokens, four groups a layer
    EXPECT_THROW(mask_model(stopped, mask_config(method, "2:4"), &rows, killed, folder / "layers"), StoppingGroup::Killed);
    const Masks more = mask_model(resumed, mask_config(method, "2:4"), &rows, again, folder / "layers");
    EXPECT_EQ(again.sums(), 1 + 4) << method;
    for (const auto& [name, alive] : masks.alive) {
      EXPECT_TRUE(at::equal(more.alive.at(name), alive)) << method << name;
      EXPECT_TRUE(at::equal(resumed.weights.at(name), expected.weights.at(name))) << method << name;
    }
    mask_model(changed, mask_config(method, "4:8"), &rows, other, folder / "layers");
    EXPECT_EQ(other.sums(), whole.sums()) << method;
  }
}

TEST(MaskFile, ReadsBackAndRefusesAnotherModels) {
  const TestFolder folder;
  Checkpoint model = model_to_mask(36, 44);  // rows that no byte divides
  const Masks masks = mask_model(model, mask_config("magnitude", "0.4"), nullptr, *single_process());
  save_masks(masks, folder.path());
  const Masks back = load_masks(folder.path(), model.spec);
  EXPECT_EQ(back.method, "magnitude");
  EXPECT_EQ(back.pattern, "0.4");
  ASSERT_EQ(back.alive.size(), masks.alive.size());
  for (const auto& [name, alive] : masks.alive) EXPECT_TRUE(at::equal(alive, back.alive.at(name))) << name;
  EXPECT_THROW(load_masks(folder.path(), model_to_mask().spec), Error);
  EXPECT_TRUE(load_masks(folder / "nothing", model.spec).empty());
  model.weights.at("model.layers.1.mlp.up_proj.weight").fill_(1);
  EXPECT_GT(broken_zeros(masks, model.weights), 0);
  apply_masks(back, model.weights);
  EXPECT_EQ(broken_zeros(masks, model.weights), 0);
}

TEST(MaskModel, RefusesWhatCannotBe) {
  const auto group = single_process();
  Checkpoint narrow = model_to_mask(36, 44);
  EXPECT_THROW(mask_model(narrow, mask_config("magnitude", "4:8"), nullptr, *group), Error) << "8 does not divide 36";
  Checkpoint model = model_to_mask();
  EXPECT_THROW(mask_model(model, mask_config("wanda", "0.5"), nullptr, *group), Error) << "no text";
  EXPECT_THROW(mask_model(model, mask_config("guess", "0.5"), nullptr, *group), Error);
  PruneConfig config = mask_config("sparsegpt", "0.5");
  config.damping = 0;
  EXPECT_THROW(mask_model(model, config, nullptr, *group), Error);
}

}  // namespace
}  // namespace attar
