#include "tokenizer/sentencepiece.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <cstring>
#include <protozero/pbf_reader.hpp>
#include <protozero/pbf_writer.hpp>
#include <set>
#include <unordered_map>

#include "base/check.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/sentencepiece_encoder.h"
#include "tokenizer/spm_bpe.h"

namespace attar {
namespace {

using PieceType = SentencePieceModel::Type;

const std::string kSpaceMark = "\xE2\x96\x81";

/// As GGUF readers meet a token that is searched in the text as it was given.
std::string with_spaces(std::string text) {
  for (size_t at; (at = text.find(kSpaceMark)) != std::string::npos;) text.replace(at, kSpaceMark.size(), " ");
  return text;
}

std::vector<AddedToken> added_around(const TokenizerSurroundings& around, const Json& config, const SentencePieceModel& model,
    const std::string& name) {
  std::vector<AddedToken> found;
  if (config.contains("added_tokens_decoder")) found = parse_added_tokens(config.at("added_tokens_decoder"), name + "/tokenizer_config.json");
  for (const TokenizerFile& file : around.others) {
    if (file.name == "tokenizer.json") {
      const Json json = parse_json(file.content, name + "/tokenizer.json");
      if (json.contains("added_tokens"))
        for (AddedToken& token : parse_added_tokens(json.at("added_tokens"), name + "/tokenizer.json")) found.push_back(std::move(token));
    } else if (file.name == "added_tokens.json") {
      const Json json = parse_json(file.content, name + "/added_tokens.json");
      for (const auto& [text, id] : json.items()) {
        if (!id.is_number_integer()) fail(name + "/added_tokens.json: " + text, "a token id", to_line(id));
        const auto number = id.get<int64_t>();
        if (number < 0 || number > INT32_MAX) fail(name + "/added_tokens.json: " + text, "a token id", str(number));
        found.push_back({.id = static_cast<int32_t>(number), .content = text});
      }
    }
  }
  // The first mention of an id holds; ids of the model itself keep the model's text and are added only if that differs from a plain piece.
  std::map<int32_t, AddedToken> by_id;
  for (AddedToken& token : found) by_id.emplace(token.id, std::move(token));
  std::vector<AddedToken> out;
  auto next = static_cast<int32_t>(model.pieces.size());
  for (auto& [id, token] : by_id) {
    if (id < static_cast<int32_t>(model.pieces.size())) {
      const auto& piece = model.pieces[id];
      if (piece.text != token.content)
        fail(str(name, ": added token ", id), "the model's piece '" + piece.text + "'", "'" + token.content + "'",
            "the files belong to different tokenizers");
      continue;
    }
    if (id != next++) fail(str(name, ": added token '", token.content, "'"), str("id ", next - 1), str(id));
    out.push_back(std::move(token));
  }
  return out;
}

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string bytes, TokenizerSurroundings around, const std::string& name)
      : bytes_(std::move(bytes)), around_(std::move(around)), model_(parse_sentencepiece(bytes_, name)) {
    if (model_.has_charsmap) check_charsmap(charsmap_of(model_), name);
    int32_t unknowns = 0;
    for (const auto& piece : model_.pieces) unknowns += piece.type == PieceType::unknown;
    if (unknowns != 1) fail(name, "a SentencePiece model with one unknown piece", str(unknowns));
    std::string why;
    try {
      const auto status = processor_.LoadFromSerializedProto(std::string_view(bytes_));
      if (!status.ok()) why = std::string(status.message());
    } catch (const std::exception& error) {  // its tries throw at pieces that begin with a zero byte
      why = error.what();
    }
    if (!why.empty()) fail(name, "a SentencePiece model", one_line(why));
    encoder_ = SentencePieceEncoder::of(model_, name);
    if (!around_.config.empty()) config_ = parse_json(around_.config, name + "/tokenizer_config.json");
    added_ = added_around(around_, config_, model_, name);
    for (size_t id = 0; id < model_.pieces.size(); ++id) ids_.emplace(model_.pieces[id].text, static_cast<int32_t>(id));
    for (const AddedToken& token : added_) ids_.emplace(token.content, token.id);
    std::vector<AddedToken> found = added_;
    for (size_t id = 0; id < model_.pieces.size(); ++id)
      if (model_.pieces[id].type == PieceType::control || model_.pieces[id].type == PieceType::unknown)
        found.push_back({.id = static_cast<int32_t>(id), .content = model_.pieces[id].text, .special = true});
    matcher_ = AddedMatcher(std::move(found));
    bos_ = special("bos_token", model_.bos_id);
    eos_ = special("eos_token", model_.eos_id);
    pad_ = special("pad_token", model_.pad_id);
    add_bos_ = bos_ && (!config_.contains("add_bos_token") || !config_.at("add_bos_token").is_boolean() || config_.at("add_bos_token").get<bool>());
    add_eos_ = eos_ && config_.contains("add_eos_token") && config_.at("add_eos_token").is_boolean() && config_.at("add_eos_token").get<bool>();
  }

