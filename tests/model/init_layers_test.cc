#include "model/init_layers.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "model/decoder.h"

namespace attar {
namespace {

ModelSpec layered_spec(int64_t layers, bool tied = false) {
  ModelSpec spec;
  spec.vocab = 20, spec.hidden = 16, spec.head_size = 8, spec.context = 32, spec.tied = tied;
  for (int64_t i = 0; i < layers; ++i) spec.layers.push_back({24, 2, 1, 0, false});
  return spec;
}

Checkpoint layered_model(int64_t layers, bool tied = false) {
  Checkpoint out;
  out.spec = layered_spec(layers, tied);
  out.weights = Decoder::random(out.spec, 9).weights();
  return out;
}

TEST(InitLayers, Choices) {
  InitConfig config;
  EXPECT_EQ(chosen_layers(config, 3, 9), (std::vector<int64_t>{1, 5, 9}));
  EXPECT_EQ(chosen_layers(config, 4, 4), (std::vector<int64_t>{1, 2, 3, 4}));
  config.every = 2;
  EXPECT_EQ(chosen_layers(config, 3, 6), (std::vector<int64_t>{2, 4, 6}));
  EXPECT_THROW(chosen_layers(config, 4, 6), Error);
  config.every = 0, config.layers = {1, 1, 6};
  EXPECT_EQ(chosen_layers(config, 3, 6), (std::vector<int64_t>{1, 1, 6}));
  EXPECT_THROW(chosen_layers(config, 2, 6), Error);
  EXPECT_THROW(chosen_layers(config, 3, 5), Error);
  config.every = 1;
  EXPECT_THROW(chosen_layers(config, 3, 6), Error);
  EXPECT_THROW(chosen_layers({}, 7, 6), Error);
}

TEST(InitLayers, LayersAreCopiedByNumber) {
  const Checkpoint big = layered_model(4);
  const StateDict small = weights_from_layers(layered_spec(2), big, {2, 4});
  EXPECT_NO_THROW(Decoder(layered_spec(2), small));
  EXPECT_TRUE(at::equal(small.at("model.layers.0.mlp.up_proj.weight"), big.weights.at("model.layers.1.mlp.up_proj.weight")));
  EXPECT_TRUE(at::equal(small.at("model.layers.1.self_attn.o_proj.weight"), big.weights.at("model.layers.3.self_attn.o_proj.weight")));
  EXPECT_TRUE(at::equal(small.at("lm_head.weight"), big.weights.at("lm_head.weight")));
  EXPECT_NE(small.at("lm_head.weight").data_ptr(), big.weights.at("lm_head.weight").data_ptr()) << "a copy: the teacher must not learn";
  // All layers kept: the same function.
  const at::Tensor ids = at::arange(8, at::kLong).view({1, 8});
  EXPECT_TRUE(at::equal(Decoder(big.spec, big.weights).hidden({ids, {}, {}, {}}),
                        Decoder(big.spec, weights_from_layers(big.spec, big, {1, 2, 3, 4})).hidden({ids, {}, {}, {}})));
}

TEST(InitLayers, TiedModelGivesItsEmbeddingAsHead) {
  const Checkpoint big = layered_model(2, true);
  const StateDict small = weights_from_layers(layered_spec(1), big, {1});
  EXPECT_TRUE(at::equal(small.at("lm_head.weight"), big.weights.at("model.embed_tokens.weight")));
}

TEST(InitLayers, ShapesThatDifferAreNamed) {
  ModelSpec wide = layered_spec(1);
  wide.layers[0].ffn = 32;
  try {
    weights_from_layers(wide, layered_model(2), {2});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("model.layers.1.mlp.gate_proj.weight"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("[32, 16]"), std::string::npos) << error.what();
  }
  ModelSpec biased = layered_spec(1);
  biased.qkv_bias = true;
  EXPECT_THROW(weights_from_layers(biased, layered_model(2), {1}), Error);
}

}  // namespace
}  // namespace attar
