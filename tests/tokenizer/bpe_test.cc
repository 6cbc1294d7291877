#include "tokenizer/bpe.h"

#include <algorithm>
#include <random>

#include "base/check.h"
#include "base/files.h"
#include "base/utf8.h"
#include "data_path.h"
#include "tokenizer/gguf_vocab.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_rules.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace attar {
namespace {

/// A vocabulary of all short words over a, b, c with merges in random order.
BpeModel abc_model(uint32_t seed, bool ignore_merges = false) {
  std::vector<std::string> tokens;
  for (const auto& letter : byte_alphabet()) tokens.push_back(letter);
  std::vector<std::pair<std::string, std::string>> merges;
  std::mt19937 random(seed);
  std::vector<std::string> words = {"a", "b", "c"};
  for (int i = 0; i < 60; ++i) {
    const std::string left = words[random() % words.size()], right = words[random() % words.size()];
    if (std::find(merges.begin(), merges.end(), std::pair(left, right)) != merges.end()) continue;
    merges.emplace_back(left, right);
    if (std::find(words.begin(), words.end(), left + right) == words.end()) {
      words.push_back(left + right);
      tokens.push_back(left + right);
    }
  }
  return BpeModel(tokens, merges, {.byte_level = true, .ignore_merges = ignore_merges}, false, "abc");
}

/// The definition: again and again, join the first pair of the lowest rank.
std::vector<int32_t> by_definition(const BpeModel& model, const std::vector<std::pair<std::string, std::string>>& merges, const std::string& word) {
  std::vector<std::string> parts;
  for (const char character : word) parts.emplace_back(1, character);
  for (;;) {
    size_t best = merges.size(), at = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i)
      for (size_t rank = 0; rank < best; ++rank)
        if (merges[rank].first == parts[i] && merges[rank].second == parts[i + 1]) {
          best = rank;
          at = i;
        }
    if (best == merges.size()) break;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<int64_t>(at) + 1);
  }
  std::vector<int32_t> out;
  for (const std::string& part : parts) out.push_back(model.find(part));
  return out;
}

TEST(Bpe, ShortAndLongWordsFollowTheDefinition) {
  std::vector<std::string> tokens;
  for (const auto& letter : byte_alphabet()) tokens.push_back(letter);
  const std::vector<std::pair<std::string, std::string>> merges = {{"b", "a"}, {"a", "a"}, {"a", "b"}, {"aa", "a"}, {"ab", "c"}, {"a", "aa"},
                                                                   {"c", "c"}, {"cc", "cc"}, {"ba", "ba"}, {"aa", "aa"}};
  for (const char* token : {"ba", "aa", "ab", "aaa", "abc", "cc", "cccc", "baba", "aaaa"}) tokens.push_back(token);
  const BpeModel model(tokens, merges, {.byte_level = true}, false, "test");
  std::mt19937 random(5);
  for (int round = 0; round < 400; ++round) {
    std::string word;
    const size_t size = 1 + random() % 90;
    for (size_t i = 0; i < size; ++i) word += "aabc"[random() % 4];
    std::vector<int32_t> ids;
    model.encode(word, ids);
    ASSERT_EQ(ids, by_definition(model, merges, word)) << word;
    ids.clear();
    model.encode(word, ids);  // from the cache
    ASSERT_EQ(ids, by_definition(model, merges, word)) << word;
  }
}

TEST(Bpe, ModelsDoNotShareTheirCaches) {
  const BpeModel one = abc_model(1), two = abc_model(2);
  std::vector<int32_t> first, second, again;
  one.encode("abcabcaabbcc", first);
  two.encode("abcabcaabbcc", second);
  one.encode("abcabcaabbcc", again);
  EXPECT_EQ(first, again);
  EXPECT_NE(first, second);
}

TEST(Bpe, MillionLetterWord) {
  const BpeModel model = abc_model(3);
  std::string word;
  std::mt19937 random(1);
  for (int i = 0; i < 1000000; ++i) word += "abc"[random() % 3];
  std::vector<int32_t> ids;
  model.encode(word, ids);
  std::string text;
  for (const int32_t id : ids) text += model.vocabulary()[id];
  EXPECT_EQ(text, word);
  EXPECT_LT(ids.size(), word.size());
}

TEST(Bpe, IgnoreMergesTakesWholeWords) {
  std::vector<std::string> tokens(byte_alphabet().begin(), byte_alphabet().end());
  tokens.push_back("abc");
  const int32_t whole = static_cast<int32_t>(tokens.size()) - 1;
  std::vector<int32_t> ids;
  BpeModel(tokens, {}, {.byte_level = true, .ignore_merges = true}, false, "t").encode("abc", ids);
  EXPECT_EQ(ids, std::vector<int32_t>{whole});
  ids.clear();
  BpeModel(tokens, {}, {.byte_level = true}, false, "t").encode("abc", ids);
  EXPECT_EQ(ids.size(), 3u);
}

TEST(Bpe, RefusesMergesWithoutTokens) {
  std::vector<std::string> tokens(byte_alphabet().begin(), byte_alphabet().end());
  EXPECT_THROW(BpeModel(tokens, {{"a", "b"}}, {.byte_level = true}, false, "t"), Error);
  EXPECT_THROW(BpeModel(tokens, {{"zz", "b"}}, {.byte_level = true}, false, "t"), Error);
}