  std::vector<int32_t> encode(std::string_view text, bool specials) const override {
    std::vector<int32_t> out;
    if (!specials && added_.empty()) {
      encode_plain(text, out);
      return out;
    }
    matcher_.split(text, specials, [&](std::string_view part, const AddedToken* token) {
      if (token) out.push_back(token->id);
      else encode_plain(part, out);
    });
    return out;
  }

  std::string decode(const std::vector<int32_t>& ids) const override {
    std::string out;
    std::vector<int> run;
    bool first = true;
    const auto flush = [&] {
      if (run.empty()) return;
      std::string text;
      const auto status = processor_.Decode(run, &text);
      if (!status.ok()) fail("decoding token ids", "", std::string(status.message()));
      // The library drops the space before a text's first word; after an added token that space was there.
      if (!first && model_.add_dummy_prefix && model_.pieces[run[0]].text.starts_with(kSpaceMark)) out += ' ';
      out += text;
      run.clear();
    };
    for (const int32_t id : ids) {
      if (id < 0 || id >= size()) fail("token id", str("0 to ", size() - 1), str(id));
      if (id < static_cast<int32_t>(model_.pieces.size())) {
        run.push_back(id);
        continue;
      }
      flush();
      first = false;
      const AddedToken& token = added_[id - model_.pieces.size()];
      if (!token.special) out += token.content;
    }
    flush();
    return out;
  }

