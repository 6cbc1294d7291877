#include "tokenizer/byte_bpe.h"

#include "base/check.h"
#include "base/utf8.h"
#include "tokenizer/bpe.h"
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/gguf_specials.h"
#include "tokenizer/pre_rules.h"
#include "tokenizer/vocabulary_tokenizer.h"

namespace attar {
namespace {

std::vector<std::pair<std::string, std::string>> split_merges(const std::vector<std::string>& merges, const std::string& name) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const std::string& merge : merges) {
    const size_t space = merge.find(' ', 1);
    if (space == std::string::npos) fail(str(name, ": tokenizer.ggml.merges[", out.size(), "]"), "two tokens with a space between",
        "'" + merge + "'");
    out.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return out;
}

class GgufBpeTokenizer final : public VocabularyTokenizer {
 public:
  GgufBpeTokenizer(GgufVocabulary vocabulary, const std::string& name)
      : VocabularyTokenizer(std::move(vocabulary)), rule_(pre_rule(vocabulary_.pre, name)), specials_(vocabulary_) {
    BpeModel::Options options{.byte_level = true, .ignore_merges = rule_.ignore_merges};
    model_ = BpeModel(vocabulary_.tokens, split_merges(vocabulary_.merges, name), options, true, name);
    pre_tokenizer_ = PreTokenizer::isolating(rule_.patterns);
  }

  std::vector<int32_t> encode(std::string_view given, bool specials) const override {
    std::vector<int32_t> out;
    std::string storage;
    std::vector<std::string_view> words;
    specials_.split(given, specials, [&](std::string_view part, int32_t id) {
      if (id >= 0) {
        out.push_back(id);
        return;
      }
      const std::string repaired = is_utf8(part) ? "" : valid_utf8(part);
      pre_tokenizer_.split(repaired.empty() ? part : repaired, false, storage, words);
      for (const std::string_view word : words) model_.encode(word, out);
    });
    return out;
  }

  std::string decode(const std::vector<int32_t>& ids) const override {
    std::string out, bytes;
    for (const int32_t id : ids) {
      const std::string text = piece(id);
      if (specials_.hidden(id)) continue;
      const bool plain = vocabulary_.types[id] == GgufVocabulary::kUserDefined || !from_byte_alphabet(text, bytes);
      out += plain ? text : bytes;
    }
    return out;
  }

  bool add_bos() const override { return vocabulary_.bos && vocabulary_.add_bos.value_or(rule_.add_bos); }
  std::string kind() const override { return "byte-level bpe"; }
  std::string fingerprint() const override { return byte_bpe_fingerprint(vocabulary_, rule_.family); }

  void to_gguf(GgufMetadata& metadata, int64_t vocab, std::vector<std::string>&) const override {
    GgufVocabulary out = vocabulary_;
    out.add_bos = add_bos();
    out.add_eos = out.add_eos.value_or(false);
    write_gguf_vocabulary(out, vocab, metadata);
  }

  std::vector<TokenizerFile> files() const override {
    Json added = Json::array(), steps = Json::array(), vocab = Json::object(), merges = Json::array();
    auto& entries = vocab.get_ref<Json::object_t&>();
    for (int32_t id = 0; id < size(); ++id) {
      const int32_t type = vocabulary_.types[id];
      if (type == GgufVocabulary::kUnused && vocabulary_.tokens[id] == str("[PAD", id, "]")) continue;
      if (type != GgufVocabulary::kNormal)
        added.push_back({{"id", id}, {"content", vocabulary_.tokens[id]}, {"single_word", false}, {"lstrip", false}, {"rstrip", false},
                         {"normalized", false}, {"special", type != GgufVocabulary::kUserDefined}});
      entries.push_back({vocabulary_.tokens[id], id});
    }
    for (const std::string& pattern : rule_.patterns)
      steps.push_back({{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
    steps.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}});
    for (const std::string& merge : vocabulary_.merges) merges.push_back(merge);
    const Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
    const Json json = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", std::move(added)}, {"normalizer", nullptr},
                       {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}}}, {"post_processor", post_processor(byte_level)},
                       {"decoder", byte_level},
                       {"model", {{"type", "BPE"}, {"dropout", nullptr}, {"unk_token", nullptr}, {"continuing_subword_prefix", nullptr},
                                  {"end_of_word_suffix", nullptr}, {"fuse_unk", false}, {"byte_fallback", false},
                                  {"ignore_merges", rule_.ignore_merges}, {"vocab", std::move(vocab)}, {"merges", std::move(merges)}}}};
    const auto text = [&](std::optional<int32_t> id) { return id ? Json(vocabulary_.tokens[*id]) : Json(nullptr); };
    Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"add_bos_token", add_bos()}, {"bos_token", text(bos())}, {"eos_token",
        text(eos())},
                   {"pad_token", text(pad())}, {"clean_up_tokenization_spaces", false}};
    if (const Json chat = chat_templates_json({vocabulary_.chat_template, vocabulary_.chat_templates}); !chat.is_null())
      config["chat_template"] = chat;
    return {{"tokenizer.json", json.dump(1) + "\n"}, {"tokenizer_config.json", config.dump(2) + "\n"}};
  }

 private:
  int32_t token_of(const std::string& text) const override { return model_.find(text); }

  Json post_processor(const Json& byte_level) const {
    if (!add_bos()) return byte_level;
    const std::string bos = vocabulary_.tokens[*vocabulary_.bos];
    const auto special = Json{{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
    const auto sequence = [](const char* id) { return Json{{"Sequence", {{"id", id}, {"type_id", 0}}}}; };
    return {{"type", "TemplateProcessing"},
            {"single", Json::array({special, sequence("A")})},
            {"pair", Json::array({special, sequence("A"), special, sequence("B")})},
            {"special_tokens", {{bos, {{"id", bos}, {"ids", Json::array({*vocabulary_.bos})}, {"tokens", Json::array({bos})}}}}}};
  }

  const PreRule& rule_;
  GgufSpecials specials_;
  BpeModel model_;
  PreTokenizer pre_tokenizer_;
};

}  // namespace

std::shared_ptr<const Tokenizer> byte_bpe_from_gguf(GgufVocabulary vocabulary, const std::string& name) {
  return std::make_shared<GgufBpeTokenizer>(std::move(vocabulary), name);
}

}  // namespace attar
