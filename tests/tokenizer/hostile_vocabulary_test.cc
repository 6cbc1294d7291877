// Vocabularies that fuzzing found to end in something else than an Error.
#include <gtest/gtest.h>

#include "base/check.h"
#include "base/json.h"
#include "formats/sentencepiece_model.h"
#include "tokenizer/gguf_vocab.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/tokenizer_json.h"

namespace attar {
namespace {

TEST(HostileVocabulary, ByteFallbackWithoutAllByteTokensIsNotWrittenToGguf) {
  Json vocab = {{"<unk>", 0}, {"a", 1}};
  for (int byte = 0; byte < 255; ++byte) {  // <0xFF> is missing
    char piece[8];
    std::snprintf(piece, sizeof piece, "<0x%02X>", byte);
    vocab[piece] = byte + 2;
  }
  const Json json = {{"added_tokens", Json::array()},
                     {"normalizer", {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}},
                     {"model", {{"type", "BPE"}, {"unk_token", "<unk>"}, {"byte_fallback", true}, {"vocab", vocab}, {"merges", Json::array()}}}};
  const auto tokenizer = json_tokenizer(to_line(json), {}, "tokenizer.json");
  GgufMetadata metadata;
  std::vector<std::string> deviations;
  try {
    tokenizer->to_gguf(metadata, 300, deviations);
    ADD_FAILURE() << "written";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("<0xFF>"), std::string::npos) << error.what();
  }
}

TEST(HostileVocabulary, PiecesAndTemplatesAreText) {
  SentencePieceModel model;
  model.pieces = {{"<unk>", 0, SentencePieceModel::Type::unknown}, {"<s>", 0, SentencePieceModel::Type::control},
                  {"</s>", 0, SentencePieceModel::Type::control}, {"a\xC2", 0, SentencePieceModel::Type::normal}};
  EXPECT_THROW(parse_sentencepiece(write_sentencepiece(model), "m"), Error);
  model.pieces[3].text = "a\xC2\xA2";
  EXPECT_EQ(parse_sentencepiece(write_sentencepiece(model), "m").pieces.size(), 4u);
  model.pieces[3] = {std::string("\0a", 2), 0, SentencePieceModel::Type::user_defined};
  EXPECT_THROW(sentencepiece_tokenizer(write_sentencepiece(model), TokenizerSurroundings{}, "m"), Error);

  GgufMetadata metadata;
  metadata.set("tokenizer.ggml.model", std::string("gpt2"));
  metadata.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
  EXPECT_THROW(read_gguf_vocabulary(metadata, "m"), Error) << "the merge rules are lost, not none";
  metadata.set("tokenizer.ggml.merges", std::vector<std::string>{});
  EXPECT_EQ(read_gguf_vocabulary(metadata, "m").tokens.size(), 2u);
  metadata.set("tokenizer.chat_template", std::string("\xFF"));
  EXPECT_THROW(read_gguf_vocabulary(metadata, "m"), Error);
  metadata.set("tokenizer.chat_template", std::string("x"));
  metadata.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "\xED\xA0\x80"});
  EXPECT_THROW(read_gguf_vocabulary(metadata, "m"), Error);
}

}  // namespace
}  // namespace attar
