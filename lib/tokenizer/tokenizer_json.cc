#include "tokenizer/tokenizer_json.h"

#include <algorithm>

#include "base/check.h"
#include "tokenizer/bpe_tokenizer.h"

namespace attar {
namespace {

/// Puts a token at its id; ids may leave few holes.
void place_token(std::vector<std::string>& vocabulary, int64_t id, const std::string& text, size_t limit, const std::string& name) {
  if (id < 0 || static_cast<uint64_t>(id) >= limit) fail(name + ": id of token '" + text + "'", str("0 to ", limit - 1), str(id));
  if (vocabulary.size() <= static_cast<size_t>(id)) vocabulary.resize(static_cast<size_t>(id) + 1);
  if (!vocabulary[id].empty() && vocabulary[id] != text) fail(str(name, ": id ", id), "one token", "'" + vocabulary[id] + "' and '" + text + "'");
  vocabulary[id] = text;
}

void read_vocabulary(const Json& json, const std::vector<AddedToken>& added, std::vector<std::string>& vocabulary, const std::string& name) {
  if (!json.is_object() || json.empty()) fail(name + ": vocab", "an object of tokens and ids", "something else");
  const size_t limit = json.size() * 2 + added.size() + 4096;
  for (const auto& [text, id] : json.items()) {
    if (!id.is_number_integer()) fail(name + ": vocab '" + text + "'", "a token id", to_line(id).substr(0, 80));
    place_token(vocabulary, id.get<int64_t>(), text, limit, name);
  }
  for (const AddedToken& token : added) place_token(vocabulary, token.id, token.content, limit, name);
}

std::pair<std::string, std::string> read_merge(std::string_view line, size_t number, const std::string& name) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0 || space + 1 == line.size() || line.find(' ', space + 1) != std::string_view::npos)
    fail(str(name, ": merge rule ", number), "two tokens with one space between", "'" + std::string(line.substr(0, 80)) + "'");
  return {std::string(line.substr(0, space)), std::string(line.substr(space + 1))};
}

void read_merges(const Json& json, std::vector<std::pair<std::string, std::string>>& merges, const std::string& name) {
  if (!json.is_array()) fail(name + ": merges", "a list", to_line(json).substr(0, 80));
  for (const Json& merge : json) {
    if (merge.is_string()) {
      merges.push_back(read_merge(merge.get_ref<const std::string&>(), merges.size(), name));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    } else {
      fail(str(name, ": merge rule ", merges.size()), "two tokens", to_line(merge).substr(0, 80));
    }
  }
}

bool flag_at(const Json& json, const char* key) { return json.contains(key) && json.at(key).is_boolean() && json.at(key).get<bool>(); }

void refuse_text(const Json& model, const char* key, const std::string& name) {
  if (model.contains(key) && model.at(key).is_string() && !model.at(key).get_ref<const std::string&>().empty())
    fail(name + ": model." + key, "nothing", to_line(model.at(key)));
}

/// The token that the post-processor puts first, if it is one: TemplateProcessing, alone or in a sequence.
std::optional<int32_t> first_of(const Json& post) {
  if (!post.is_object() || !post.contains("type")) return std::nullopt;
  if (post.at("type") == "Sequence" && post.contains("processors")) {
    for (const Json& part : post.at("processors"))
      if (const auto found = first_of(part)) return found;
    return std::nullopt;
  }
  if (post.at("type") != "TemplateProcessing" || !post.contains("single") || !post.at("single").is_array() ||
      post.at("single").empty()) return std::nullopt;
  const Json& first = post.at("single")[0];
  if (!first.is_object() || !first.contains("SpecialToken") || !first.at("SpecialToken").contains("id")) return std::nullopt;
  const Json& id = first.at("SpecialToken").at("id");
  if (!id.is_string() || !post.contains("special_tokens") || !post.at("special_tokens").contains(id.get<std::string>())) return std::nullopt;
  const Json& token = post.at("special_tokens").at(id.get<std::string>());
  if (!token.contains("ids") || !token.at("ids").is_array() || token.at("ids").size() != 1 ||
      !token.at("ids")[0].is_number_integer()) return std::nullopt;
  const auto number = token.at("ids")[0].get<int64_t>();
  return number >= 0 && number <= INT32_MAX ? std::optional(static_cast<int32_t>(number)) : std::nullopt;
}

void take_surroundings(BpeParts& parts, const TokenizerSurroundings& around, const std::string& name) {
  if (!around.config.empty()) parts.config = parse_json(around.config, name + "/tokenizer_config.json");
  else
    for (const TokenizerFile& file : around.others)
      if (file.name == "special_tokens_map.json") parts.config = parse_json(file.content, name + "/special_tokens_map.json");
  parts.chat_template = around.chat_template;
  if (parts.chat_template.empty() && parts.config.contains("chat_template") && parts.config.at("chat_template").is_string())
    parts.chat_template = parts.config.at("chat_template").get<std::string>();
  if (!around.config.empty()) parts.files.push_back({"tokenizer_config.json", around.config});
  for (const TokenizerFile& file : around.others) parts.files.push_back(file);
  if (!around.chat_template.empty()) parts.files.push_back({"chat_template.jinja", around.chat_template});
}

}  // namespace