  int64_t size() const override { return static_cast<int64_t>(model_.pieces.size() + added_.size()); }
  std::string piece(int32_t id) const override {
    if (id < 0 || id >= size()) fail("token id", str("0 to ", size() - 1), str(id));
    return id < static_cast<int32_t>(model_.pieces.size()) ? model_.pieces[id].text : added_[id - model_.pieces.size()].content;
  }
  std::optional<int32_t> id_of(const std::string& piece) const override {
    const auto found = ids_.find(piece);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  std::optional<int32_t> bos() const override { return bos_; }
  std::optional<int32_t> eos() const override { return eos_; }
  std::optional<int32_t> pad() const override { return pad_; }
  bool add_bos() const override { return add_bos_; }
  bool add_eos() const override { return add_eos_; }
  std::string chat_template() const override {
    if (!around_.chat_template.empty()) return around_.chat_template;
    return chat_templates_of(config_, "tokenizer_config.json").used;
  }
  std::string kind() const override {
    switch (model_.algorithm) {
      case SentencePieceModel::Algorithm::unigram: return "sentencepiece unigram";
      case SentencePieceModel::Algorithm::bpe: return "sentencepiece bpe";
      case SentencePieceModel::Algorithm::word: return "sentencepiece word";
      case SentencePieceModel::Algorithm::character: return "sentencepiece char";
    }
    return "sentencepiece";
  }

  std::vector<TokenizerFile> files() const override {
    std::vector<TokenizerFile> out{{"tokenizer.model", bytes_}};
    out.push_back({"tokenizer_config.json", around_.config.empty() ? plain_sentencepiece_config(model_, add_bos_) : around_.config});
    if (around_.config.empty() && fits_tokenizer_json(model_) && !has_file("tokenizer.json"))
      out.push_back({"tokenizer.json", sentencepiece_as_json(model_, add_bos_)});
    for (const TokenizerFile& file : around_.others) out.push_back(file);
    if (!around_.chat_template.empty()) out.push_back({"chat_template.jinja", around_.chat_template});
    return out;
  }

  std::string fingerprint() const override {
    const GgufVocabulary vocabulary = reader_vocabulary();
    if (plain_bpe()) return spm_fingerprint(vocabulary);
    Sha256 hash;
    hash.add(str("sentencepiece ", static_cast<int>(model_.algorithm), ' ', model_.byte_fallback, ' ', model_.unk_id, '\n'));
    hash.add(str(model_.normalizer_spec.size(), '\n'));
    hash.add(model_.normalizer_spec);
    hash.add(spm_fingerprint(vocabulary));
    return hash.hex();
  }

  void to_gguf(GgufMetadata& metadata, int64_t vocab, std::vector<std::string>& deviations) const override {
    using Algorithm = SentencePieceModel::Algorithm;
    if (model_.algorithm != Algorithm::bpe && model_.algorithm != Algorithm::unigram)
      fail("writing the tokenizer to GGUF", "a bpe or unigram SentencePiece model", kind());
    GgufVocabulary vocabulary = reader_vocabulary();
    if (model_.algorithm == Algorithm::unigram) {
      vocabulary.model = "t5";
      vocabulary.remove_extra_whitespaces = model_.remove_extra_whitespaces;
      const std::string map = charsmap_of(model_);
      vocabulary.charsmap.assign(map.begin(), map.end());
      deviations.push_back("unigram vocabulary: GGUF readers break ties and unknown characters differently, some texts get other ids");
    } else {
      check_reader_bytes();
      if (model_.has_charsmap) deviations.push_back("normalizer '" + model_.normalizer_name + "': GGUF readers do not normalize text");
      if (model_.remove_extra_whitespaces) deviations.push_back("remove_extra_whitespaces: GGUF readers keep repeated spaces");
      if (!model_.escape_whitespaces) deviations.push_back("escape_whitespaces is off: GGUF readers always escape spaces");
      spm_deviations(vocabulary, deviations);
    }
    write_gguf_vocabulary(vocabulary, vocab, metadata);
  }

 private:
  bool has_file(const std::string& name) const {
    return std::any_of(around_.others.begin(), around_.others.end(), [&](const TokenizerFile& file) { return file.name == name; });
  }

  void encode_plain(std::string_view text, std::vector<int32_t>& out) const {
    if (encoder_) return encoder_->encode(text, out);
    std::vector<int> ids;
    const auto status = processor_.Encode(text, &ids);
    if (!status.ok()) fail("encoding text", "", std::string(status.message()));
    out.insert(out.end(), ids.begin(), ids.end());
  }

  std::optional<int32_t> special(const char* key, int32_t fallback) const {
    const std::string text = special_text(config_, key);
    if (!text.empty())
      if (const auto id = id_of(text)) return id;
    return fallback >= 0 && fallback < size() ? std::optional(fallback) : std::nullopt;
  }

  /// Text is used as it is: what a GGUF reader does too.
  bool plain_bpe() const {
    return model_.algorithm == SentencePieceModel::Algorithm::bpe && !model_.has_charsmap && !model_.remove_extra_whitespaces &&
        model_.escape_whitespaces;
  }

  GgufVocabulary reader_vocabulary() const {
    GgufVocabulary out;
    out.model = "llama";
    out.pre = "default";
    for (const auto& piece : model_.pieces) {
      out.tokens.push_back(piece.type == PieceType::user_defined ? with_spaces(piece.text) : piece.text);
      out.scores.push_back(piece.score);
      out.types.push_back(static_cast<int32_t>(piece.type));
    }
    for (const AddedToken& token : added_) {
      out.tokens.push_back(token.special ? token.content : with_spaces(token.content));
      out.scores.push_back(-1000.0f);
      out.types.push_back(token.special ? GgufVocabulary::kControl : GgufVocabulary::kUserDefined);
    }
    out.bos = bos_;
    out.eos = eos_;
    out.unk = model_.unk_id >= 0 ? std::optional(model_.unk_id) : std::nullopt;
    out.pad = pad_;
    out.add_bos = add_bos_;
    out.add_eos = add_eos_;
    out.add_space_prefix = model_.add_dummy_prefix;
    out.chat_template = chat_template();
    out.chat_templates = chat_templates_of(config_, "tokenizer_config.json").others;
    return out;
  }

  void check_reader_bytes() const {
    for (int byte = 0; byte < 256; ++byte) {
      const auto found = ids_.find(byte_piece(static_cast<uint8_t>(byte)));
      if (found == ids_.end() || model_.pieces[found->second].type != PieceType::byte)
        fail("writing the tokenizer to GGUF", "all 256 byte pieces: GGUF readers end without them", "no " + byte_piece(static_cast<uint8_t>(byte)),
             "train it with byte fallback");
    }
  }

  std::string bytes_;
  TokenizerSurroundings around_;
  SentencePieceModel model_;
  sentencepiece::SentencePieceProcessor processor_;        ///< decodes, and encodes what encoder_ does not know
  std::unique_ptr<const SentencePieceEncoder> encoder_;
  Json config_ = Json::object();
  std::vector<AddedToken> added_;
  std::unordered_map<std::string, int32_t> ids_;
  AddedMatcher matcher_;
  std::optional<int32_t> bos_, eos_, pad_;
  bool add_bos_ = false, add_eos_ = false;
};

}  // namespace

