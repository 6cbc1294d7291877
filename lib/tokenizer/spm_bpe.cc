#include "tokenizer/spm_bpe.h"

#include <algorithm>
#include <cstring>
#include <protozero/pbf_writer.hpp>
#include <queue>

#include "base/check.h"
#include "base/hash.h"
#include "formats/sentencepiece_model.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/gguf_specials.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/vocabulary_tokenizer.h"
#include "tokenizer/word_cache.h"

namespace attar {
namespace {

constexpr std::string_view kSpmSpace = "\xE2\x96\x81";

std::string escape_spaces(std::string_view text, bool prefix) {
  std::string out;
  out.reserve(text.size() + text.size() / 2 + 3);
  if (prefix) out += kSpmSpace;
  for (const char character : text)
    if (character == ' ') out += kSpmSpace;
    else out += character;
  return out;
}

std::string unescape_spaces(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    if (text.substr(at).starts_with(kSpmSpace)) {
      out += ' ';
      at += kSpmSpace.size();
    } else {
      out += text[at++];
    }
  }
  return out;
}

class SpmTokenizer final : public VocabularyTokenizer {
 public:
  SpmTokenizer(GgufVocabulary vocabulary, const std::string& name) : VocabularyTokenizer(std::move(vocabulary)) {
    if (vocabulary_.scores.size() != vocabulary_.tokens.size())
      fail(name + ": tokenizer.ggml.scores", "one per token", str(vocabulary_.scores.size()));
    vocabulary_.unk = vocabulary_.unk ? vocabulary_.unk : std::optional<int32_t>(0);
    const auto fallback = [&](std::optional<int32_t>& id, int32_t value) {
      if (!id && value < static_cast<int32_t>(vocabulary_.tokens.size())) id = value;
    };
    fallback(vocabulary_.bos, 1);
    fallback(vocabulary_.eos, 2);
    merger_ = SpmMerger(vocabulary_.tokens, vocabulary_.scores, *vocabulary_.unk);
    specials_ = GgufSpecials(vocabulary_);
  }

  std::vector<int32_t> encode(std::string_view text, bool specials) const override {
    std::vector<int32_t> out;
    bool after_special = true;
    specials_.split(text, specials, [&](std::string_view part, int32_t id) {
      if (id < 0) merger_.encode(escape_spaces(part, after_special && prefix()), out);
      else out.push_back(id);
      after_special = id >= 0;
    });
    return out;
  }

  std::string decode(const std::vector<int32_t>& ids) const override {
    std::string out;
    bool first = true;
    for (const int32_t id : ids) {
      std::string text = surface(id);
      if (first && prefix() && text.starts_with(' ')) text.erase(0, 1);
      first = false;
      out += text;
    }
    return out;
  }

  bool add_bos() const override { return vocabulary_.bos && vocabulary_.add_bos.value_or(true); }
  std::string kind() const override { return "sentencepiece bpe"; }
  std::string fingerprint() const override { return spm_fingerprint(vocabulary_); }

  std::vector<TokenizerFile> files() const override {
    const SentencePieceModel model = rebuilt();
    std::string config = plain_sentencepiece_config(model, add_bos());
    if (const Json chat = chat_templates_json({vocabulary_.chat_template, vocabulary_.chat_templates}); !chat.is_null()) {
      Json json = parse_json(config, "tokenizer_config.json");
      json["chat_template"] = chat;
      config = json.dump(2) + "\n";
    }
    return {{"tokenizer.model", write_sentencepiece(model)}, {"tokenizer_config.json", std::move(config)}, {"tokenizer.json",
        sentencepiece_as_json(model, add_bos())}};
  }

  void to_gguf(GgufMetadata& metadata, int64_t vocab, std::vector<std::string>&) const override {
    GgufVocabulary vocabulary = vocabulary_;
    vocabulary.add_bos = add_bos();
    vocabulary.add_eos = vocabulary.add_eos.value_or(false);
    vocabulary.add_space_prefix = prefix();
    if (vocabulary.pre.empty()) vocabulary.pre = "default";
    write_gguf_vocabulary(vocabulary, vocab, metadata);
  }

 private:
  int32_t token_of(const std::string& text) const override { return merger_.find(text); }
  bool prefix() const { return vocabulary_.add_space_prefix.value_or(true); }

  std::string surface(int32_t id) const {
    const std::string text = piece(id);
    if (specials_.hidden(id)) return "";
    switch (vocabulary_.types[id]) {
      case GgufVocabulary::kUserDefined: return text;
      case GgufVocabulary::kByte:
        if (text.size() == 6 && text.starts_with("<0x")) return std::string(1, static_cast<char>(std::strtol(text.substr(3, 2).c_str(), nullptr,
            16)));
        return text;
      default: return unescape_spaces(text);
    }
  }

