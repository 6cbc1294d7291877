#include <sstream>

#include "base/check.h"
#include "base/files.h"
#include "base/json.h"
#include "data_path.h"
#include "formats/gguf.h"
#include "tokenizer/gguf_vocab.h"
#include "tokenizer/tokenizer.h"

namespace attar {
namespace {

fs::path tokenizers() { return test_data() / "tokenizers"; }

/// llama.cpp's own lists: texts and the ids they must give.
void check_pairs(const std::string& name) {
  const fs::path file = tokenizers() / "vocab-tests" / ("ggml-vocab-" + name + ".gguf");
  const auto tokenizer = load_tokenizer(file);
  const std::string input = read_file(file.string() + ".inp"), output = read_file(file.string() + ".out");
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::istringstream lines(output);
  int count = 0;
  for (size_t at = 0; at <= input.size(); ++count) {
    const size_t end = std::min(input.find(separator, at), input.size());
    std::string line;
    if (!std::getline(lines, line)) break;
    std::istringstream numbers(line);
    std::vector<int32_t> expected;
    for (int32_t id; numbers >> id;) expected.push_back(id);
    EXPECT_EQ(tokenizer->encode(input.substr(at, end - at)), expected) << name << ": text " << count;
    at = end + separator.size();
  }
  EXPECT_GE(count, 46);
}

TEST(VocabTests, Gpt2) {
  ATTAR_NEED_DATA("tokenizers/vocab-tests/ggml-vocab-gpt-2.gguf");
  check_pairs("gpt-2");
}
TEST(VocabTests, LlamaSpm) {
  ATTAR_NEED_DATA("tokenizers/vocab-tests/ggml-vocab-llama-spm.gguf");
  check_pairs("llama-spm");
}
TEST(VocabTests, Phi3) {
  ATTAR_NEED_DATA("tokenizers/vocab-tests/ggml-vocab-phi-3.gguf");
  check_pairs("phi-3");
}

/// The texts that llama.cpp lists for its vocabularies: enough traps for a round trip.
std::vector<std::string> listed_texts() {
  const std::string input = read_file(tokenizers() / "vocab-tests/ggml-vocab-llama-bpe.gguf.inp"), separator = "\n__ggml_vocab_test__\n";
  std::vector<std::string> out;
  for (size_t at = 0; at <= input.size();) {
    const size_t end = std::min(input.find(separator, at), input.size());
    out.push_back(input.substr(at, end - at));
    at = end + separator.size();
  }
  return out;
}

TEST(TokenizerFiles, EveryOneGivesItsTextBack) {
  ATTAR_NEED_DATA("tokenizers/vocab-tests/ggml-vocab-llama-bpe.gguf.inp");
  for (const char* name : {"gpt2", "phi-2", "llama2", "llama2/tokenizer.json", "vocab-tests/ggml-vocab-gpt-2.gguf",
      "vocab-tests/ggml-vocab-llama-spm.gguf"}) {
    const auto tokenizer = load_tokenizer(tokenizers() / name);
    for (const std::string& text : listed_texts()) EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text) << name;
  }
}

TEST(TokenizerFiles, Gpt2IsOneTokenizerWhateverFile) {
  ATTAR_NEED_DATA("tokenizers/gpt2/vocab.json");
  const auto folder = load_tokenizer(tokenizers() / "gpt2"), file = load_tokenizer(tokenizers() / "vocab-tests/ggml-vocab-gpt-2.gguf");
  EXPECT_EQ(folder->fingerprint(), file->fingerprint());
  EXPECT_EQ(folder->kind(), "byte-level bpe");
  EXPECT_EQ(folder->encode("Hello world"), (std::vector<int32_t>{15496, 995}));
  EXPECT_EQ(folder->encode("<|endoftext|>", true), std::vector<int32_t>{50256});
  EXPECT_NE(folder->encode("<|endoftext|>"), std::vector<int32_t>{50256});
  EXPECT_FALSE(folder->add_bos());
}

TEST(TokenizerFiles, Llama2JsonGivesTheModelsIds) {
  ATTAR_NEED_DATA("tokenizers/llama2/tokenizer.json");
  const auto json = load_tokenizer(tokenizers() / "llama2/tokenizer.json"), model = load_tokenizer(tokenizers() / "llama2/tokenizer.model");
  EXPECT_EQ(json->kind(), "sentencepiece-style bpe");
  EXPECT_EQ(json->bos(), 1);
  EXPECT_TRUE(json->add_bos());
  for (const std::string& text : listed_texts()) EXPECT_EQ(json->encode(text), model->encode(text)) << text;
}

TEST(TokenizerFiles, Phi2SpacesAreAddedTokens) {
  ATTAR_NEED_DATA("tokenizers/phi-2/tokenizer.json");
  const auto tokenizer = load_tokenizer(tokenizers() / "phi-2");
  EXPECT_EQ(tokenizer->size(), 50295);
  EXPECT_EQ(tokenizer->encode(std::string(31, ' ')), std::vector<int32_t>{50257});
  EXPECT_EQ(tokenizer->encode("a" + std::string(31, ' ') + "b").size(), 3u);
}

TEST(TokenizerFiles, GgufOfEachGivesTheSameIds) {
  ATTAR_NEED_DATA("tokenizers/phi-2/tokenizer.json");
  for (const char* name : {"gpt2", "phi-2", "llama2", "llama2/tokenizer.json"}) {
    const auto tokenizer = load_tokenizer(tokenizers() / name);
    GgufMetadata metadata;
    std::vector<std::string> deviations;
    tokenizer->to_gguf(metadata, tokenizer->size() + 5, deviations);
    EXPECT_TRUE(deviations.empty()) << name << ": " << deviations[0];
    const auto reader = gguf_tokenizer(read_gguf_vocabulary(metadata, name), name);
    EXPECT_EQ(reader->size(), tokenizer->size() + 5);
    EXPECT_EQ(reader->add_bos(), tokenizer->add_bos());
    for (const std::string& text : listed_texts()) {
      EXPECT_EQ(reader->encode(text), tokenizer->encode(text)) << name << ": " << text;
      EXPECT_EQ(reader->encode(text, true), tokenizer->encode(text, true)) << name << ": " << text;
    }
  }
}

TEST(TokenizerFiles, GgufTokenizersWriteAFolderOfTheSameIds) {
  ATTAR_NEED_DATA("tokenizers/vocab-tests/ggml-vocab-phi-3.gguf");
  for (const char* name : {"gpt-2", "llama-spm", "phi-3"}) {
    const auto reader = load_tokenizer(tokenizers() / ("vocab-tests/ggml-vocab-" + std::string(name) + ".gguf"));
    TestFolder folder;
    for (const TokenizerFile& file : reader->files()) write_file(folder / file.name, file.content);
    const auto again = load_tokenizer(folder.path());
    for (const std::string& text : listed_texts()) EXPECT_EQ(again->encode(text), reader->encode(text)) << name << ": " << text;
    EXPECT_EQ(again->fingerprint(), reader->fingerprint()) << name;
    EXPECT_EQ(again->chat_template(), reader->chat_template());
    EXPECT_EQ(again->bos(), reader->bos());
    EXPECT_EQ(again->eos(), reader->eos());
  }
}

GgufMetadata tiny_metadata() {
  GgufMetadata metadata;
  metadata.set("tokenizer.ggml.model", std::string("llama"));
  metadata.set("tokenizer.ggml.tokens", std::vector<std::string>{"<unk>", "<s>", "</s>", "a"});
  metadata.set("tokenizer.ggml.scores", std::vector<float>{0, 0, 0, -1});
  metadata.set("tokenizer.ggml.token_type", std::vector<int32_t>{2, 3, 3, 1});
  return metadata;
}

TEST(GgufVocab, RefusesWhatDoesNotFit) {
  EXPECT_NO_THROW(gguf_tokenizer(read_gguf_vocabulary(tiny_metadata(), "t"), "t"));
  EXPECT_THROW(read_gguf_vocabulary(GgufMetadata(), "t"), Error);
  const auto changed = [](const std::string& key, GgufValue value) {
    GgufMetadata metadata = tiny_metadata();
    metadata.set(key, std::move(value));
    return gguf_tokenizer(read_gguf_vocabulary(metadata, "t"), "t");
  };
  EXPECT_THROW(changed("tokenizer.ggml.scores", std::vector<float>{0}), Error);
  EXPECT_THROW(changed("tokenizer.ggml.token_type", std::vector<int32_t>{1}), Error);
  EXPECT_THROW(changed("tokenizer.ggml.bos_token_id", uint32_t{4}), Error);
  EXPECT_THROW(changed("tokenizer.ggml.model", std::string("bert")), Error);
  EXPECT_THROW(changed("tokenizer.ggml.model", std::string("gpt2")), Error);
  EXPECT_THROW(changed("tokenizer.ggml.tokens", std::vector<float>{0}), Error);
}

TEST(GgufVocab, TokensMustBeUnique) {
  GgufVocabulary vocabulary = read_gguf_vocabulary(tiny_metadata(), "t");
  vocabulary.tokens[2] = "a";
  GgufMetadata out;
  EXPECT_THROW(write_gguf_vocabulary(vocabulary, 4, out), Error);
}

Json tiny_json() {
  return {{"added_tokens", Json::array()}, {"normalizer", nullptr}, {"pre_tokenizer", nullptr}, {"decoder", nullptr},
          {"model", {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}}}, {"merges", Json::array({"a b"})}}}};
}

