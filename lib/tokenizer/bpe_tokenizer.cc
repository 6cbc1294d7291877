#include "tokenizer/bpe_tokenizer.h"

#include <algorithm>

#include "base/check.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "tokenizer/pre_rules.h"
#include "tokenizer/spm_bpe.h"
#include "tokenizer/unigram_words.h"

namespace attar {
namespace {

const std::string kSpmMark = "\xE2\x96\x81";


class BpeTokenizer final : public Tokenizer {
 public:
  BpeTokenizer(BpeParts parts, const std::string& name) : parts_(std::move(parts)) {
    std::vector<AddedToken> raw, normal;
    for (const AddedToken& token : parts_.added) {
      if (token.normalized && !parts_.normalizer.empty()) {
        AddedToken mapped = token;
        mapped.content = parts_.normalizer.apply(token.content);
        normal.push_back(std::move(mapped));
      } else {
        raw.push_back(token);
      }
    }
    raw_ = AddedMatcher(std::move(raw));
    normal_ = AddedMatcher(std::move(normal));
    model_ = BpeModel(parts_.vocabulary, parts_.merges, parts_.options, false, name);
    if (parts_.unigram) unigram_ = std::make_unique<const UnigramWords>(parts_.vocabulary, *parts_.unigram, name);
    special_.resize(parts_.vocabulary.size());
    for (const AddedToken& token : parts_.added) special_[token.id] = token.special;
    bos_ = id_in_config("bos_token");
    if (!bos_) bos_ = parts_.first;
    eos_ = id_in_config("eos_token");
    if (!eos_) eos_ = parts_.last;
    if (!eos_ && parts_.added.size() == 1) eos_ = parts_.added[0].id;
    if (!bos_ && parts_.added.size() == 1) bos_ = parts_.added[0].id;
    pad_ = id_in_config("pad_token");
    const Json& config = parts_.config;
    const bool said = config.contains("add_bos_token") && config.at("add_bos_token").is_boolean();
    add_eos_ = eos_ && parts_.last == eos_;
    add_bos_ = bos_ && (said ? config.at("add_bos_token").get<bool>() : parts_.first == bos_);
  }

  std::vector<int32_t> encode(std::string_view given, bool specials) const override {
    std::string repaired;
    if (!is_utf8(given)) {
      repaired = valid_utf8(given);
      given = repaired;
    }
    std::vector<int32_t> out;
    std::string storage, normalized;
    std::vector<std::string_view> words;
    const auto encode_text = [&](std::string_view text, bool at_start) {
      parts_.pre_tokenizer.split(text, at_start, storage, words);
      for (const std::string_view word : words)
        if (unigram_) unigram_->encode(word, out);
        else model_.encode(word, out);
    };
    raw_.split(given, specials, [&](std::string_view part, const AddedToken* token) {
      if (token) {
        out.push_back(token->id);
        return;
      }
      bool at_start = part.data() == given.data(), cut_front = false;
      if (parts_.normalizer.empty()) return encode_text(part, at_start);
      normalized = parts_.normalizer.apply(part, &cut_front);
      at_start = at_start && !cut_front;
      if (normal_.empty()) return encode_text(normalized, at_start);
      normal_.split(normalized, specials, [&](std::string_view text, const AddedToken* found) {
        if (found) out.push_back(found->id);
        else encode_text(text, at_start && text.data() == normalized.data());
      });
    });
    return out;
  }

  std::string decode(const std::vector<int32_t>& ids) const override {
    std::vector<std::string> tokens;
    for (const int32_t id : ids) {
      std::string text = piece(id);
      if (!special_[id]) tokens.push_back(std::move(text));
    }
    return parts_.decoder.decode(std::move(tokens));
  }

  int64_t size() const override { return static_cast<int64_t>(parts_.vocabulary.size()); }
  std::string piece(int32_t id) const override {
    if (id < 0 || id >= size()) fail("token id", str("0 to ", size() - 1), str(id));
    return parts_.vocabulary[id];
  }
  std::optional<int32_t> id_of(const std::string& piece) const override {
    const int32_t id = model_.find(piece);
    return id < 0 ? std::nullopt : std::optional(id);
  }
  std::optional<int32_t> bos() const override { return bos_; }
  std::optional<int32_t> eos() const override { return eos_; }
  std::optional<int32_t> pad() const override { return pad_; }
  bool add_bos() const override { return add_bos_; }
  bool add_eos() const override { return add_eos_; }
  std::vector<TokenizerFile> files() const override { return parts_.files; }
  std::string kind() const override { return parts_.unigram ? "unigram" : parts_.options.byte_level ? "byte-level bpe" : "sentencepiece-style bpe"; }
  std::string chat_template() const override { return parts_.chat_template; }

