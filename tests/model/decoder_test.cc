#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "base/check.h"
#include "device/device.h"
#include "model/decoder.h"
#include "model/generate.h"
#include "data_path.h"

namespace attar {
namespace {

/// Models this small are quicker on one thread, the more so beside other test programs.
class OneThread : public ::testing::Environment {
 public:
  void SetUp() override { set_up_machine(1); }
};
[[maybe_unused]] const auto* const kOneThread = ::testing::AddGlobalTestEnvironment(new OneThread);

/// A small Llama with grouped heads.
ModelSpec tiny_spec() {
  ModelSpec spec;
  spec.vocab = 50;
  spec.hidden = 32;
  spec.head_size = 8;
  spec.context = 64;
  for (int i = 0; i < 2; ++i) spec.layers.push_back({48, 4, 2, 0, false});
  return spec;
}

/// Every parameter drawn anew, so that no feature hides behind its initial value.
Decoder redrawn(const ModelSpec& spec, uint64_t seed) {
  Decoder model = Decoder::random(spec, seed);
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(seed);
  for (auto& [name, tensor] : model.weights())
    tensor = tensor.dim() == 1 ? at::randn(tensor.sizes(), generator).mul_(0.3).add_(name.ends_with("norm.weight") && !spec.norm_offset ? 1 : 0)
                               : at::randn(tensor.sizes(), generator).mul_(0.25);
  return model;
}

at::Tensor random_ids(int64_t rows, int64_t length, int64_t vocab, uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(seed);
  return at::randint(0, vocab, {rows, length}, generator, at::kLong);
}

at::Tensor all_logits(const Decoder& model, const TokenBatch& batch, KvCache* cache = nullptr) {
  const at::NoGradGuard no_grad;
  return model.logits(model.hidden(batch, cache));
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

std::vector<ModelSpec> varied_specs() {
  std::vector<ModelSpec> all{tiny_spec()};
  ModelSpec windowed = tiny_spec();
  windowed.layers[0].window = 5;
  all.push_back(windowed);
  ModelSpec gemma = tiny_spec();
  gemma.norm_offset = gemma.post_norms = gemma.qk_norm = gemma.tied = true;
  gemma.activation = "gelu_tanh";
  gemma.attention_softcap = 20;
  gemma.logit_softcap = 10;
  gemma.embedding_scale = 5;
  gemma.layers[1].window = 6;
  gemma.layers[1].local_rope = true;
  gemma.local_rope.theta = 500;
  all.push_back(gemma);
  ModelSpec biased = tiny_spec();
  biased.qkv_bias = biased.output_bias = biased.mlp_bias = true;
  biased.rope.dims = 4;
  biased.layers[1] = {32, 2, 1, 0, false};
  all.push_back(biased);
  return all;
}

TEST(Decoder, TokenByTokenEqualsPrefill) {
  for (const ModelSpec& spec : varied_specs()) {
    const Decoder model = redrawn(spec, 3);
    const at::Tensor ids = random_ids(2, 20, spec.vocab, 4);
    const at::Tensor whole = all_logits(model, {ids, {}, {}, {}});
    KvCache cache;
    std::vector<at::Tensor> pieces;
    // One, several and single positions again.
    for (auto [begin, count] : {std::pair(0, 7), std::pair(7, 1), std::pair(8, 4), std::pair(12, 1), std::pair(13, 7)})
      pieces.push_back(all_logits(model, {ids.narrow(1, begin, count), {}, {}, {}}, &cache));
    EXPECT_EQ(cache.length(), 20);
    EXPECT_LT(largest_difference(whole, at::cat(pieces, 1)), 2e-5);
  }
}

TEST(Decoder, PackedDocumentsDoNotSeeEachOther) {
  for (const ModelSpec& spec : varied_specs()) {
    const Decoder model = redrawn(spec, 5);
    const at::Tensor ids = random_ids(2, 18, spec.vocab, 6);
    at::Tensor segments = at::zeros({2, 18}, at::kInt);
    segments.narrow(1, 7, 8).fill_(1);
    segments.narrow(1, 15, 3).fill_(-1);
    const at::Tensor packed = all_logits(model, {ids, segments, {}, {}});
    const at::Tensor first = all_logits(model, {ids.narrow(1, 0, 7), {}, {}, {}});
    const at::Tensor second = all_logits(model, {ids.narrow(1, 7, 8), {}, {}, {}});
    EXPECT_LT(largest_difference(packed.narrow(1, 0, 7), first), 2e-5);
    EXPECT_LT(largest_difference(packed.narrow(1, 7, 8), second), 2e-5);
    EXPECT_TRUE(at::isfinite(packed).all().item<bool>());
  }
}

/// Attention of variable length is what a GPU has instead of the mask; here one document after the other stands in for it.
TEST(Decoder, DocumentsApartByLengthsEqualTheMask) {
  for (const int64_t window : {0, 4}) {
    ModelSpec spec = tiny_spec();
    spec.layers[1].window = window;
    Decoder model = redrawn(spec, 8);
    model.require_grad(true);
    at::manual_seed(4);
    const at::Tensor ids = at::randint(50, {3, 18}, at::kLong), segments = at::zeros({3, 18}, at::kInt);
    segments.narrow(1, 7, 8).fill_(1);
    segments.narrow(1, 15, 3).fill_(-1);
    segments[1].fill_(0);  // a row of one document; the next begins a document of its own
    std::vector<std::map<std::string, at::Tensor>> gradients;
    std::vector<at::Tensor> states;
    for (const bool apart : {false, true}) {
      model.by_documents = apart;
      states.push_back(model.hidden({ids, segments, {}, {}}));
      states.back().square().sum().backward();
      gradients.emplace_back();
      for (auto& [name, tensor] : model.weights()) gradients.back()[name] = tensor.grad(), tensor.mutable_grad() = at::Tensor();
    }
    EXPECT_LT(((states[0] - states[1]).norm() / states[0].norm()).item<double>(), 1e-5) << "window " << window;
    for (const auto& [name, gradient] : gradients[0]) {
      if (!gradient.defined()) continue;  // the output matrix has no part in hidden states
      EXPECT_LT(((gradient - gradients[1][name]).norm() / gradient.norm()).item<double>(), 1e-4) << name << ", window " << window;
    }
  }
}

TEST(Decoder, Brain16ComputesLikeFloat32AndKeepsItsWeights) {
  const ModelSpec spec = tiny_spec();
  Decoder model = redrawn(spec, 9);
  model.require_grad(true);
  at::manual_seed(5);
  const at::Tensor ids = at::randint(50, {2, 16}, at::kLong), segments = at::zeros({2, 16}, at::kInt);
  segments.narrow(1, 9, 7).fill_(1);
  std::vector<at::Tensor> states, gradients;
  for (const bool brain : {false, true}) {
    model.autocast_bf16 = brain;
    const at::Tensor out = model.hidden({ids, segments, {}, {}});
    EXPECT_EQ(out.scalar_type(), at::kFloat) << "what is added up from layer to layer stays float32";
    states.push_back(out.detach());
    out.square().sum().backward();
    at::Tensor& weight = model.weights().at("model.layers.0.mlp.up_proj.weight");
    EXPECT_EQ(weight.scalar_type(), at::kFloat);
    EXPECT_EQ(weight.grad().scalar_type(), at::kFloat);
    gradients.push_back(weight.grad());
    for (auto& [name, tensor] : model.weights()) tensor.mutable_grad() = at::Tensor();
  }
  EXPECT_LT(((states[1] - states[0]).norm() / states[0].norm()).item<double>(), 3e-2);
  EXPECT_LT(((gradients[1] - gradients[0]).norm() / gradients[0].norm()).item<double>(), 6e-2);
}

TEST(Decoder, LeftPaddingByMaskAndPositionsChangesNothing) {
  for (const ModelSpec& spec : varied_specs()) {
    const Decoder model = redrawn(spec, 7);
    const int64_t T = 12, pad = 5;
    const at::Tensor ids = random_ids(1, T, spec.vocab, 8);
    const at::Tensor plain = all_logits(model, {ids, {}, {}, {}});
    TokenBatch batch;
    batch.ids = at::cat({at::zeros({1, pad}, at::kLong), ids}, 1);
    batch.positions = (at::arange(T + pad) - pad).clamp_min(0).unsqueeze(0);
    batch.mask = at::ones({1, T + pad, T + pad}, at::kBool).tril_();
    batch.mask.narrow(2, 0, pad).fill_(false);
    const at::Tensor padded = all_logits(model, batch);
    EXPECT_LT(largest_difference(padded.narrow(1, pad, T), plain), 2e-5);
    EXPECT_TRUE(at::isfinite(padded).all().item<bool>());
  }
}

TEST(Decoder, GradientsEqualFiniteDifferences) {
  for (const ModelSpec& spec : varied_specs()) {
    Decoder model = redrawn(spec, 9);
    model.require_grad(true);
    const at::Tensor ids = random_ids(2, 9, spec.vocab, 10);
    const auto loss_of = [&] {
      const at::Tensor scores = model.logits(model.hidden({ids.narrow(1, 0, 8), {}, {}, {}}));
      return at::cross_entropy_loss(scores.reshape({16, spec.vocab}), ids.narrow(1, 1, 8).reshape({16}));
    };
    loss_of().backward();
    for (auto& [name, tensor] : model.weights()) {
      const at::Tensor gradient = tensor.grad().clone();
      ASSERT_TRUE(gradient.defined()) << name;
      const at::NoGradGuard no_grad;
      // Along the gradient itself the loss must rise by its squared length.
      const double length = gradient.norm().item<double>();
      const at::Tensor direction = gradient / length, before = tensor.clone();
      const double step = 2e-3 * std::max(1.0, before.norm().item<double>() / 10);
      tensor.add_(direction, step);
      const double up = loss_of().item<double>();
      tensor.copy_(before).sub_(direction, step);
      const double down = loss_of().item<double>();
      tensor.copy_(before);
      EXPECT_NEAR((up - down) / (2 * step), length, 0.02 * length + 1e-3) << name;
    }
  }
}

TEST(Decoder, RepeatedStepsGiveTheSameBits) {
  for (const ModelSpec& spec : varied_specs()) {
    std::vector<at::Tensor> results;
    for (int64_t disturbance : {1, 3333}) {
      // Another heap, the same numbers.
      const at::Tensor other = at::ones({disturbance});
      Decoder model = redrawn(spec, 11);
      model.require_grad(true);
      const at::Tensor h = model.hidden({random_ids(6, 40, spec.vocab, 12), {}, {}, {}});
      model.logits(h).square().mean().backward();
      std::vector<at::Tensor> flat{h.detach().flatten()};
      for (auto& [name, tensor] : model.weights()) flat.push_back(tensor.grad().flatten());
      results.push_back(at::cat(flat));
    }
    EXPECT_TRUE(at::equal(results[0], results[1]));
  }
}

TEST(Decoder, RandomWeightsDependOnTheSeedAlone) {
  const ModelSpec spec = tiny_spec();
  const Decoder a = Decoder::random(spec, 1), b = Decoder::random(spec, 1), c = Decoder::random(spec, 2);
  const std::string name = "model.layers.0.mlp.down_proj.weight";
  EXPECT_TRUE(at::equal(a.weights().at(name), b.weights().at(name)));
  EXPECT_FALSE(at::equal(a.weights().at(name), c.weights().at(name)));
  EXPECT_NEAR(a.weights().at("model.embed_tokens.weight").std().item<double>(), 0.02, 0.002);
  EXPECT_NEAR(a.weights().at(name).std().item<double>(), 0.01, 0.001);
  EXPECT_TRUE(at::equal(a.weights().at("model.norm.weight"), at::ones({32})));
}

TEST(Decoder, HookReplacesAndObserverSees) {
  Decoder model = redrawn(tiny_spec(), 13);
  std::map<std::string, int> hooked, seen;
  const TokenBatch batch{random_ids(1, 6, 50, 14), {}, {}, {}};
  const at::Tensor before = all_logits(model, batch);
  model.set_weight_hook([&](const std::string& name, const at::Tensor& weight) {
    ++hooked[name];
    return name == "model.layers.1.mlp.up_proj.weight" ? at::zeros_like(weight) : weight;
  });
  model.set_observer([&](const std::string& name, const at::Tensor&) { ++seen[name]; });
  const at::Tensor changed = all_logits(model, batch);
  EXPECT_GT(largest_difference(before, changed), 1e-3);
  EXPECT_EQ(hooked.size(), 2u * 7 + 2);
  for (const auto& [name, count] : hooked) EXPECT_EQ(count, 1) << name;
  EXPECT_EQ(seen.size(), 2u * 9);
  EXPECT_EQ(seen.count("model.layers.1.output"), 1u);
}

TEST(Decoder, RefusesWrongWeightsAndIds) {
  const ModelSpec spec = tiny_spec();
  StateDict weights = Decoder::random(spec, 1).weights();
  weights["model.norm.weight"] = at::ones({31});
  EXPECT_THROW(Decoder(spec, weights), Error);
  weights["model.norm.weight"] = at::ones({32});
  weights["model.extra"] = at::ones({1});
  EXPECT_THROW(Decoder(spec, weights), Error);
  const Decoder model = Decoder::random(spec, 1);
  EXPECT_THROW(all_logits(model, {at::full({1, 2}, 50, at::kLong), {}, {}, {}}), Error);
  EXPECT_THROW(all_logits(model, {at::full({1, 2}, -1, at::kLong), {}, {}, {}}), Error);
}

TEST(Generate, GreedyEqualsArgmaxOfWholeSequences) {
  const Decoder model = redrawn(tiny_spec(), 15);
  GenerateOptions options;
  options.max_tokens = 12;
  const std::vector<int32_t> made = generate(model, {1, 2, 3}, options);
  std::vector<int64_t> all{1, 2, 3};
  for (int32_t token : made) {
    const at::Tensor logits = all_logits(model, {at::tensor(at::ArrayRef<int64_t>(all)).unsqueeze(0), {}, {}, {}});
    EXPECT_EQ(logits[0][-1].argmax().item<int64_t>(), token);
    all.push_back(token);
  }
  EXPECT_EQ(made.size(), 12u);
  options.stop = {made[4]};
  const size_t first = static_cast<size_t>(std::find(made.begin(), made.end(), made[4]) - made.begin());
  EXPECT_EQ(generate(model, {1, 2, 3}, options).size(), first);
  options.stop.clear();
  options.temperature = 1;
  options.seed = 7;
  EXPECT_EQ(generate(model, {1, 2, 3}, options), generate(model, {1, 2, 3}, options));
}

TEST(KvCache, CropAndExpand) {
  const Decoder model = redrawn(tiny_spec(), 17);
  const at::Tensor ids = random_ids(1, 10, 50, 18);
  KvCache cache;
  all_logits(model, {ids, {}, {}, {}}, &cache);
  cache.crop(6);
  const at::Tensor again = all_logits(model, {ids.narrow(1, 6, 4), {}, {}, {}}, &cache);
  EXPECT_LT(largest_difference(all_logits(model, {ids, {}, {}, {}}).narrow(1, 6, 4), again), 2e-5);
  KvCache three = cache.expanded(3);
  const at::Tensor next = random_ids(3, 1, 50, 19);
  const at::Tensor wide = all_logits(model, {next, {}, {}, {}}, &three);
  KvCache one = cache.expanded(1);
  EXPECT_LT(largest_difference(all_logits(model, {next.narrow(0, 2, 1), {}, {}, {}}, &one)[0], wide[2]), 2e-5);
  EXPECT_THROW(cache.crop(11), Error);
}

}  // namespace
}  // namespace attar
