#include "tokenizer/vocabulary_pruning.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "base/check.h"
#include "base/json.h"
#include "base/utf8.h"
#include "formats/sentencepiece_model.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/tokenizer_json.h"

namespace attar {
namespace {

/// Which ids stay, growing until nothing that is needed for a kept one is missing.
class KeptIds {
 public:
  explicit KeptIds(std::vector<bool> kept) : kept_(std::move(kept)) {}
  void keep(int64_t id) {
    if (id < 0 || id >= static_cast<int64_t>(kept_.size()) || kept_[static_cast<size_t>(id)]) return;
    kept_[static_cast<size_t>(id)] = true;
    fresh_.push_back(static_cast<int32_t>(id));
  }
  /// Calls needs(id) for every kept id, those that it keeps included.
  template <class Needs>
  void close(const Needs& needs) {
    fresh_ = sorted();
    while (!fresh_.empty()) {
      const int32_t id = fresh_.back();
      fresh_.pop_back();
      needs(id);
    }
  }
  std::vector<int32_t> sorted() const {
    std::vector<int32_t> out;
    for (size_t id = 0; id < kept_.size(); ++id)
      if (kept_[id]) out.push_back(static_cast<int32_t>(id));
    return out;
  }

 private:
  std::vector<bool> kept_;
  std::vector<int32_t> fresh_;  ///< kept since the last call of close(), whose needs are not seen to
};

/// New numbers of old ids.
class Renumbering {
 public:
  explicit Renumbering(const std::vector<int32_t>& kept) {
    for (size_t i = 0; i < kept.size(); ++i) number_[kept[i]] = static_cast<int32_t>(i);
  }
  bool has(int64_t id) const { return number_.count(static_cast<int32_t>(id)) > 0; }
  int32_t of(int64_t id) const { return number_.at(static_cast<int32_t>(id)); }