  std::string fingerprint() const override {
    std::vector<std::string> ignored;
    const auto pre = parts_.normalizer.empty() ? pre_of(parts_.pre_tokenizer, parts_.options.ignore_merges, ignored) : std::nullopt;
    std::string rules = pre ? *pre : parts_.rules;
    if (parts_.unigram)
      for (const double score : parts_.unigram->scores) rules += str(' ', to_line(Json(score)));
    return byte_bpe_fingerprint(byte_level_vocabulary(), rules);
  }

  void to_gguf(GgufMetadata& metadata, int64_t vocab, std::vector<std::string>& deviations) const override {
    if (parts_.unigram)
      fail("writing the tokenizer to GGUF", "byte-level or SentencePiece-style BPE, or a SentencePiece model", "a unigram tokenizer.json",
           "GGUF readers normalize its text in another way; use the tokenizer.model that it was made from");
    if (parts_.options.byte_level) byte_level_to_gguf(metadata, vocab, deviations);
    else spm_to_gguf(metadata, vocab, deviations);
  }

 private:
  /// The normalizer is NFC and nothing else: it leaves text alone as it is commonly written.
  bool only_composes() const {
    const auto& steps = parts_.normalizer.steps();
    return !steps.empty() && std::all_of(steps.begin(), steps.end(), [](const auto& step) { return step.kind == Normalizer::Step::Kind::nfc; });
  }

  std::optional<int32_t> id_in_config(const char* key) const {
    const std::string text = special_text(parts_.config, key);
    return text.empty() ? std::nullopt : id_of(text);
  }

  void common_vocabulary(GgufVocabulary& out) const {
    out.tokens = parts_.vocabulary;
    out.types.assign(out.tokens.size(), GgufVocabulary::kNormal);
    for (size_t id = 0; id < out.tokens.size(); ++id)
      if (out.tokens[id].empty()) {
        out.tokens[id] = str("[PAD", id, "]");
        out.types[id] = GgufVocabulary::kUnused;
      }
    for (const AddedToken& token : parts_.added) out.types[token.id] = token.special ? GgufVocabulary::kControl : GgufVocabulary::kUserDefined;
    out.bos = bos_;
    out.eos = eos_;
    out.pad = pad_;
    out.add_bos = add_bos_;
    out.add_eos = add_eos_;
    out.chat_template = parts_.chat_template;
    out.chat_templates = parts_.chat_templates;
  }

  GgufVocabulary byte_level_vocabulary() const {
    GgufVocabulary out;
    common_vocabulary(out);
    out.model = "gpt2";
    for (const auto& [left, right] : parts_.merges) {
      // A space would end the rule's first part: it is spelled as in the alphabet.
      std::string rule;
      for (const std::string* half : {&left, &right}) {
        if (!rule.empty()) rule += ' ';
        for (const char character : *half)
          if (character == ' ') rule += byte_alphabet()[' '];
          else rule += character;
      }
      out.merges.push_back(std::move(rule));
    }
    return out;
  }

  void added_deviations(std::vector<std::string>& deviations) const {
    for (const AddedToken& token : parts_.added)
      if (!token.special && (token.lstrip || token.rstrip || token.single_word)) {
        deviations.push_back("added token '" + token.content + "': GGUF readers find it everywhere and leave the spaces around it");
        break;
      }
  }

  void byte_level_to_gguf(GgufMetadata& metadata, int64_t vocab, std::vector<std::string>& deviations) const {
    GgufVocabulary out = byte_level_vocabulary();
    const auto pre = pre_of(parts_.pre_tokenizer, parts_.options.ignore_merges, deviations);
    if (!pre)
      fail("writing the tokenizer to GGUF", "a pre-tokenizer that GGUF readers know", parts_.rules.substr(0, 300),
           "a file with the wrong one would load and talk nonsense");
    out.pre = *pre;
    if (!parts_.normalizer.empty()) deviations.push_back(only_composes() ? kUncomposedDeviation : "normalizer: GGUF readers take text as it is");
    added_deviations(deviations);
    write_gguf_vocabulary(out, vocab, metadata);
  }