std::string plain_sentencepiece_config(const SentencePieceModel& model, bool add_bos) {
  const auto text = [&](int32_t id) { return id >= 0 ? Json(model.pieces[id].text) : Json(nullptr); };
  const bool json = fits_tokenizer_json(model);
  Json config = {{"tokenizer_class", json ? "PreTrainedTokenizerFast" : "LlamaTokenizer"},
                 {"legacy", true},
                 {"add_bos_token", add_bos},
                 {"add_eos_token", false},
                 {"add_prefix_space", model.add_dummy_prefix},
                 {"bos_token", text(model.bos_id)},
                 {"eos_token", text(model.eos_id)},
                 {"unk_token", text(model.unk_id)},
                 {"pad_token", text(model.pad_id)},
                 {"clean_up_tokenization_spaces", false},
                 {"spaces_between_special_tokens", false}};
  return config.dump(2) + "\n";
}

std::shared_ptr<const Tokenizer> sentencepiece_tokenizer(std::string model, TokenizerSurroundings surroundings, const std::string& name) {
  return std::make_shared<SentencePieceTokenizer>(std::move(model), std::move(surroundings), name);
}

std::shared_ptr<const Tokenizer> sentencepiece_tokenizer(std::string model, std::string config, const std::string& name) {
  return sentencepiece_tokenizer(std::move(model), TokenizerSurroundings{.config = std::move(config)}, name);
}

std::shared_ptr<const Tokenizer> unigram_from_gguf(GgufVocabulary vocabulary, const std::string& name) {
  SentencePieceModel model;
  if (vocabulary.scores.size() != vocabulary.tokens.size()) fail(name + ": tokenizer.ggml.scores", "one per token", str(vocabulary.scores.size()));
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const int32_t type = vocabulary.types[i];
    if (type < 1 || type > 6) fail(str(name, ": type of token ", i), "1 to 6", str(type));
    model.pieces.push_back({vocabulary.tokens[i], vocabulary.scores[i], static_cast<PieceType>(type)});
  }
  const auto byte_pieces = std::count(vocabulary.types.begin(), vocabulary.types.end(), int32_t{GgufVocabulary::kByte});
  protozero::pbf_writer trainer(model.trainer_spec);
  trainer.add_enum(3, static_cast<int32_t>(SentencePieceModel::Algorithm::unigram));
  trainer.add_bool(35, byte_pieces == 256);
  trainer.add_int32(40, vocabulary.unk.value_or(2));
  trainer.add_int32(41, vocabulary.bos.value_or(-1));
  trainer.add_int32(42, vocabulary.eos.value_or(1));
  trainer.add_int32(43, vocabulary.pad.value_or(-1));
  protozero::pbf_writer normalizer(model.normalizer_spec);
  normalizer.add_string(1, vocabulary.charsmap.empty() ? "identity" : "user_defined");
  if (!vocabulary.charsmap.empty()) normalizer.add_bytes(2, std::string(vocabulary.charsmap.begin(), vocabulary.charsmap.end()));
  normalizer.add_bool(3, vocabulary.add_space_prefix.value_or(true));
  normalizer.add_bool(4, vocabulary.remove_extra_whitespaces.value_or(true));
  normalizer.add_bool(5, true);
  Json config = {{"tokenizer_class", "T5Tokenizer"}, {"add_bos_token", vocabulary.add_bos.value_or(false)}, {"add_eos_token",
      vocabulary.add_eos.value_or(true)}};
  if (const Json chat = chat_templates_json({vocabulary.chat_template, vocabulary.chat_templates}); !chat.is_null()) config["chat_template"] = chat;
  return sentencepiece_tokenizer(write_sentencepiece(model), config.dump(2) + "\n", name);
}

}  // namespace attar