  /// The SentencePiece model that this vocabulary was or could have been.
  SentencePieceModel rebuilt() const {
    SentencePieceModel model;
    for (size_t id = 0; id < vocabulary_.tokens.size(); ++id) {
      int32_t type = std::clamp<int32_t>(vocabulary_.types[id], 1, 6);
      const bool user = type == GgufVocabulary::kUserDefined;
      // A model has one unknown piece.
      if (type == GgufVocabulary::kUnknown && static_cast<int32_t>(id) != *vocabulary_.unk) type = GgufVocabulary::kControl;
      if (static_cast<int32_t>(id) == *vocabulary_.unk) type = GgufVocabulary::kUnknown;
      model.pieces.push_back({user ? escape_spaces(vocabulary_.tokens[id], false) : vocabulary_.tokens[id], vocabulary_.scores[id],
                              static_cast<SentencePieceModel::Type>(type)});
    }
    model.unk_id = *vocabulary_.unk;
    model.bos_id = vocabulary_.bos.value_or(-1);
    model.eos_id = vocabulary_.eos.value_or(-1);
    model.pad_id = vocabulary_.pad.value_or(-1);
    model.algorithm = SentencePieceModel::Algorithm::bpe;
    model.add_dummy_prefix = prefix();
    model.remove_extra_whitespaces = false;
    const auto bytes = std::count(vocabulary_.types.begin(), vocabulary_.types.end(), int32_t{GgufVocabulary::kByte});
    model.byte_fallback = bytes == 256;
    protozero::pbf_writer trainer(model.trainer_spec);
    trainer.add_enum(3, static_cast<int32_t>(SentencePieceModel::Algorithm::bpe));
    trainer.add_bool(35, model.byte_fallback);
    trainer.add_int32(40, model.unk_id);
    trainer.add_int32(41, model.bos_id);
    trainer.add_int32(42, model.eos_id);
    trainer.add_int32(43, model.pad_id);
    protozero::pbf_writer normalizer(model.normalizer_spec);
    normalizer.add_string(1, "identity");
    normalizer.add_bool(3, prefix());
    normalizer.add_bool(4, false);
    normalizer.add_bool(5, true);
    return model;
  }

  SpmMerger merger_;
  GgufSpecials specials_;
};

}  // namespace

size_t next_spm_word(std::string_view text, size_t at) {
  while (text.substr(at).starts_with(kSpmSpace)) at += kSpmSpace.size();
  return std::min(text.find(kSpmSpace, at), text.size());
}

std::string byte_piece(uint8_t byte) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  return {'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'};
}

SpmMerger::SpmMerger(const std::vector<std::string>& tokens, const std::vector<float>& scores, std::vector<int32_t> bytes)
    : scores_(&scores), bytes_(std::move(bytes)) {
  ids_.reserve(tokens.size() * 2);
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (tokens[id].empty()) continue;
    ids_.emplace(tokens[id], static_cast<int32_t>(id));
    longest_ = std::max(longest_, tokens[id].size());
  }
  serial_ = WordCache::new_serial();
  words_ = std::none_of(tokens.begin(), tokens.end(), [](const std::string& token) { return next_spm_word(token, 0) < token.size(); });
}

SpmMerger::SpmMerger(const std::vector<std::string>& tokens, const std::vector<float>& scores, int32_t unk)
    : SpmMerger(tokens, scores, std::vector<int32_t>(256, unk)) {
  for (int byte = 0; byte < 256; ++byte) {
    int32_t id = find(byte_piece(static_cast<uint8_t>(byte)));
    if (id < 0) id = find(std::string(1, static_cast<char>(byte)));
    if (id >= 0) bytes_[byte] = id;
  }
}

int32_t SpmMerger::find(std::string_view text) const {
  const auto found = ids_.find(text);
  return found == ids_.end() ? -1 : found->second;
}

void SpmMerger::encode(std::string_view text, std::vector<int32_t>& out) const {
  if (!words_) return encode_word(text, out);
  for (size_t at = 0, end = 0; at < text.size(); at = end) {
    end = next_spm_word(text, at);
    WordCache::encode(serial_, text.substr(at, end - at), out, [this](std::string_view word, std::vector<int32_t>& ids) { encode_word(word, ids); });
  }
}