 private:
  std::unordered_map<int32_t, int32_t> number_;
};

int64_t id_in(const Json& value, const std::string& name) {
  check(value.is_number_integer(), name, "a token's id", to_line(value));
  return value.get<int64_t>();
}

bool is_one_character(const std::string& piece) { return !piece.empty() && utf8_length(piece, 0) == piece.size(); }

// ---- tokenizer.json

/// A merge rule as its two sides: "a b" or ["a", "b"].
std::pair<std::string, std::string> sides_of(const Json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) return {merge[0], merge[1]};
  check(merge.is_string(), "tokenizer.json: merges", "pairs of tokens", to_line(merge));
  const std::string text = merge;
  const size_t space = text.find(' ', 1);
  check(space != std::string::npos, "tokenizer.json: merges", "two tokens and a space", text);
  return {text.substr(0, space), text.substr(space + 1)};
}

bool is_byte_piece(const std::string& piece) { return piece.size() == 6 && piece.starts_with("<0x") && piece.back() == '>'; }

void keep_json(const Json& json, KeptIds& kept) {
  const Json& model = json.at("model");
  for (const Json& added : json.value("added_tokens", Json::array())) kept.keep(id_in(added.at("id"), "tokenizer.json: added_tokens"));
  const std::string type = model.value("type", "BPE");
  if (type == "Unigram") {
    if (model.contains("unk_id") && model.at("unk_id").is_number_integer()) kept.keep(model.at("unk_id").get<int64_t>());
    const bool bytes = model.value("byte_fallback", false);
    const Json& vocabulary = model.at("vocab");
    for (size_t id = 0; id < vocabulary.size(); ++id) {
      const std::string piece = vocabulary[id].at(0);
      // Without byte fallback single characters are all that stands between a text and the unknown token.
      if (bytes ? is_byte_piece(piece) : is_one_character(piece)) kept.keep(static_cast<int64_t>(id));
    }
    return;
  }
  check(type == "BPE", "tokenizer.json: model", "BPE or Unigram, whose vocabulary can be pruned", type);
  std::unordered_map<std::string, int64_t> ids;
  for (const auto& [piece, id] : model.at("vocab").items()) {
    ids[piece] = id_in(id, "tokenizer.json: vocab");
    // Single characters are the bytes of a byte-level vocabulary; elsewhere bytes have names.
    if (is_one_character(piece) || is_byte_piece(piece)) kept.keep(ids[piece]);
  }
  if (model.contains("unk_token") && model.at("unk_token").is_string())
    if (const auto unknown = ids.find(model.at("unk_token").get<std::string>()); unknown != ids.end()) kept.keep(unknown->second);
  std::unordered_map<int64_t, std::vector<std::pair<int64_t, int64_t>>> ways;
  for (const Json& merge : model.at("merges")) {
    const auto [left, right] = sides_of(merge);
    const auto a = ids.find(left), b = ids.find(right), whole = ids.find(left + right);
    if (a != ids.end() && b != ids.end() && whole != ids.end()) ways[whole->second].push_back({a->second, b->second});
  }
  kept.close([&](int32_t id) {
    if (const auto found = ways.find(id); found != ways.end())
      for (const auto& [a, b] : found->second) kept.keep(a), kept.keep(b);
  });
}

/// Ids inside a post-processor of any published kind.
void renumber_processor(Json& processor, const Renumbering& numbers) {
  if (!processor.is_object()) return;
  for (const char* key : {"sep", "cls"})
    if (processor.contains(key)) processor[key][1] = numbers.of(id_in(processor[key][1], std::string("tokenizer.json: post_processor ") + key));
  if (processor.contains("special_tokens"))
    for (auto& [name, token] : processor["special_tokens"].items())
      for (Json& id : token["ids"]) id = numbers.of(id_in(id, "tokenizer.json: post_processor '" + name + "'"));
  if (processor.contains("processors"))
    for (Json& inner : processor["processors"]) renumber_processor(inner, numbers);
}

std::string renumbered_json(Json json, const Renumbering& numbers) {
  Json& model = json.at("model");
  if (model.value("type", "BPE") == "Unigram") {
    Json vocabulary = Json::array();
    for (size_t id = 0; id < model.at("vocab").size(); ++id)
      if (numbers.has(static_cast<int64_t>(id))) vocabulary.push_back(model["vocab"][id]);
    model["vocab"] = vocabulary;
    if (model.contains("unk_id") && model["unk_id"].is_number_integer()) model["unk_id"] = numbers.of(model["unk_id"].get<int64_t>());
  } else {
    Json vocabulary = Json::object(), merges = Json::array();
    for (const auto& [piece, id] : model.at("vocab").items())
      if (numbers.has(id.get<int64_t>())) vocabulary[piece] = numbers.of(id.get<int64_t>());
    for (const Json& merge : model.at("merges")) {
      const auto [left, right] = sides_of(merge);
      if (vocabulary.contains(left) && vocabulary.contains(right) && vocabulary.contains(left + right)) merges.push_back(merge);
    }
    model["vocab"] = vocabulary;
    model["merges"] = merges;
  }
  if (json.contains("added_tokens"))
    for (Json& added : json["added_tokens"]) added["id"] = numbers.of(added["id"].get<int64_t>());
  if (json.contains("post_processor")) renumber_processor(json["post_processor"], numbers);
  if (json.contains("padding") && json["padding"].is_object() && json["padding"].contains("pad_id"))
    json["padding"]["pad_id"] = numbers.of(id_in(json["padding"]["pad_id"], "tokenizer.json: padding"));
  return to_line(json);
}

// ---- tokenizer.model

void keep_pieces(const SentencePieceModel& model, KeptIds& kept) {
  using Type = SentencePieceModel::Type;
  check(model.algorithm == SentencePieceModel::Algorithm::bpe || model.algorithm == SentencePieceModel::Algorithm::unigram, "tokenizer.model",
        "a bpe or unigram model, whose vocabulary can be pruned", "another algorithm");
  std::unordered_map<std::string, int64_t> ids;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePieceModel::Piece& piece = model.pieces[id];
    ids[piece.text] = static_cast<int64_t>(id);
    const bool lone = !model.byte_fallback && piece.type == Type::normal && is_one_character(piece.text);
    if (piece.type != Type::normal || lone) kept.keep(static_cast<int64_t>(id));
  }
  if (model.algorithm != SentencePieceModel::Algorithm::bpe) return;
  // A model file has no merge rules: any two neighbours that make a piece may join.
  kept.close([&](int32_t id) {
    if (static_cast<size_t>(id) >= model.pieces.size()) return;
    const std::string& text = model.pieces[static_cast<size_t>(id)].text;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      if ((static_cast<unsigned char>(text[cut]) & 0xC0u) == 0x80u) continue;
      const auto left = ids.find(text.substr(0, cut)), right = ids.find(text.substr(cut));
      if (left != ids.end() && right != ids.end()) kept.keep(left->second), kept.keep(right->second);
    }
  });
}

std::string renumbered_model(SentencePieceModel model, const Renumbering& numbers) {
  for (const int32_t id : {model.unk_id, model.bos_id, model.eos_id, model.pad_id})
    check(id < 0 || !numbers.has(id) || numbers.of(id) == id, "tokenizer.model", "special tokens before all others", str("one with id ", id));
  std::vector<SentencePieceModel::Piece> pieces;
  for (size_t id = 0; id < model.pieces.size(); ++id)
    if (numbers.has(static_cast<int64_t>(id))) pieces.push_back(model.pieces[id]);
  model.pieces = std::move(pieces);
  return write_sentencepiece(model);
}

// ---- the tables around them

/// tokenizer_config.json's added_tokens_decoder: ids as keys.
std::string renumbered_config(const std::string& content, const Renumbering& numbers) {
  Json config = parse_json(content, "tokenizer_config.json");
  if (!config.is_object() || !config.contains("added_tokens_decoder")) return content;
  Json out = Json::object();
  for (const auto& [id, token] : config["added_tokens_decoder"].items()) {
    const int64_t old = std::stoll(id);
    if (numbers.has(old)) out[std::to_string(numbers.of(old))] = token;
  }
  config["added_tokens_decoder"] = out;
  return to_line(config);
}

