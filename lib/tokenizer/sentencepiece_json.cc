#include <algorithm>
#include <unordered_map>

#include "base/json.h"
#include "tokenizer/sentencepiece.h"

namespace attar {
namespace {

const char* const kJsonSpaceMark = "\xE2\x96\x81";

/// Merge rules that a SentencePiece BPE vocabulary stands for: every way to make a piece of two others, best score first.
Json merges_of(const SentencePieceModel& model) {
  struct Merge {
    float score;
    size_t left_size;
    int32_t order;
    std::string text;
  };
  std::unordered_map<std::string_view, int32_t> ids;
  const auto normal = [](const SentencePieceModel::Piece& piece) { return piece.type == SentencePieceModel::Type::normal; };
  for (size_t id = 0; id < model.pieces.size(); ++id)
    if (normal(model.pieces[id])) ids.emplace(model.pieces[id].text, static_cast<int32_t>(id));
  std::vector<Merge> merges;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    if (!normal(model.pieces[id])) continue;
    const std::string_view text = model.pieces[id].text;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      if (!ids.contains(text.substr(0, cut)) || !ids.contains(text.substr(cut))) continue;
      std::string rule(text.substr(0, cut));
      rule += ' ';
      rule += text.substr(cut);
      merges.push_back({model.pieces[id].score, cut, static_cast<int32_t>(id), std::move(rule)});
    }
  }
  // Among the splits of one piece the longer left part goes first: what leftmost-first joining leaves of a run of one character.
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    if (a.score != b.score) return a.score > b.score;
    return a.order != b.order ? a.order < b.order : a.left_size > b.left_size;
  });
  Json out = Json::array();
  for (Merge& merge : merges) out.push_back(std::move(merge.text));
  return out;
}

Json special_entry(const SentencePieceModel& model, int32_t id) {
  const auto type = model.pieces[id].type;
  const bool user = type == SentencePieceModel::Type::user_defined;
  return {{"id", id}, {"content", model.pieces[id].text}, {"single_word", false}, {"lstrip", false}, {"rstrip", false}, {"normalized", user},
      {"special", !user}};
}

}  // namespace

bool fits_tokenizer_json(const SentencePieceModel& model) {
  using Algorithm = SentencePieceModel::Algorithm;
  if (model.has_charsmap || !model.escape_whitespaces) return false;
  return model.algorithm == Algorithm::bpe || model.algorithm == Algorithm::unigram;
}

std::string sentencepiece_as_json(const SentencePieceModel& model, bool add_bos) {
  Json added = Json::array(), normalizers = Json::array();
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto type = model.pieces[id].type;
    if (type == SentencePieceModel::Type::control || type == SentencePieceModel::Type::unknown || type == SentencePieceModel::Type::user_defined)
      added.push_back(special_entry(model, static_cast<int32_t>(id)));
  }
  const auto replace = [](const char* regex, const char* content) { return Json{{"type", "Replace"}, {"pattern", {{"Regex", regex}}}, {"content",
      content}}; };
  normalizers.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kJsonSpaceMark}});
  if (model.remove_extra_whitespaces) {
    normalizers.push_back(replace("\\A\xE2\x96\x81+|\xE2\x96\x81+\\z", ""));
    normalizers.push_back(replace("\xE2\x96\x81{2,}", kJsonSpaceMark));
  }
  if (model.add_dummy_prefix) normalizers.push_back({{"type", "Prepend"}, {"prepend", kJsonSpaceMark}});
  Json decoders = Json::array({{{"type", "Replace"}, {"pattern", {{"String", kJsonSpaceMark}}}, {"content", " "}}, {{"type", "ByteFallback"}},
      {{"type", "Fuse"}}});
  if (model.add_dummy_prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  Json post = nullptr;
  if (add_bos && model.bos_id >= 0) {
    const std::string bos = model.pieces[model.bos_id].text;
    const Json start = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
    const auto sequence = [](const char* id) { return Json{{"Sequence", {{"id", id}, {"type_id", 0}}}}; };
    post = {{"type", "TemplateProcessing"},
            {"single", Json::array({start, sequence("A")})},
            {"pair", Json::array({start, sequence("A"), start, sequence("B")})},
            {"special_tokens", {{bos, {{"id", bos}, {"ids", Json::array({model.bos_id})}, {"tokens", Json::array({bos})}}}}}};
  }
  Json core;
  if (model.algorithm == SentencePieceModel::Algorithm::bpe) {
    Json vocab = Json::object();
    auto& entries = vocab.get_ref<Json::object_t&>();
    for (size_t id = 0; id < model.pieces.size(); ++id) entries.push_back({model.pieces[id].text, static_cast<int64_t>(id)});
    core = {{"type", "BPE"}, {"dropout", nullptr}, {"unk_token", model.pieces[model.unk_id].text}, {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr}, {"fuse_unk", true}, {"byte_fallback", model.byte_fallback}, {"ignore_merges", false},
            {"vocab", std::move(vocab)}, {"merges", merges_of(model)}};
  } else {
    Json vocab = Json::array();
    for (const auto& piece : model.pieces) vocab.push_back(Json::array({piece.text, static_cast<double>(piece.score)}));
    core = {{"type", "Unigram"}, {"unk_id", model.unk_id}, {"vocab", std::move(vocab)}, {"byte_fallback", model.byte_fallback}};
  }
  const Json out = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", std::move(added)},
                    {"normalizer", {{"type", "Sequence"}, {"normalizers", std::move(normalizers)}}}, {"pre_tokenizer", nullptr},
                    {"post_processor", std::move(post)}, {"decoder", {{"type", "Sequence"}, {"decoders", std::move(decoders)}}},
                    {"model", std::move(core)}};
  return out.dump(1) + "\n";
}

}  // namespace attar
