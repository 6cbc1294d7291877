#include <atomic>
#include <sstream>
#include <thread>

#include "base/check.h"
#include "base/files.h"
#include "data_path.h"
#include "formats/sentencepiece_model.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/tokenizer.h"

namespace attar {
namespace {

std::function<bool(std::string&)> lines_of(std::vector<std::string> lines) {
  auto at = std::make_shared<size_t>(0);
  return [lines = std::move(lines), at](std::string& line) {
    if (*at >= lines.size()) return false;
    line = lines[(*at)++];
    return true;
  };
}

std::vector<std::string> small_text() {
  std::vector<std::string> out;
  const char* words[] = {"the", "order", "was", "delivered", "late", "refund", "please", "account", "password", "reset", "  ", "invoice", "12345"};
  for (int i = 0; i < 400; ++i) {
    std::string line;
    for (int j = 0; j < 9; ++j) line += std::string(j ? " " : "") + words[(i * 7 + j * j * 3 + i / 11) % 13];
    out.push_back(line);
  }
  return out;
}

TEST(SentencePiece, Llama2IsOneTokenizerWhateverFile) {
  ATTAR_NEED_DATA("tokenizers/llama2/tokenizer.model");
  const fs::path folder = test_data() / "tokenizers/llama2";
  const auto model = load_tokenizer(folder / "tokenizer.model"), whole = load_tokenizer(folder);
  EXPECT_EQ(model->fingerprint(), whole->fingerprint());
  EXPECT_EQ(model->size(), 32000);
  EXPECT_EQ(model->kind(), "sentencepiece bpe");
  EXPECT_EQ(model->encode("Hello world"), (std::vector<int32_t>{15043, 3186}));
  EXPECT_EQ(model->encode(" Hello"), (std::vector<int32_t>{29871, 15043}));
  EXPECT_EQ(model->encode("\n"), (std::vector<int32_t>{29871, 13}));
  EXPECT_EQ(model->encode(""), std::vector<int32_t>{});
  EXPECT_TRUE(whole->add_bos());
  ATTAR_NEED_DATA("tokenizers/vocab-tests/ggml-vocab-llama-spm.gguf");
  EXPECT_EQ(load_tokenizer(test_data() / "tokenizers/vocab-tests/ggml-vocab-llama-spm.gguf")->fingerprint(), model->fingerprint());
  ATTAR_NEED_DATA("stories260K/tok512.model");
  EXPECT_NE(load_tokenizer(test_data() / "stories260K/tok512.model")->fingerprint(), model->fingerprint());
}

TEST(SentencePiece, SpecialTextIsLiteralUnlessAskedFor) {
  ATTAR_NEED_DATA("tokenizers/llama2/tokenizer.model");
  const auto tokenizer = load_tokenizer(test_data() / "tokenizers/llama2");
  EXPECT_EQ(tokenizer->encode("<s>hi</s>", true), (std::vector<int32_t>{1, 7251, 2}));
  for (const int32_t id : tokenizer->encode("<s>hi</s>")) EXPECT_GT(id, 2);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("<s>hi</s>")), "<s>hi</s>");
  EXPECT_EQ(tokenizer->decode({1, 7251, 2}), "hi");
}

TEST(SentencePiece, GreedyStoryDecodesAsExpected) {
  ATTAR_NEED_DATA("stories260K/greedy_ids.txt");
  const auto tokenizer = load_tokenizer(test_data() / "stories260K/tok512.model");
  std::string digits = read_file(test_data() / "stories260K/greedy_ids.txt");
  for (char& character : digits)
    if (character < '0' || character > '9') character = ' ';
  std::vector<int32_t> ids;
  std::istringstream in(digits);
  for (int32_t id; in >> id;) ids.push_back(id);
  ASSERT_GT(ids.size(), 200u);
  std::string expected = read_file(test_data() / "stories260K/expected_greedy_256.txt");
  while (!expected.empty() && expected.back() == '\n') expected.pop_back();
  const std::string text = tokenizer->decode(ids);
  EXPECT_EQ(text.substr(0, expected.size()), expected.substr(0, text.size()));
}

TEST(SentencePiece, RefusesUnknownIds) {
  ATTAR_NEED_DATA("stories260K/tok512.model");
  const auto tokenizer = load_tokenizer(test_data() / "stories260K/tok512.model");
  EXPECT_THROW(tokenizer->decode({512}), Error);
  EXPECT_THROW(tokenizer->decode({-1}), Error);
  EXPECT_THROW(tokenizer->piece(100000), Error);
}