std::string renumbered_table(const std::string& content, const std::string& name, const Renumbering& numbers) {
  const Json table = parse_json(content, name);
  Json out = Json::object();
  for (const auto& [piece, id] : table.items())
    if (numbers.has(id_in(id, name))) out[piece] = numbers.of(id.get<int64_t>());
  return to_line(out);
}

/// GPT-2's two files as the model of a tokenizer.json, so that they are pruned alike.
Json json_of_two_files(const std::string& vocabulary, const std::string& merges) {
  Json rules = Json::array();
  for (size_t begin = 0; begin < merges.size();) {
    const size_t end = std::min(merges.find('\n', begin), merges.size());
    std::string line = merges.substr(begin, end - begin);
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty() && !line.starts_with("#version")) rules.push_back(line);
    begin = end + 1;
  }
  return {{"model", {{"type", "BPE"}, {"vocab", parse_json(vocabulary, "vocab.json")}, {"merges", rules}}}};
}

std::string merges_file(const Json& json) {
  std::string out = "#version: 0.2\n";
  for (const Json& merge : json.at("model").at("merges")) out += merge.get<std::string>() + "\n";
  return out;
}

}  // namespace

PrunedTokenizer prune_tokenizer(const Tokenizer& tokenizer, std::vector<bool> used) {
  std::map<std::string, std::string> files;
  for (const TokenizerFile& file : tokenizer.files()) files[file.name] = file.content;
  const bool model = files.count("tokenizer.model") > 0,
             two = !model && !files.count("tokenizer.json") && files.count("vocab.json") && files.count("merges.txt");
  const bool json = two || files.count("tokenizer.json") > 0;
  check(model || json, "pruning the vocabulary", "a tokenizer.model or a tokenizer.json", tokenizer.kind() + " without either");
  used.resize(static_cast<size_t>(tokenizer.size()), false);
  KeptIds kept(std::move(used));
  for (const auto& id : {tokenizer.bos(), tokenizer.eos(), tokenizer.pad()})
    if (id) kept.keep(*id);
  Json parsed;
  if (two) parsed = json_of_two_files(files["vocab.json"], files["merges.txt"]);
  else if (json) parsed = parse_json(files["tokenizer.json"], "tokenizer.json");
  SentencePieceModel pieces;
  if (model) pieces = parse_sentencepiece(files["tokenizer.model"], "tokenizer.model");
  // What the tables around name stays, and ids beyond the model's own are added tokens.
  if (files.count("added_tokens.json"))
    for (const auto& [piece, id] : parse_json(files["added_tokens.json"], "added_tokens.json").items()) kept.keep(id_in(id, "added_tokens.json"));
  if (model)
    for (int64_t id = static_cast<int64_t>(pieces.pieces.size()); id < tokenizer.size(); ++id) kept.keep(id);
  PrunedTokenizer out;
  for (size_t before = 0; out.kept.size() != before || before == 0;) {  // two files of one tokenizer may each need what the other does not
    before = out.kept.size();
    if (json) keep_json(parsed, kept);
    if (model) keep_pieces(pieces, kept);
    out.kept = kept.sorted();
    check(!out.kept.empty(), "pruning the vocabulary", "tokens that stay", "none");
  }
  const Renumbering numbers(out.kept);

  TokenizerSurroundings around;
  if (files.count("tokenizer_config.json")) around.config = renumbered_config(files["tokenizer_config.json"], numbers);
  const std::string own_json = json ? renumbered_json(std::move(parsed), numbers) : "";
  for (const auto& [name, content] : files) {
    if (name == "tokenizer_config.json" || name == "tokenizer.model" || (name == "tokenizer.json" && !model)) continue;
    if (name == "chat_template.jinja") around.chat_template = content;
    else if (name == "tokenizer.json") around.others.push_back({name, own_json});
    else if (name == "added_tokens.json") around.others.push_back({name, renumbered_table(content, name, numbers)});
    else if (name != "vocab.json" && name != "merges.txt") around.others.push_back({name, content});
  }
  if (model) {
    out.tokenizer = sentencepiece_tokenizer(renumbered_model(std::move(pieces), numbers), std::move(around), "the pruned tokenizer.model");
  } else if (two) {
    const Json small = parse_json(own_json, "the pruned vocabulary");
    out.tokenizer = gpt2_tokenizer(to_line(small.at("model").at("vocab")), merges_file(small), std::move(around), "the pruned vocab.json");
  } else {
    out.tokenizer = json_tokenizer(own_json, std::move(around), "the pruned tokenizer.json");
  }
  check(out.tokenizer->size() == static_cast<int64_t>(out.kept.size()), "pruning the vocabulary", str(out.kept.size(), " tokens"),
        str(out.tokenizer->size()));
  return out;
}

}  // namespace attar
