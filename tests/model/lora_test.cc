#include "model/lora.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "data_path.h"
#include "formats/safetensors.h"
#include "model/decoder.h"

namespace attar {
namespace {

ModelSpec lora_spec() {
  ModelSpec spec;
  spec.vocab = 30, spec.hidden = 24, spec.head_size = 8, spec.context = 32;
  for (int i = 0; i < 2; ++i) spec.layers.push_back({40, 3, 1, 0, false});
  return spec;
}

LoraConfig small_lora() {
  LoraConfig config;
  config.rank = 4, config.alpha = 12.0, config.targets = {"q_proj", "down_proj"};
  return config;
}

std::shared_ptr<LoraAdapters> trained_adapters(const ModelSpec& spec) {
  auto adapters = std::make_shared<LoraAdapters>(spec, small_lora(), 5);
  for (const auto& [name, pair] : adapters->pairs()) {
    at::Tensor b = pair.b;
    b.copy_(at::sin(at::arange(b.numel(), at::kFloat)).view(b.sizes()) * 0.2);
  }
  return adapters;
}

TEST(Lora, FreshAdaptersChangeNothingAndOnlyTheyLearn) {
  Decoder model = Decoder::random(lora_spec(), 1);
  const at::Tensor ids = at::arange(16, at::kLong).view({2, 8});
  const at::Tensor before = model.hidden({ids, {}, {}, {}});
  const auto adapters = std::make_shared<LoraAdapters>(lora_spec(), small_lora(), 5);
  EXPECT_EQ(adapters->pairs().size(), 4u);
  EXPECT_EQ(adapters->pairs().at("model.layers.1.mlp.down_proj.weight").a.sizes(), at::IntArrayRef({4, 40}));
  adapters->require_grad(true);
  model.set_adapters(adapters);
  for (const bool recompute : {false, true}) {
    model.recompute_layers = recompute;
    const at::Tensor after = model.hidden({ids, {}, {}, {}});
    EXPECT_TRUE(at::equal(before, after));
    after.cos().sum().backward();
    for (const auto& [name, tensor] : model.weights()) EXPECT_FALSE(tensor.grad().defined()) << name;
    for (const auto& [name, pair] : adapters->pairs()) {
      ASSERT_TRUE(pair.b.grad().defined()) << name;
      EXPECT_GT(pair.b.grad().abs().max().item<double>(), 0) << name;
    }
  }
}

TEST(Lora, MergedModelComputesTheSame) {
  const ModelSpec spec = lora_spec();
  const auto adapters = trained_adapters(spec);
  Decoder apart = Decoder::random(spec, 1), merged = Decoder::random(spec, 1);
  const at::Tensor ids = at::arange(16, at::kLong).view({2, 8}), plain = apart.hidden({ids, {}, {}, {}});
  apart.set_adapters(adapters);
  adapters->merge_into(merged.weights());
  const at::Tensor a = apart.hidden({ids, {}, {}, {}}), b = merged.hidden({ids, {}, {}, {}});
  EXPECT_GT((a - plain).abs().max().item<double>(), 1e-2);
  EXPECT_LT((a - b).abs().max().item<double>(), 1e-5);
}

TEST(Lora, FilesArePeftsLayout) {
  TestFolder folder;
  const auto adapters = trained_adapters(lora_spec());
  adapters->save(folder / "adapter", "owner/base");
  const Json config = read_json(folder / "adapter" / "adapter_config.json");
  EXPECT_EQ(config["peft_type"], "LORA");
  EXPECT_EQ(config["r"], 4);
  EXPECT_EQ(config["lora_alpha"], 12.0);
  EXPECT_EQ(config["target_modules"], Json({"q_proj", "down_proj"}));
  const SafetensorsFile file(folder / "adapter" / "adapter_model.safetensors");
  EXPECT_EQ(file.tensors().size(), 8u);
  EXPECT_EQ(file.tensors().at("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight").shape, (std::vector<int64_t>{4, 24}));
  EXPECT_EQ(file.tensors().at("base_model.model.model.layers.1.mlp.down_proj.lora_B.weight").shape, (std::vector<int64_t>{24, 4}));
}

TEST(Lora, RefusesWhatItCannotAdapt) {
  LoraConfig config = small_lora();
  config.targets = {"w_pack"};
  EXPECT_THROW(LoraAdapters(lora_spec(), config, 1), Error);
  config = small_lora();
  config.rank = 100;
  EXPECT_THROW(LoraAdapters(lora_spec(), config, 1), Error);
  config = small_lora();
  config.alpha = 0.0;
  EXPECT_THROW(LoraAdapters(lora_spec(), config, 1), Error);
}

}  // namespace
}  // namespace attar