TEST(SentencePiece, HostileModelsAreRefusedOrWork) {
  ATTAR_NEED_DATA("tokenizers/unigram_bytefallback_2000.model");
  const std::string whole = read_file(test_data() / "tokenizers/unigram_bytefallback_2000.model");
  uint32_t state = 7;
  for (int round = 0; round < 120; ++round) {
    std::string bytes = whole;
    for (int flip = 0; flip < 6; ++flip) {
      state = state * 1664525u + 1013904223u;
      bytes[state % bytes.size()] = static_cast<char>(state >> 24);
    }
    try {
      const auto tokenizer = sentencepiece_tokenizer(bytes, std::string(), "mutated");
      const auto ids = tokenizer->encode("A mutated model, caf\xC3\xA9 \xEF\xBC\xA1 1/2 \xE2\x91\xA0!");
      tokenizer->decode(ids);
    } catch (const Error&) {
    }
  }
}

TEST(SentencePiece, CharsmapIsCheckedBeforeUse) {
  EXPECT_THROW(check_charsmap("", "map"), Error);
  EXPECT_THROW(check_charsmap(std::string("\x00\x04\x00\x00", 4) + std::string(100, '\0'), "map"), Error);
  std::string map = std::string("\x00\x04\x00\x00", 4) + std::string(1024, '\0') + std::string("a\0", 2);
  EXPECT_NO_THROW(check_charsmap(map, "map"));
  map[4 + 3] = 0x7F;  // the root's children lie far outside
  EXPECT_THROW(check_charsmap(map, "map"), Error);
}

TEST(TrainSentencePiece, SameTextGivesSameBytes) {
  for (const char* kind : {"bpe", "unigram"}) {
    const std::string first = train_sentencepiece(lines_of(small_text()), 300, kind), second = train_sentencepiece(lines_of(small_text()), 300, kind);
    EXPECT_EQ(first, second);
    const SentencePieceModel model = parse_sentencepiece(first, "trained");
    EXPECT_EQ(model.pieces.size(), 300u);
    EXPECT_TRUE(model.byte_fallback);
    EXPECT_FALSE(model.has_charsmap);
    EXPECT_FALSE(model.remove_extra_whitespaces);
    EXPECT_EQ(model.unk_id, 0);
    EXPECT_EQ(model.bos_id, 1);
    EXPECT_EQ(model.eos_id, 2);
    const auto tokenizer = sentencepiece_tokenizer(first, std::string(), "trained");
    for (const char* text : {"the order was  delivered", "caf\xC3\xA9 \xF0\x9F\x9A\x80\n\ttab", "   ",
        "a"}) EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  }
}

TEST(TrainSentencePiece, SaysWhatIsPossible) {
  try {
    train_sentencepiece(lines_of(small_text()), 5000, "bpe");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("at most "), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("5000"), std::string::npos) << error.what();
  }
  EXPECT_THROW(train_sentencepiece(lines_of({}), 300, "bpe"), Error);
  EXPECT_THROW(train_sentencepiece(lines_of({"", "\n"}), 300, "bpe"), Error);
  EXPECT_THROW(train_sentencepiece(lines_of(small_text()), 100, "bpe"), Error);
  EXPECT_THROW(train_sentencepiece(lines_of(small_text()), 300, "wordpiece"), Error);
}

TEST(TrainSentencePiece, LongLinesAndBadBytes) {
  std::vector<std::string> lines = small_text();
  std::string joined;
  for (const std::string& line : lines) joined += line + " ";
  lines.push_back(joined);
  std::string word;
  for (int i = 0; i < 100000; ++i) word += static_cast<char>('a' + i % 7);
  lines.push_back(word);
  lines.push_back("caf\xE9 \xFF\xFE bytes");
  lines.push_back(std::string("nul\0inside", 10));
  EXPECT_EQ(parse_sentencepiece(train_sentencepiece(lines_of(lines), 320, "bpe"), "trained").pieces.size(), 320u);
}

