#include "eval/memorization.h"

#include "base/check.h"
#include "base/rng.h"
#include "eval/tiny_decoder.h"
#include "gtest/gtest.h"
#include "model/generate.h"

namespace attar {
namespace {

std::vector<std::vector<int32_t>> random_texts(int64_t count, int64_t length, uint64_t seed) {
  Rng rng(seed);
  std::vector<std::vector<int32_t>> out;
  for (int64_t i = 0; i < count; ++i) {
    std::vector<int32_t> text;
    for (int64_t t = 0; t < length; ++t) text.push_back(static_cast<int32_t>(3 + rng.below(250)));
    out.push_back(std::move(text));
  }
  return out;
}

TEST(Memorization, CountsTextsThatTheModelGoesOnWithWordForWord) {
  const Decoder model = tiny_decoder();
  MemorizationOptions options;
  options.prefix = 6, options.length = 5, options.rows = 100, options.batch = 4;
  auto trained = random_texts(10, 15, 1);
  const auto held_out = random_texts(7, 15, 2);
  // Texts 2 and 7 are what the model itself says; text 4 differs in the last token that counts.
  for (const size_t i : {2u, 7u, 4u}) {
    const std::vector<int32_t> prompt(trained[i].begin(), trained[i].begin() + 6);
    GenerateOptions greedy;
    greedy.max_tokens = 5;
    const auto said = generate(model, prompt, greedy);
    ASSERT_EQ(said.size(), 5u);
    std::copy(said.begin(), said.end(), trained[i].begin() + 6);
  }
  trained[4][10] = trained[4][10] == 5 ? 6 : 5;
  trained.push_back({1, 2, 3});
  const MemorizationResult result = memorization(model, trained, held_out, options);
  EXPECT_EQ(result.reproduced, (std::vector<int64_t>{2, 7}));
  EXPECT_EQ(result.trained.n, 10);
  EXPECT_DOUBLE_EQ(result.trained.value, 0.2);
  EXPECT_EQ(result.short_trained, 1);
  EXPECT_EQ(result.held_out.value, 0);
  EXPECT_GT(result.held_out.high, 0);
}

TEST(Memorization, TriesTextsSpreadOverAll) {
  const Decoder model = tiny_decoder();
  MemorizationOptions options;
  options.prefix = 4, options.length = 2, options.rows = 5;
  const MemorizationResult result = memorization(model, random_texts(50, 6, 3), random_texts(3, 6, 4), options);
  EXPECT_EQ(result.trained.n, 5);
  EXPECT_EQ(result.held_out.n, 3);
}

TEST(Memorization, RefusesWhatCannotBeTried) {
  const Decoder model = tiny_decoder();
  MemorizationOptions options;
  EXPECT_THROW(memorization(model, random_texts(3, 5, 1), random_texts(3, 40, 1), options), Error);
  options.prefix = 1000;
  EXPECT_THROW(memorization(model, random_texts(3, 40, 1), random_texts(3, 40, 1), options), Error);
  options.prefix = 0;
  EXPECT_THROW(memorization(model, random_texts(3, 40, 1), random_texts(3, 40, 1), options), Error);
}

}  // namespace
}  // namespace attar
