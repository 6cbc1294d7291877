#include "quant/activations.h"

#include <ATen/ATen.h>

#include <cmath>

#include "base/check.h"
#include "data_path.h"
#include "small_model.h"

namespace attar {
namespace {

/// ggml's blocks in plain arithmetic: q8_0 as amax / 127 in fp16, q4_0 as the value of largest magnitude / -8.
at::Tensor plain_blocks(const at::Tensor& x, const std::string& type) {
  at::Tensor out = x.contiguous().clone();
  float* p = out.data_ptr<float>();
  for (int64_t b = 0; b < out.numel(); b += 32) {
    float peak = 0;
    for (int i = 0; i < 32; ++i)
      if (std::fabs(p[b + i]) > std::fabs(peak)) peak = p[b + i];
    const float step = type == "q8_0" ? std::fabs(peak) / 127 : peak / -8, inverse = step != 0 ? 1 / step : 0;
    const float stored = static_cast<float>(static_cast<c10::Half>(step));
    for (int i = 0; i < 32; ++i) {
      const float number = type == "q8_0" ? std::round(p[b + i] * inverse) : std::fmin(15, std::floor(p[b + i] * inverse + 8.5f)) - 8;
      p[b + i] = number * stored;
    }
  }
  return out;
}

ModelSpec small_spec() {
  return small_shape(64, 64, 32, 2, LayerSpec{.ffn = 96, .heads = 4, .kv_heads = 2}, 64);
}

Decoder loud_decoder() {
  Decoder decoder = Decoder::random(small_spec(), 5);
  for (auto& [name, tensor] : decoder.weights())
    if (tensor.dim() == 2) tensor.mul_(12);
  return decoder;
}

TEST(Activations, BytesByTheTokensRange) {
  // Range -1 .. 2: a step of 3/255, the zero point 85, so that both ends and 0 are kept.
  const at::Tensor x = at::tensor({-1.0f, 0.0f, 2.0f, 0.5f}).view({1, 4});
  const at::Tensor got = round_activations(x, ActivationGrid::int8);
  const double step = 3.0 / 255;
  EXPECT_TRUE(at::allclose(got, at::tensor({-85 * step, 0.0, 170 * step, 42 * step}, at::kFloat).view({1, 4}), 0, 1e-6)) << got;
  // Each token has its own range; one of zeros stays.
  const at::Tensor two = at::stack({x[0] * 100, at::zeros({4})});
  const at::Tensor rounded = round_activations(two, ActivationGrid::int8);
  EXPECT_TRUE(at::allclose(rounded[0], got[0] * 100, 1e-5, 0));
  EXPECT_TRUE(at::equal(rounded[1], two[1]));
}

TEST(Activations, BlocksAreGgmls) {
  const at::Tensor x = at::sin(at::arange(2 * 3 * 64, at::kFloat) * 0.7).view({2, 3, 64});
  EXPECT_TRUE(at::equal(round_activations(x, ActivationGrid::q8_0), plain_blocks(x, "q8_0")));
  const at::Tensor odd = x.narrow(2, 0, 40);
  EXPECT_TRUE(at::equal(round_activations(odd, ActivationGrid::q8_0), odd)) << "no block divides it";
}

TEST(Activations, GradientPassesStraightAndOnlyNamedLinearsAreRounded) {
  for (const ActivationGrid grid : {ActivationGrid::int8, ActivationGrid::q8_0}) {
    const auto hook = fake_activations({"a"}, grid);
    const at::Tensor x = at::sin(at::arange(64, at::kFloat)).view({2, 32}).clone().set_requires_grad(true);
    const at::Tensor scale = at::cos(at::arange(64, at::kFloat)).view({2, 32}), y = hook("a", x);
    EXPECT_FALSE(at::equal(y, x));
    (y * scale).sum().backward();
    EXPECT_TRUE(at::equal(x.grad(), scale));
    EXPECT_TRUE(hook("b", x).is_same(x));
  }
}

TEST(Activations, DecoderRoundsWhatEntersItsLinearsAndItsOutput) {
  at::NoGradGuard no_grad;
  Decoder decoder = loud_decoder();
  const TokenBatch tokens{at::arange(24).view({1, 24}), {}, {}, {}};
  const at::Tensor plain = decoder.hidden(tokens);
  decoder.set_input_hook(fake_activations({"lm_head.weight"}, ActivationGrid::q8_0));
  EXPECT_TRUE(at::equal(decoder.hidden(tokens), plain_blocks(plain, "q8_0")));
  decoder.set_input_hook(fake_activations({"model.layers.1.mlp.down_proj.weight"}, ActivationGrid::int8));
  EXPECT_FALSE(at::equal(decoder.hidden(tokens), plain));
}

TEST(CacheOfFewerBits, IsTheBlockFormat) {
  const at::Tensor x = at::sin(at::arange(2 * 2 * 5 * 64, at::kFloat) * 0.37).view({2, 2, 5, 64});
  for (const char* type : {"q8_0", "q4_0"}) EXPECT_TRUE(at::equal(fake_kv_cache(type, 64)(x), plain_blocks(x, type))) << type;
  EXPECT_TRUE(at::equal(fake_kv_cache("f16", 20)(x), x.to(at::kHalf).to(at::kFloat)));
  // Heads lie apart in a transposed view: the blocks are still those of each head.
  const at::Tensor turned = x.transpose(1, 2).contiguous().transpose(1, 2);
  EXPECT_TRUE(at::equal(fake_kv_cache("q8_0", 64)(turned), plain_blocks(x, "q8_0")));
  EXPECT_THROW(fake_kv_cache("q8_0", 48), Error);
  EXPECT_THROW(fake_kv_cache("q5_0", 64), Error);
}

TEST(CacheOfFewerBits, ReachesAttentionWithAndWithoutACache) {
  at::NoGradGuard no_grad;
  Decoder decoder = loud_decoder();
  const TokenBatch tokens{at::arange(24).view({1, 24}), {}, {}, {}};
  const at::Tensor plain = decoder.logits(decoder.hidden(tokens));
  double last = 0;
  for (const char* type : {"f16", "q8_0", "q4_0"}) {
    decoder.set_cache_hook(fake_kv_cache(type, 32));
    const at::Tensor got = decoder.logits(decoder.hidden(tokens));
    const double far = (got - plain).abs().max().item<double>() / plain.abs().max().item<double>();
    EXPECT_GT(far, last) << type;
    if (std::string(type) == "f16") {
      EXPECT_LT(far, 1e-3);
    }
    last = far;
    KvCache cache;
    decoder.hidden({at::arange(20).view({1, 20}), {}, {}, {}}, &cache);
    const at::Tensor stepped = decoder.logits(decoder.hidden({at::arange(20, 24).view({1, 4}), {}, {}, {}}, &cache));
    EXPECT_TRUE(at::allclose(stepped, got.narrow(1, 20, 4), 1e-3, 1e-3 * plain.abs().max().item<double>())) << type;
  }
}

}  // namespace
}  // namespace attar