TEST(SentencePiece, WritesGgufAndSaysWhatDeviates) {
  const std::string bpe = train_sentencepiece(lines_of(small_text()), 300, "bpe");
  const auto tokenizer = sentencepiece_tokenizer(bpe, std::string(), "trained");
  GgufMetadata metadata;
  std::vector<std::string> deviations;
  tokenizer->to_gguf(metadata, 320, deviations);
  EXPECT_TRUE(deviations.empty()) << deviations[0];
  EXPECT_EQ(metadata.text("tokenizer.ggml.model"), "llama");
  EXPECT_TRUE(metadata.boolean("tokenizer.ggml.add_space_prefix", false));
  EXPECT_EQ(metadata.integer("tokenizer.ggml.bos_token_id"), 1);
  const auto& tokens = std::get<std::vector<std::string>>(*metadata.find("tokenizer.ggml.tokens"));
  const auto& types = std::get<std::vector<int32_t>>(*metadata.find("tokenizer.ggml.token_type"));
  ASSERT_EQ(tokens.size(), 320u);
  EXPECT_EQ(tokens[319], "[PAD319]");
  EXPECT_EQ(types[319], 5);
  const auto reader = gguf_tokenizer(read_gguf_vocabulary(metadata, "written"), "written");
  EXPECT_EQ(reader->fingerprint(), tokenizer->fingerprint());
  for (const char* text : {"the order was  delivered", " caf\xC3\xA9 \xF0\x9F\x9A\x80\n\ttab", "   ", "<s>", "<0x41>"})
    EXPECT_EQ(reader->encode(text), tokenizer->encode(text)) << text;
  EXPECT_THROW(tokenizer->to_gguf(metadata, 299, deviations), Error);

  const auto unigram = sentencepiece_tokenizer(train_sentencepiece(lines_of(small_text()), 300, "unigram"), std::string(), "unigram");
  deviations.clear();
  GgufMetadata other;
  unigram->to_gguf(other, 300, deviations);
  EXPECT_FALSE(deviations.empty());
  EXPECT_EQ(other.text("tokenizer.ggml.model"), "t5");
  const auto again = gguf_tokenizer(read_gguf_vocabulary(other, "unigram"), "unigram");
  EXPECT_EQ(again->encode("the order was  delivered"), unigram->encode("the order was  delivered"));
  ATTAR_NEED_DATA("stories260K/tok512.model");
  deviations.clear();
  load_tokenizer(test_data() / "stories260K/tok512.model")->to_gguf(metadata, 512, deviations);
  EXPECT_FALSE(deviations.empty());  // it removes extra spaces
}

TEST(SentencePiece, FolderKeepsItsFilesAndAddedTokens) {
  TestFolder folder;
  const std::string model = train_sentencepiece(lines_of(small_text()), 300, "bpe");
  write_file(folder / "tokenizer.model", model);
  const std::string config = R"({"add_bos_token": false, "eos_token": "<|im_end|>", "chat_template": "{{ x }}", "added_tokens_decoder": {
    "300": {"content": "<|im_end|>", "special": true}, "301": {"content": "<tool>", "special": false}}})";
  write_file(folder / "tokenizer_config.json", config);
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->size(), 302);
  EXPECT_FALSE(tokenizer->add_bos());
  EXPECT_EQ(tokenizer->eos(), 300);
  EXPECT_EQ(tokenizer->chat_template(), "{{ x }}");
  EXPECT_EQ(tokenizer->encode("<tool>"), std::vector<int32_t>{301});
  EXPECT_NE(tokenizer->encode("<|im_end|>"), std::vector<int32_t>{300});
  EXPECT_EQ(tokenizer->encode("<|im_end|>", true), std::vector<int32_t>{300});
  EXPECT_EQ(tokenizer->decode({301, 300}), "<tool>");
  const auto files = tokenizer->files();
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].content, model);
  EXPECT_EQ(files[1].content, config);
  write_file(folder / "tokenizer_config.json", R"({"added_tokens_decoder": {"5": {"content": "other"}}})");
  EXPECT_THROW(load_tokenizer(folder.path()), Error);
}

TEST(SentencePiece, ThreadsShareOneTokenizer) {
  const auto tokenizer = sentencepiece_tokenizer(train_sentencepiece(lines_of(small_text()), 300, "bpe"), std::string(), "trained");
  const auto expected = tokenizer->encode("the order was delivered late please refund");
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) wrong += tokenizer->encode("the order was delivered late please refund") != expected;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(LoadTokenizer, SaysWhatIsMissing) {
  TestFolder folder;
  EXPECT_THROW(load_tokenizer(folder / "nothing"), Error);
  EXPECT_THROW(load_tokenizer(folder.path()), Error);
  EXPECT_FALSE(has_tokenizer(folder.path()));
  write_file(folder / "tokenizer.model", "broken");
  EXPECT_TRUE(has_tokenizer(folder.path()));
  EXPECT_THROW(load_tokenizer(folder.path()), Error);
  write_file(folder / "x.gguf", "GGUF");
  EXPECT_THROW(load_tokenizer(folder / "x.gguf"), Error);
  EXPECT_FALSE(has_tokenizer(folder / "x.gguf"));
}

TEST(CompleteUtf8, KeepsBackWhatIsNotWhole) {
  std::string bytes = "ab\xE2\x96";
  EXPECT_EQ(complete_utf8(bytes), "ab");
  bytes += "\x81 ";
  EXPECT_EQ(complete_utf8(bytes), "\xE2\x96\x81 ");
  EXPECT_EQ(bytes, "");
  bytes = "\xF0\x9F\x9A";
  EXPECT_EQ(complete_utf8(bytes), "");
  bytes += "\x80";
  EXPECT_EQ(complete_utf8(bytes), "\xF0\x9F\x9A\x80");
  bytes = "\x80\x80\x80\x80";  // never becomes whole: let through
  EXPECT_EQ(complete_utf8(bytes), "\x80\x80\x80\x80");
}

}  // namespace
}  // namespace attar
