#include "model/generate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "data_path.h"

namespace attar {
namespace {

/// Two layers of a small Llama with grouped heads, the first with a window.
Decoder writer_model(int64_t window = 0) {
  ModelSpec spec;
  spec.vocab = 50;
  spec.hidden = 32;
  spec.head_size = 8;
  spec.context = 64;
  spec.layers = {{48, 4, 2, window, false}, {48, 4, 2, 0, false}};
  Decoder model = Decoder::random(spec, 15);
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(15);
  for (auto& [name, tensor] : model.weights())
    if (tensor.dim() == 2) tensor = at::randn(tensor.sizes(), generator).mul_(0.25);
  return model;
}

const std::vector<std::vector<int32_t>>& some_prompts() {
  static const std::vector<std::vector<int32_t>> all = {{1, 2, 3}, {7}, {4, 5, 6, 8, 9, 10, 11}, {12, 13}, {1, 2, 3}};
  return all;
}

TEST(WriteTexts, EachIsWhatItWouldBeAlone) {
  for (const int64_t window : {0, 3}) {
    const Decoder model = writer_model(window);
    WriteOptions options;
    options.generate.max_tokens = 14;
    std::vector<std::vector<int32_t>> alone;
    for (const auto& prompt : some_prompts()) alone.push_back(generate(model, prompt, options.generate));
    const auto texts = write_texts(model, some_prompts(), {0, 1, 2, 3, 4}, options);
    for (size_t i = 0; i < alone.size(); ++i) {
      EXPECT_EQ(texts[i].ids, alone[i]) << "prompt " << i << " window " << window;
      EXPECT_FALSE(texts[i].finished);
    }
    // With an id that ends some of them early, the others go on as before.
    options.generate.stop = {alone[1][4], alone[2][9]};
    const auto stopped = write_texts(model, some_prompts(), {0, 1, 2, 3, 4}, options);
    bool any = false;
    for (size_t i = 0; i < alone.size(); ++i) {
      const auto end = std::find_first_of(alone[i].begin(), alone[i].end(), options.generate.stop.begin(), options.generate.stop.end());
      EXPECT_EQ(stopped[i].ids, std::vector<int32_t>(alone[i].begin(), end)) << i;
      EXPECT_EQ(stopped[i].finished, end != alone[i].end());
      any = any || stopped[i].finished;
    }
    EXPECT_TRUE(any);
  }
}

TEST(WriteTexts, DrawsBelongToTheTextNotToItsBatch) {
  const Decoder model = writer_model();
  WriteOptions options;
  options.generate = {12, 1.0, 3, {}};
  const auto whole = write_texts(model, some_prompts(), {0, 1, 2, 3, 4}, options);
  EXPECT_NE(whole[0].ids, whole[4].ids) << "the same prompt, another stream";
  const auto pair = write_texts(model, {some_prompts()[3], some_prompts()[1]}, {3, 1}, options);
  EXPECT_EQ(pair[0].ids, whole[3].ids);
  EXPECT_EQ(pair[1].ids, whole[1].ids);
  options.generate.seed = 4;
  EXPECT_NE(write_texts(model, some_prompts(), {0, 1, 2, 3, 4}, options)[2].ids, whole[2].ids);
}

TEST(WriteTexts, FollowTheTeachersDistributionCutAtTopP) {
  const Decoder model = writer_model();
  const std::vector<int32_t> prompt = {1, 2, 3};
  const at::Tensor hidden = model.hidden({at::tensor({1, 2, 3}, at::kLong).unsqueeze(0), {}, {}, {}});
  const at::Tensor probs = at::softmax(model.logits(hidden.select(1, 2)).to(at::kDouble), -1).flatten();
  constexpr int kDraws = 4000;
  const std::vector<std::vector<int32_t>> prompts(kDraws, prompt);
  std::vector<uint64_t> streams(kDraws);
  for (size_t i = 0; i < streams.size(); ++i) streams[i] = i;
  WriteOptions options;
  options.generate = {1, 1.0, 5, {}};
  const auto counts = [&] {
    std::vector<double> out(50);
    for (const auto& text : write_texts(model, prompts, streams, options)) out[static_cast<size_t>(text.ids[0])] += 1;
    return out;
  };
  const auto drawn = counts();
  for (int64_t id = 0; id < 50; ++id) {
    const double p = probs[id].item<double>();
    EXPECT_NEAR(drawn[static_cast<size_t>(id)] / kDraws, p, 5 * std::sqrt(p * (1 - p) / kDraws) + 1e-9) << id;
  }
  options.top_p = 0.5;
  const auto cut = counts();
  const auto [sorted, order] = probs.sort(0, true);
  double seen = 0;
  for (int64_t rank = 0; rank < 50; ++rank) {
    const double drawn_here = cut[static_cast<size_t>(order[rank].item<int64_t>())];
    EXPECT_TRUE(seen < 0.5 || drawn_here == 0) << "rank " << rank;
    seen += sorted[rank].item<double>();
  }
  options.top_p = 1e-9;
  EXPECT_EQ(counts()[static_cast<size_t>(probs.argmax().item<int64_t>())], kDraws);
  options.top_p = 1;
  options.vocab = 10;
  const auto few = counts();
  EXPECT_EQ(std::count_if(few.begin() + 10, few.end(), [](double n) { return n > 0; }), 0);
}

TEST(WriteTexts, WrongOptionsAreRefused) {
  const Decoder model = writer_model();
  WriteOptions options;
  EXPECT_TRUE(write_texts(model, {}, {}, options).empty());
  EXPECT_THROW(write_texts(model, {{}}, {0}, options), Error);
  options.top_p = 0;
  EXPECT_THROW(write_texts(model, {{1}}, {0}, options), Error);
  options.top_p = 1, options.generate.temperature = -1;
  EXPECT_THROW(write_texts(model, {{1}}, {0}, options), Error);
}

}  // namespace
}  // namespace attar
