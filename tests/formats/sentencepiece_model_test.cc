#include "formats/sentencepiece_model.h"

#include "base/check.h"
#include "base/files.h"
#include "data_path.h"

namespace attar {
namespace {

TEST(SentencePieceModelFile, ReadsLlama2) {
  ATTAR_NEED_DATA("tokenizers/llama2/tokenizer.model");
  const SentencePieceModel model = parse_sentencepiece(read_file(test_data() / "tokenizers/llama2/tokenizer.model"), "llama2");
  ASSERT_EQ(model.pieces.size(), 32000u);
  EXPECT_EQ(model.pieces[0].text, "<unk>");
  EXPECT_EQ(model.pieces[0].type, SentencePieceModel::Type::unknown);
  EXPECT_EQ(model.pieces[1].type, SentencePieceModel::Type::control);
  EXPECT_EQ(model.pieces[13].text, "<0x0A>");
  EXPECT_EQ(model.pieces[13].type, SentencePieceModel::Type::byte);
  EXPECT_EQ(model.pieces[259].text, "\xE2\x96\x81\xE2\x96\x81");
  EXPECT_EQ(model.algorithm, SentencePieceModel::Algorithm::bpe);
  EXPECT_TRUE(model.byte_fallback);
  EXPECT_EQ(model.bos_id, 1);
  EXPECT_EQ(model.eos_id, 2);
  EXPECT_EQ(model.normalizer_name, "identity");
  EXPECT_TRUE(model.add_dummy_prefix);
  EXPECT_FALSE(model.remove_extra_whitespaces);
}

TEST(SentencePieceModelFile, ReadsUnigramWithNormalizer) {
  ATTAR_NEED_DATA("tokenizers/unigram_bytefallback_2000.model");
  const SentencePieceModel model = parse_sentencepiece(read_file(test_data() / "tokenizers/unigram_bytefallback_2000.model"), "unigram");
  EXPECT_EQ(model.pieces.size(), 2000u);
  EXPECT_EQ(model.algorithm, SentencePieceModel::Algorithm::unigram);
  EXPECT_TRUE(model.has_charsmap);
}

TEST(SentencePieceModelFile, WritesWhatItRead) {
  ATTAR_NEED_DATA("tokenizers/llama2/tokenizer.model");
  for (const char* name : {"tokenizers/llama2/tokenizer.model", "tokenizers/unigram_bytefallback_2000.model", "stories260K/tok512.model"}) {
    SentencePieceModel model = parse_sentencepiece(read_file(test_data() / name), name);
    const std::string written = write_sentencepiece(model);
    const SentencePieceModel again = parse_sentencepiece(written, name);
    ASSERT_EQ(again.pieces.size(), model.pieces.size());
    for (size_t i = 0; i < model.pieces.size(); ++i) {
      ASSERT_EQ(again.pieces[i].text, model.pieces[i].text);
      ASSERT_EQ(again.pieces[i].score, model.pieces[i].score);
      ASSERT_EQ(again.pieces[i].type, model.pieces[i].type);
    }
    EXPECT_EQ(again.normalizer_spec, model.normalizer_spec);
    EXPECT_EQ(again.rest, model.rest);
    EXPECT_EQ(again.byte_fallback, model.byte_fallback);
    // The second writing changes nothing: the first had the right vocab_size.
    EXPECT_EQ(write_sentencepiece(again), written) << name;
  }
}

TEST(SentencePieceModelFile, RefusesBrokenFiles) {
  EXPECT_THROW(parse_sentencepiece("", "empty"), Error);
  EXPECT_THROW(parse_sentencepiece("not a model at all", "text"), Error);
  ATTAR_NEED_DATA("stories260K/tok512.model");
  const std::string whole = read_file(test_data() / "stories260K/tok512.model");
  // Cut anywhere: an Error or a shorter model, never a crash. Inside the pieces' part most cuts break a message.
  int refused = 0;
  for (size_t size = 0; size < whole.size(); size += 7) try {
      parse_sentencepiece(whole.substr(0, size), "cut");
    } catch (const Error& error) {
      ++refused;
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    }
  EXPECT_GT(refused, 500);
}

TEST(SentencePieceModelFile, RefusesBadIdsAndScores) {
  SentencePieceModel model;
  model.pieces = {{"<unk>", 0, SentencePieceModel::Type::unknown}, {"a", -1, SentencePieceModel::Type::normal}};
  model.trainer_spec = std::string("\xC0\x02\x05", 3);  // unk_id = 5
  EXPECT_THROW(parse_sentencepiece(write_sentencepiece(model), "ids"), Error);
  model.trainer_spec.clear();
  model.pieces[1].score = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(parse_sentencepiece(write_sentencepiece(model), "score"), Error);
}

}  // namespace
}  // namespace attar
