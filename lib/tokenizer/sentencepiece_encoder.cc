#include "tokenizer/sentencepiece_encoder.h"

#include <algorithm>
#include <protozero/pbf_reader.hpp>
#include <unordered_set>

#include "base/check.h"
#include "base/utf8.h"

namespace attar {
namespace {

constexpr std::string_view kMark = "\xE2\x96\x81";
constexpr uint32_t kSpacesAsSuffix = 24;  // field of the trainer's message

bool spaces_are_suffixes(const SentencePieceModel& model) {
  bool out = false;
  protozero::pbf_reader reader(model.trainer_spec);
  while (reader.next())
    if (reader.tag_and_type() == protozero::tag_and_type(kSpacesAsSuffix, protozero::pbf_wire_type::varint)) out = reader.get_bool();
    else reader.skip();
  return out;
}

bool met_in_text(SentencePieceModel::Type type) {
  using Type = SentencePieceModel::Type;
  return type == Type::normal || type == Type::user_defined || type == Type::unused;
}

}  // namespace

std::unique_ptr<const SentencePieceEncoder> SentencePieceEncoder::of(const SentencePieceModel& model, const std::string& name) {
  using Algorithm = SentencePieceModel::Algorithm;
  const bool bpe = model.algorithm == Algorithm::bpe;
  if ((!bpe && model.algorithm != Algorithm::unigram) || spaces_are_suffixes(model)) return nullptr;
  std::unordered_set<std::string_view> texts;
  size_t bytes = 0;
  for (const auto& piece : model.pieces) {
    if (bpe && piece.type == SentencePieceModel::Type::unused) return nullptr;
    if (!texts.insert(piece.text).second || piece.text.find('\0') != std::string::npos) return nullptr;
    // A control piece of one character would be met in text.
    if (!met_in_text(piece.type) && piece.text.size() <= spm_character_bytes(static_cast<uint8_t>(piece.text[0]))) return nullptr;
    bytes += piece.type == SentencePieceModel::Type::byte;
  }
  if (model.byte_fallback != (bytes == 256) || (bytes != 0 && bytes != 256)) return nullptr;
  return std::make_unique<const SentencePieceEncoder>(model, name);
}

SentencePieceEncoder::SentencePieceEncoder(const SentencePieceModel& model, const std::string& name)
    : dummy_prefix_(model.add_dummy_prefix),
      one_space_(model.remove_extra_whitespaces),
      mark_spaces_(model.escape_whitespaces),
      bpe_(model.algorithm == SentencePieceModel::Algorithm::bpe),
      byte_fallback_(model.byte_fallback),
      unk_(0) {
  using Type = SentencePieceModel::Type;
  if (model.has_charsmap) charsmap_ = Charsmap(charsmap_of(model), name);
  std::vector<std::pair<std::string_view, int32_t>> user_defined;
  std::vector<UnigramModel::Piece> pieces;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& piece = model.pieces[id];
    const auto number = static_cast<int32_t>(id);
    if (piece.type == Type::unknown) unk_ = number;
    if (piece.type == Type::user_defined) user_defined.emplace_back(piece.text, number);
    if (bpe_) {
      tokens_.push_back(met_in_text(piece.type) ? piece.text : "");
      scores_.push_back(piece.score);
    } else {
      pieces.push_back({.text = piece.text,
                        .score = piece.score,
                        .usable = piece.type == Type::normal || piece.type == Type::user_defined,
                        .always = piece.type == Type::user_defined,
                        .counted = piece.type == Type::normal});
    }
  }
  bytes_.assign(256, unk_);
  if (byte_fallback_)
    for (size_t id = 0; id < model.pieces.size(); ++id)
      for (int byte = 0; byte < 256 && model.pieces[id].type == Type::byte; ++byte)
        if (model.pieces[id].text == byte_piece(static_cast<uint8_t>(byte))) bytes_[byte] = static_cast<int32_t>(id);
  user_defined_ = PieceTrie(std::move(user_defined));
  if (bpe_) merger_ = SpmMerger(tokens_, scores_, bytes_);
  else unigram_ = UnigramModel(pieces, unk_, UnigramModel::Sums::single);
}

std::string SentencePieceEncoder::normalize(std::string_view text) const {
  // What stands at a place of the text and how many bytes it takes there.
  const auto part_at = [&](size_t at) -> std::pair<std::string_view, size_t> {
    if (!user_defined_.empty()) {
      const auto [end, id] = user_defined_.longest(text, at);
      if (id >= 0) return {text.substr(at, end - at), end - at};
    }
    if (charsmap_.begins(static_cast<uint8_t>(text[at]))) {
      const auto match = charsmap_.longest(text, at);
      if (match.size > 0) return {match.replacement, match.size};
    }
    const size_t size = utf8_length(text, at);
    if (size == 0) return {"\xEF\xBF\xBD", 1};
    return {text.substr(at, size), size};
  };
  std::string out;
  size_t at = 0;
  while (one_space_ && at < text.size()) {
    const auto [part, size] = part_at(at);
    if (part != " ") break;
    at += size;
  }
  if (at == text.size()) return out;
  const std::string_view space = mark_spaces_ ? kMark : " ";
  out.reserve(text.size() + text.size() / 2 + 8);
  if (dummy_prefix_) out += space;
  const bool plain = charsmap_.empty() && user_defined_.empty();
  bool after_space = one_space_;
  while (at < text.size()) {
    if (plain && static_cast<uint8_t>(text[at]) < 0x80 && text[at] != ' ') {
      out += text[at++];
      after_space = false;
      continue;
    }
    auto [part, size] = part_at(at);
    at += size;
    while (after_space && part.starts_with(' ')) part.remove_prefix(1);
    if (part.empty()) continue;
    for (const char character : part)
      if (character == ' ') out += space;
      else out += character;
    after_space = one_space_ && part.ends_with(' ');
  }
  if (one_space_)
    while (out.ends_with(space)) out.resize(out.size() - space.size());
  return out;
}

void SentencePieceEncoder::encode(std::string_view text, std::vector<int32_t>& out) const {
  const std::string normal = normalize(text);
  const size_t first = out.size();
  if (bpe_) encode_bpe(normal, out);
  else encode_unigram(normal, out);
  // Neighbouring unknown pieces are one.
  if (!byte_fallback_)
    out.erase(std::unique(out.begin() + static_cast<int64_t>(first), out.end(), [this](int32_t a, int32_t b) { return a == unk_ && b == unk_; }),
              out.end());
}

void SentencePieceEncoder::encode_bpe(std::string_view text, std::vector<int32_t>& out) const {
  if (user_defined_.empty()) return merger_.encode(text, out);
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const auto [end, id] = user_defined_.longest(text, at);
    if (id < 0) {
      at += std::min(spm_character_bytes(static_cast<uint8_t>(text[at])), text.size() - at);
      continue;
    }
    if (at > done) merger_.encode(text.substr(done, at - done), out);
    out.push_back(id);
    at = done = end;
  }
  if (done < text.size()) merger_.encode(text.substr(done), out);
}

void SentencePieceEncoder::encode_unigram(std::string_view text, std::vector<int32_t>& out) const {
  static thread_local std::vector<UnigramModel::Cut> cuts;
  unigram_.cut(text, cuts);
  for (const auto& cut : cuts) {
    if (cut.id != unk_ || !byte_fallback_) out.push_back(cut.id);
    else
      for (size_t i = cut.begin; i < cut.end; ++i) out.push_back(bytes_[static_cast<uint8_t>(text[i])]);
  }
}

}  // namespace attar