void SpmMerger::encode_word(std::string_view text, std::vector<int32_t>& out) const {
  struct Symbol {
    uint32_t begin, size;  ///< size 0: joined into its left neighbour
    int32_t left, right;
  };
  struct Pair {
    float score;
    int32_t left, right;
    uint32_t size;  ///< of the joined text: a pair whose symbols changed since is stale
    bool operator<(const Pair& other) const { return score != other.score ? score < other.score : left > other.left; }
  };
  if (text.size() > UINT32_MAX / 2) fail("text to tokenize in one piece", "below 2 GiB", human_bytes(static_cast<double>(text.size())));
  std::vector<Symbol> symbols;
  symbols.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t size = std::min(text.size() - at, spm_character_bytes(static_cast<uint8_t>(text[at])));
    const auto index = static_cast<int32_t>(symbols.size());
    at += size;
    symbols.push_back({static_cast<uint32_t>(at - size), static_cast<uint32_t>(size), index - 1, at == text.size() ? -1 : index + 1});
  }
  std::vector<Pair> storage;
  storage.reserve(symbols.size());
  std::priority_queue<Pair> queue(std::less<Pair>(), std::move(storage));
  const auto consider = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0) return;
    const uint32_t size = symbols[left].size + symbols[right].size;
    if (size > longest_) return;
    const int32_t id = find(text.substr(symbols[left].begin, size));
    if (id >= 0) queue.push({(*scores_)[id], left, right, size});
  };
  for (size_t i = 1; i < symbols.size(); ++i) consider(static_cast<int32_t>(i) - 1, static_cast<int32_t>(i));
  while (!queue.empty()) {
    const Pair best = queue.top();
    queue.pop();
    Symbol& left = symbols[best.left];
    Symbol& right = symbols[best.right];
    if (left.size == 0 || right.size == 0 || left.size + right.size != best.size) continue;
    left.size = best.size;
    right.size = 0;
    left.right = right.right;
    if (right.right >= 0) symbols[right.right].left = best.left;
    consider(left.left, best.left);
    consider(best.left, left.right);
  }
  for (int32_t at = symbols.empty() ? -1 : 0; at >= 0; at = symbols[at].right) {
    const std::string_view piece = text.substr(symbols[at].begin, symbols[at].size);
    const int32_t id = find(piece);
    if (id >= 0) {
      out.push_back(id);
    } else {
      for (const char byte : piece) out.push_back(bytes_[static_cast<uint8_t>(byte)]);
    }
  }
}

std::shared_ptr<const Tokenizer> spm_tokenizer(GgufVocabulary vocabulary, const std::string& name) {
  return std::make_shared<SpmTokenizer>(std::move(vocabulary), name);
}

std::string spm_fingerprint(const GgufVocabulary& vocabulary) {
  size_t size = vocabulary.tokens.size();
  while (size > 0 && vocabulary.types[size - 1] == GgufVocabulary::kUnused && vocabulary.tokens[size - 1] == str("[PAD", size - 1, "]")) --size;
  Sha256 hash;
  hash.add(str("spm-bpe prefix ", vocabulary.add_space_prefix.value_or(true), " tokens ", size, '\n'));
  for (size_t id = 0; id < size; ++id) {
    uint32_t score;
    static_assert(sizeof score == sizeof(float));
    std::memcpy(&score, &vocabulary.scores[id], sizeof score);
    // Readers treat unknown and control tokens alike, and files disagree on which is which.
    const int32_t type = vocabulary.types[id] == GgufVocabulary::kUnknown ? int32_t{GgufVocabulary::kControl} : vocabulary.types[id];
    hash.add(str(vocabulary.tokens[id].size(), ' ', score, ' ', type, ' '));
    hash.add(vocabulary.tokens[id]);
  }
  return hash.hex();
}

void spm_deviations(const GgufVocabulary& vocabulary, std::vector<std::string>& deviations) {
  const bool prefix = vocabulary.add_space_prefix.value_or(true);
  const SpmMerger merger(vocabulary.tokens, vocabulary.scores, vocabulary.unk.value_or(0));
  bool user_defined = false, unused = false;
  std::vector<std::string> reachable;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const int32_t type = vocabulary.types[id];
    user_defined |= type == GgufVocabulary::kUserDefined;
    unused |= type == GgufVocabulary::kUnused;
    if (type != GgufVocabulary::kControl && type != GgufVocabulary::kUnknown && type != GgufVocabulary::kByte) continue;
    // Joined as a whole: one token, or two with the space before. Byte fallback of single characters gives more.
    std::vector<int32_t> alone, after_space;
    merger.encode(vocabulary.tokens[id], alone);
    merger.encode(std::string(kSpmSpace) + vocabulary.tokens[id], after_space);
    const auto own = static_cast<int32_t>(id);
    if (alone == std::vector{own} || (after_space.size() == 2 && after_space[1] == own)) reachable.push_back(vocabulary.tokens[id]);
  }
  if (user_defined && prefix) deviations.push_back("user-defined pieces: GGUF readers put a space after each");
  if (unused) deviations.push_back("unused pieces: GGUF readers may give their ids");
  if (!reachable.empty()) deviations.push_back("the text " + reachable[0] + " is joined to the special token of that name by GGUF readers");
}

}  // namespace attar