  /// A space before the text, and spaces as U+2581: by normalizer (Prepend, Replace) or pre-tokenizer (Metaspace).
  bool spm_prefix() const {
    using Normal = Normalizer::Step::Kind;
    bool prefix = false, replaces = false;
    for (const auto& step : parts_.normalizer.steps()) {
      if (step.kind == Normal::prepend && step.content == kSpmMark) prefix = true;
      else if (step.kind == Normal::replace && step.regex.empty() && step.pattern == " " && step.content == kSpmMark) replaces = true;
      else fail("writing the tokenizer to GGUF", "a normalizer of Prepend and Replace", parts_.rules.substr(0, 300));
    }
    for (const auto& step : parts_.pre_tokenizer.steps()) {
      if (step.kind != PreTokenizer::Step::Kind::metaspace || step.replacement != kSpmMark)
        fail("writing the tokenizer to GGUF", "no pre-tokenizer but Metaspace without a split", parts_.rules.substr(0, 300));
      replaces = true;
      prefix = prefix || step.prepend != PreTokenizer::Step::Prepend::never;
    }
    if (!replaces) fail("writing the tokenizer to GGUF", "spaces replaced by U+2581", parts_.rules.substr(0, 300));
    return prefix;
  }

  void spm_to_gguf(GgufMetadata& metadata, int64_t vocab, std::vector<std::string>& deviations) const {
    GgufVocabulary out;
    common_vocabulary(out);
    out.model = "llama";
    out.pre = "default";
    out.add_space_prefix = spm_prefix();
    if (!parts_.pre_tokenizer.steps().empty() && *out.add_space_prefix)
      deviations.push_back("Metaspace: GGUF readers put a space before texts that begin with one, too");
    if (!parts_.options.byte_fallback) fail("writing the tokenizer to GGUF", "byte fallback with all 256 byte tokens", "a vocabulary without");
    for (int byte = 0; byte < 256; ++byte) {
      const std::string piece = byte_piece(static_cast<uint8_t>(byte));
      const int32_t id = model_.find(piece);
      if (id < 0) fail("writing the tokenizer to GGUF", "byte fallback with all 256 byte tokens", "a vocabulary without " + piece);
      out.types[id] = GgufVocabulary::kByte;
    }
    // A reader joins by the product's score: the order of the merge rules as descending numbers.
    const std::vector<int32_t> ranks = model_.ranks();
    out.scores.assign(out.tokens.size(), -1000.0f);
    for (size_t id = 0; id < ranks.size(); ++id) {
      if (ranks[id] >= 0) out.scores[id] = -static_cast<float>(ranks[id]);
      if (out.types[id] == GgufVocabulary::kNormal && ranks[id] < 0) out.scores[id] = -static_cast<float>(parts_.merges.size());
      if (out.types[id] == GgufVocabulary::kUserDefined)
        for (size_t at; (at = out.tokens[id].find(kSpmMark)) != std::string::npos;) out.tokens[id].replace(at, kSpmMark.size(), " ");
    }
    if (parts_.merges.size() > (size_t{1} << 24)) fail("writing the tokenizer to GGUF", "at most 2^24 merge rules", str(parts_.merges.size()));
    if (parts_.options.unk >= 0) {
      out.unk = parts_.options.unk;
      out.types[parts_.options.unk] = GgufVocabulary::kUnknown;
    }
    spm_deviations(out, deviations);
    added_deviations(deviations);
    write_gguf_vocabulary(out, vocab, metadata);
  }

  BpeParts parts_;
  AddedMatcher raw_, normal_;
  BpeModel model_;
  std::vector<bool> special_;
  std::optional<int32_t> bos_, eos_, pad_;
  bool add_bos_ = false, add_eos_ = false;
  std::unique_ptr<const UnigramWords> unigram_;
};

}  // namespace

std::shared_ptr<const Tokenizer> bpe_tokenizer(BpeParts parts, const std::string& name) { return std::make_shared<BpeTokenizer>(std::move(parts),
    name); }

std::string byte_bpe_fingerprint(const GgufVocabulary& vocabulary, const std::string& rules) {
  size_t size = vocabulary.tokens.size();
  while (size > 0 && vocabulary.types[size - 1] == GgufVocabulary::kUnused && vocabulary.tokens[size - 1] == str("[PAD", size - 1, "]")) --size;
  Sha256 hash;
  hash.add(str("byte-bpe tokens ", size, " merges ", vocabulary.merges.size(), " rules ", rules, '\n'));
  for (size_t id = 0; id < size; ++id) hash.add(str(vocabulary.tokens[id].size(), ' ', vocabulary.types[id], ' ', vocabulary.tokens[id]));
  for (const std::string& merge : vocabulary.merges) hash.add(merge + '\n');
  return hash.hex();
}

}  // namespace attar