TEST(TokenizerJson, RefusesByName) {
  TestFolder folder;
  const auto load = [&](const Json& json) {
    write_file(folder / "tokenizer.json", json.dump());
    return load_tokenizer(folder.path());
  };
  EXPECT_EQ(load(tiny_json())->encode("abba"), (std::vector<int32_t>{2, 1, 0}));
  const auto refuses = [&](const char* pointer, const Json& value, const std::string& word) {
    Json json = tiny_json();
    json[Json::json_pointer(pointer)] = value;
    try {
      load(json);
      ADD_FAILURE() << pointer << " was taken";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  };
  refuses("/model/type", "WordPiece", "WordPiece");
  refuses("/model/merges", Json::array({"a c"}), "merge rule 0");
  refuses("/model/merges", Json::array({"ab"}), "merge rule 0");
  refuses("/model/merges", Json::array({Json::array({"a"})}), "merge rule 0");
  refuses("/model/vocab/a", 2, "id 2");
  refuses("/model/vocab/a", 2000000000, "2000000000");
  refuses("/model/vocab/a", "x", "vocab");
  refuses("/model/dropout", 0.1, "dropout");
  refuses("/model/end_of_word_suffix", "</w>", "end_of_word_suffix");
  refuses("/normalizer", Json{{"type", "BertNormalizer"}}, "BertNormalizer");
  refuses("/pre_tokenizer", Json{{"type", "BertPreTokenizer"}}, "BertPreTokenizer");
  refuses("/decoder", Json{{"type", "CTC"}}, "CTC");
  refuses("/added_tokens", Json::array({{{"id", -1}, {"content", "x"}}}), "id");
  EXPECT_THROW(load(Json::array()), Error);
  write_file(folder / "tokenizer.json", "{\"model\": ");
  EXPECT_THROW(load_tokenizer(folder.path()), Error);
}

TEST(TokenizerJson, UnknownPreTokenizerIsNotExported) {
  TestFolder folder;
  Json json = tiny_json();
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", Json::array({{{"type", "Split"}, {"pattern", {{"Regex", "[a-z]+x"}}},
      {"behavior", "Isolated"}},
                                                                                 {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex",
                                                                                     false}}})}};
  write_file(folder / "tokenizer.json", json.dump());
  GgufMetadata metadata;
  std::vector<std::string> deviations;
  EXPECT_THROW(load_tokenizer(folder.path())->to_gguf(metadata, 3, deviations), Error);
}

}  // namespace
}  // namespace attar
