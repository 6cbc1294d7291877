#include "prune/vocabulary.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <set>

#include "base/check.h"
#include "data_path.h"
#include "formats/text_lines.h"
#include "model/decoder.h"

namespace attar {
namespace {

std::vector<std::string> banking_texts(const char* file, size_t limit) {
  std::vector<std::string> out;
  CsvReader reader(test_data() / "banking77" / file);
  for (std::vector<std::string> fields; out.size() < limit && reader.next(fields);) out.push_back(fields.at(0));
  return out;
}

TokenRows rows_of(const Tokenizer& tokenizer, const std::vector<std::string>& texts) {
  size_t longest = 1;
  std::vector<std::vector<int32_t>> all;
  for (const std::string& text : texts) {
    all.push_back(tokenizer.encode(text));
    longest = std::max(longest, all.back().size());
  }
  TokenRows rows;
  rows.ids = at::zeros({static_cast<int64_t>(all.size()), static_cast<int64_t>(longest)}, at::kInt);
  rows.lengths = at::zeros({static_cast<int64_t>(all.size())}, at::kInt);
  for (size_t r = 0; r < all.size(); ++r) {
    std::copy(all[r].begin(), all[r].end(), rows.ids.data_ptr<int32_t>() + r * longest);
    rows.lengths[static_cast<int64_t>(r)] = static_cast<int64_t>(all[r].size());
  }
  return rows;
}

Checkpoint model_with(std::shared_ptr<const Tokenizer> tokenizer, int64_t vocab) {
  Checkpoint model;
  ModelSpec& s = model.spec;
  s.vocab = vocab, s.hidden = 8, s.head_size = 4, s.context = 64;
  s.layers.assign(1, LayerSpec{.ffn = 8, .heads = 2, .kv_heads = 1});
  if (tokenizer->bos()) s.bos = *tokenizer->bos();
  if (tokenizer->eos()) s.eos = {*tokenizer->eos()};
  model.weights = Decoder::random(s, 1).weights();
  model.tokenizer = std::move(tokenizer);
  return model;
}

class VocabularyPruning : public ::testing::TestWithParam<const char*> {};

TEST_P(VocabularyPruning, TextsOfTheDomainKeepTheirPieces) {
  ATTAR_NEED_DATA(std::string("tokenizers/") + GetParam());
  ATTAR_NEED_DATA("banking77");
  const auto tokenizer = load_tokenizer(test_data() / "tokenizers" / GetParam());
  const std::vector<std::string> texts = banking_texts("train.csv", 3000);
  ASSERT_GT(texts.size(), 2000u);
  const Checkpoint model = model_with(tokenizer, tokenizer->size() + 5);
  const Checkpoint small = prune_vocabulary(model, token_counts(rows_of(*tokenizer, texts), model.spec.vocab), 1);
  EXPECT_LT(small.spec.vocab, model.spec.vocab / 3);
  EXPECT_EQ(small.spec.vocab, small.tokenizer->size());
  EXPECT_EQ(small.weights.at("model.embed_tokens.weight").size(0), small.spec.vocab);
  for (const std::string& text : texts) {
    const std::vector<int32_t> before = tokenizer->encode(text), after = small.tokenizer->encode(text);
    ASSERT_EQ(before.size(), after.size()) << text;
    for (size_t i = 0; i < before.size(); ++i) {
      ASSERT_EQ(tokenizer->piece(before[i]), small.tokenizer->piece(after[i])) << text;
      // A row of the embedding went with its piece.
      ASSERT_TRUE(at::equal(model.weights.at("model.embed_tokens.weight")[before[i]], small.weights.at("model.embed_tokens.weight")[after[i]]));
    }
  }
  for (const std::string& other :
       {std::string("Größe 漢字 😀"), std::string("zxqj\n\tVWK"), std::string("\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB 3.14159")})
    EXPECT_EQ(small.tokenizer->decode(small.tokenizer->encode(other)), tokenizer->decode(tokenizer->encode(other)));
  if (tokenizer->bos()) {
    EXPECT_EQ(tokenizer->piece(*tokenizer->bos()), small.tokenizer->piece(static_cast<int32_t>(small.spec.bos)));
  }
  if (tokenizer->eos()) {
    EXPECT_EQ(tokenizer->piece(*tokenizer->eos()), small.tokenizer->piece(static_cast<int32_t>(small.spec.eos.at(0))));
  }
}

INSTANTIATE_TEST_SUITE_P(Originals, VocabularyPruning, ::testing::Values("llama2", "gpt2"), [](const auto& info) { return std::string(info.param); });

TEST(VocabularyPruningErrors, AreOneSentence) {
  Checkpoint model;
  EXPECT_THROW(prune_vocabulary(model, {}, 1), Error);
}

}  // namespace
}  // namespace attar