std::shared_ptr<const Tokenizer> json_tokenizer(std::string text, TokenizerSurroundings surroundings, const std::string& name) {
  const Json json = parse_json(text, name);
  if (!json.is_object() || !json.contains("model") || !json.at("model").is_object()) fail(name, "a tokenizer.json with a model", "none");
  const Json& model = json.at("model");
  const std::string type = model.contains("type") ? get<std::string>(model, "type", name + ": model") : model.contains("merges") ? "BPE" : "unknown";
  const auto part = [&](const char* key) -> const Json& {
    static const Json kNull;
    return json.contains(key) ? json.at(key) : kNull;
  };
  if (type != "BPE") fail(name + ": model.type", "BPE", type);
  if (model.contains("dropout") && model.at("dropout").is_number() && model.at("dropout").get<double>() > 0)
    fail(name + ": model.dropout", "null: ids must not be random", to_line(model.at("dropout")));
  refuse_text(model, "continuing_subword_prefix", name);
  refuse_text(model, "end_of_word_suffix", name);
  BpeParts parts;
  parts.added = json.contains("added_tokens") ? parse_added_tokens(json.at("added_tokens"), name) : std::vector<AddedToken>{};
  read_vocabulary(model.contains("vocab") ? model.at("vocab") : Json(), parts.added, parts.vocabulary, name);
  read_merges(model.contains("merges") ? model.at("merges") : Json::array(), parts.merges, name);
  parts.normalizer = Normalizer(part("normalizer"), name + ": normalizer");
  parts.pre_tokenizer = PreTokenizer(part("pre_tokenizer"), name + ": pre_tokenizer");
  parts.decoder = TokenDecoder(part("decoder"), name + ": decoder");
  parts.rules = str("normalizer ", to_line(part("normalizer")), " pre_tokenizer ", to_line(part("pre_tokenizer")));
  parts.first = first_of(part("post_processor"));
  if (parts.first && *parts.first >= static_cast<int32_t>(parts.vocabulary.size())) fail(name + ": post_processor", "a token's id",
      str(*parts.first));
  parts.options.byte_level = parts.pre_tokenizer.byte_level();
  parts.options.byte_fallback = flag_at(model, "byte_fallback");
  parts.options.fuse_unk = flag_at(model, "fuse_unk");
  parts.options.ignore_merges = flag_at(model, "ignore_merges");
  if (model.contains("unk_token") && model.at("unk_token").is_string()) {
    const auto found = std::find(parts.vocabulary.begin(), parts.vocabulary.end(), model.at("unk_token").get<std::string>());
    if (found != parts.vocabulary.end()) parts.options.unk = static_cast<int32_t>(found - parts.vocabulary.begin());
  }
  parts.files.push_back({"tokenizer.json", std::move(text)});
  take_surroundings(parts, surroundings, name);
  return bpe_tokenizer(std::move(parts), name);
}

std::shared_ptr<const Tokenizer> gpt2_tokenizer(std::string vocab, std::string merges, TokenizerSurroundings surroundings, const std::string& name) {
  BpeParts parts;
  const Json json = parse_json(vocab, name + "/vocab.json");
  if (json.is_object() && json.contains("<|endoftext|>") && json.at("<|endoftext|>").is_number_integer())
    parts.added.push_back({.id = json.at("<|endoftext|>").get<int32_t>(), .content = "<|endoftext|>", .special = true});
  read_vocabulary(json, parts.added, parts.vocabulary, name + "/vocab.json");
  const std::string place = name + "/merges.txt";
  for (size_t at = 0, line = 0; at < merges.size(); ++line) {
    const size_t end = std::min(merges.find('\n', at), merges.size());
    std::string_view text = std::string_view(merges).substr(at, end - at);
    if (text.ends_with('\r')) text.remove_suffix(1);
    at = end + 1;
    if (text.empty() || (line == 0 && text.starts_with("#version"))) continue;
    parts.merges.push_back(read_merge(text, parts.merges.size(), place));
  }
  const Json pre = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  parts.pre_tokenizer = PreTokenizer(pre, name);
  parts.decoder = TokenDecoder(Json{{"type", "ByteLevel"}}, name);
  parts.rules = str("normalizer null pre_tokenizer ", to_line(pre));
  parts.options.byte_level = true;
  parts.files.push_back({"vocab.json", std::move(vocab)});
  parts.files.push_back({"merges.txt", std::move(merges)});
  take_surroundings(parts, surroundings, name);
  if (surroundings.config.empty()) {
    const Json config = {{"tokenizer_class", "GPT2Tokenizer"}, {"bos_token", "<|endoftext|>"}, {"eos_token", "<|endoftext|>"},
                         {"unk_token", "<|endoftext|>"}, {"add_prefix_space", false}, {"add_bos_token", false}};
    parts.files.push_back({"tokenizer_config.json", config.dump(2) + "\n"});
  }
  return bpe_tokenizer(std::move(parts), name);
}

}  // namespace attar