TEST(ByteAlphabet, IsGpt2s) {
  EXPECT_EQ(byte_alphabet()[' '], "\xC4\xA0");
  EXPECT_EQ(byte_alphabet()['\n'], "\xC4\x8A");
  EXPECT_EQ(byte_alphabet()['A'], "A");
  EXPECT_EQ(byte_alphabet()[0xAD], "\xC5\x83");
  std::string all, spelled, bytes;
  for (int byte = 0; byte < 256; ++byte) {
    all += static_cast<char>(byte);
    spelled += byte_alphabet()[byte];
  }
  EXPECT_TRUE(from_byte_alphabet(spelled, bytes));
  EXPECT_EQ(bytes, all);
  EXPECT_FALSE(from_byte_alphabet("a b", bytes));
  EXPECT_FALSE(from_byte_alphabet("\xE2\x96\x81", bytes));
}

std::vector<std::string> words_of(const PreTokenizer& pre, const std::string& text) {
  std::string storage;
  std::vector<std::string_view> words;
  pre.split(text, true, storage, words);
  return {words.begin(), words.end()};
}

TEST(PreTokenizer, CutsAsPublished) {
  using Words = std::vector<std::string>;
  const PreTokenizer gpt2 = PreTokenizer::isolating(pre_rule("gpt-2", "t").patterns);
  EXPECT_EQ(words_of(gpt2, "I'm 123  ok\n\n x"), (Words{"I", "'m", " 123", " ", " ok", "\n\n", " x"}));
  const PreTokenizer llama3 = PreTokenizer::isolating(pre_rule("llama-bpe", "t").patterns);
  EXPECT_EQ(words_of(llama3, "I'M 12345  ok!\n\n x"), (Words{"I", "'M", " ", "123", "45", " ", " ok", "!\n\n", " x"}));
  const PreTokenizer qwen2 = PreTokenizer::isolating(pre_rule("qwen2", "t").patterns);
  EXPECT_EQ(words_of(qwen2, "a12"), (Words{"a", "1", "2"}));
  EXPECT_EQ(words_of(PreTokenizer(), "a b"), (Words{"a b"}));
}

TEST(PreTokenizer, Behaviors) {
  using Words = std::vector<std::string>;
  const auto split = [](const char* behavior, bool invert = false) {
    return PreTokenizer(Json{{"type", "Split"}, {"pattern", {{"String", "-"}}}, {"behavior", behavior}, {"invert", invert}}, "t");
  };
  const std::string text = "the-final--countdown";
  EXPECT_EQ(words_of(split("Isolated"), text), (Words{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(words_of(split("Removed"), text), (Words{"the", "final", "countdown"}));
  EXPECT_EQ(words_of(split("MergedWithPrevious"), text), (Words{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(words_of(split("MergedWithNext"), text), (Words{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(words_of(split("Contiguous"), text), (Words{"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(words_of(split("Removed", true), text), (Words{"-", "-", "-"}));
  EXPECT_THROW(split("Sideways"), Error);
  EXPECT_THROW(PreTokenizer(Json{{"type", "BertPreTokenizer"}}, "t"), Error);
  EXPECT_THROW(PreTokenizer(Json{{"type", "Split"}, {"pattern", {{"Regex", "("}}}, {"behavior", "Isolated"}}, "t"), Error);
}

TEST(PreTokenizer, WhiteSpaceIsUnicodes) {
  // U+180E has not been white space since Unicode 6.3, U+0085 is.
  const Regex space("\\s", "t");
  Regex::Match match{};
  EXPECT_TRUE(space.find("\xC2\x85", 0, match));
  EXPECT_TRUE(space.find("\xE3\x80\x80", 0, match));
  EXPECT_FALSE(space.find("\xE1\xA0\x8E", 0, match));
  EXPECT_FALSE(Regex("[^\\s]", "t").find("\xC2\x85 \t", 0, match));
  EXPECT_TRUE(Regex(Regex::escape("a.b*[c]"), "t").find("xa.b*[c]", 0, match));
  EXPECT_EQ(match.begin, 1u);
}

TEST(PreRules, UnknownNamesAreRefused) {
  EXPECT_THROW(pre_rule("llama-bpee", "t"), Error);
  EXPECT_EQ(pre_rule("starcoder", "t").family, "smollm");
  EXPECT_EQ(pre_rule("", "t").family, "default");
}

TEST(Normalizer, Forms) {
  const auto apply = [](const Json& json, const char* text) { return Normalizer(json, "t").apply(text); };
  EXPECT_EQ(apply({{"type", "NFC"}}, "e\xCC\x81"), "\xC3\xA9");
  EXPECT_EQ(apply({{"type", "NFD"}}, "\xC3\xA9"), "e\xCC\x81");
  EXPECT_EQ(apply({{"type", "NFKC"}}, "\xEF\xAC\x81"), "fi");
  EXPECT_EQ(apply({{"type", "Lowercase"}}, "\xC3\x89""A\xC4\xB0"), "\xC3\xA9""ai\xCC\x87");
  EXPECT_EQ(apply({{"type", "Prepend"}, {"prepend", "_"}}, ""), "");
  EXPECT_EQ(apply({{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", " "}}, "a   b  c d"), "a b c d");
  EXPECT_EQ(apply({{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}}, " \n a "), "a ");
  EXPECT_THROW(Normalizer(Json{{"type", "Precompiled"}}, "t"), Error);
}

TEST(ValidUtf8, EachBadByteOnce) {
  EXPECT_EQ(valid_utf8("caf\xE9 \xFF\xFE\xC3\xA9"), "caf\xEF\xBF\xBD \xEF\xBF\xBD\xEF\xBF\xBD\xC3\xA9");
  EXPECT_EQ(valid_utf8("plain"), "plain");
  EXPECT_TRUE(is_utf8(valid_utf8("\xE2\x96")));
}

}  // namespace
}  // namespace attar
