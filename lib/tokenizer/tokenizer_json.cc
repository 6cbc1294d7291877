#include "tokenizer/tokenizer_json.h"

#include <algorithm>

#include "base/check.h"
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/chat_template.h"

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

/// The ids of one special token of a template.
std::vector<int32_t> template_ids(const Json& post, const Json& item, const std::string& name) {
  const Json& tokens = post.contains("special_tokens") ? post.at("special_tokens") : Json::object();
  const std::string id = get<std::string>(item, "id", name);
  if (!tokens.is_object() || !tokens.contains(id)) fail(name, "special token '" + id + "' among special_tokens", "none");
  std::vector<int32_t> out;
  const Json& ids = tokens.at(id).contains("ids") ? tokens.at(id).at("ids") : Json::array();
  for (const Json& number : ids) {
    if (!number.is_number_integer() || number.get<int64_t>() < 0 || number.get<int64_t>() > INT32_MAX)
      fail(name + ": ids", "token ids", to_line(ids));
    out.push_back(number.get<int32_t>());
  }
  return out;
}

int32_t pair_id(const Json& post, const char* key, const std::string& name) {
  const Json& pair = post.contains(key) ? post.at(key) : Json();
  if (!pair.is_array() || pair.size() != 2 || !pair[1].is_number_integer() || pair[1].get<int64_t>() < 0 || pair[1].get<int64_t>() > INT32_MAX)
    fail(str(name, ": ", key), "a token and its id", to_line(pair).substr(0, 80));
  return pair[1].get<int32_t>();
}

/// What the post-processor puts around a text: at most one token on each side.
void read_post(const Json& post, BpeParts& parts, const std::string& name, int depth = 0) {
  if (post.is_null()) return;
  const std::string type = get<std::string>(post, "type", name);
  const std::string place = name + " " + type;
  if (depth > 8) fail(place, "sequences at most 8 deep");
  std::vector<int32_t> before, after;
  if (type == "Sequence") {
    if (post.contains("processors"))
      for (const Json& part : post.at("processors")) read_post(part, parts, name, depth + 1);
  } else if (type == "TemplateProcessing") {
    if (!post.contains("single") || !post.at("single").is_array()) fail(place + ": single", "a list", "none");
    bool seen = false;
    for (const Json& item : post.at("single")) {
      if (item.is_object() && item.contains("Sequence")) {
        if (seen) fail(place + ": single", "the text once", to_line(post.at("single")).substr(0, 200));
        seen = true;
      } else if (item.is_object() && item.contains("SpecialToken")) {
        for (const int32_t id : template_ids(post, item.at("SpecialToken"), place)) (seen ? after : before).push_back(id);
      } else {
        fail(place + ": single", "Sequence or SpecialToken", to_line(item).substr(0, 80));
      }
    }
    if (!seen || before.size() > 1 || after.size() > 1)
      fail(place + ": single", "the text with at most one token before and one behind", to_line(post.at("single")).substr(0, 200));
  } else if (type == "RobertaProcessing" || type == "BertProcessing") {
    before.push_back(pair_id(post, "cls", place));
    after.push_back(pair_id(post, "sep", place));
  } else if (type != "ByteLevel") {
    fail(name, "TemplateProcessing, ByteLevel, RobertaProcessing, BertProcessing or a Sequence of them", type);
  }
  if ((!before.empty() && parts.first) || (!after.empty() && parts.last)) fail(place, "one post-processor that adds tokens", "two");
  if (!before.empty()) parts.first = before[0];
  if (!after.empty()) parts.last = after[0];
}

/// A unigram model's list of tokens with their scores.
void read_unigram(const Json& model, BpeParts& parts, const std::string& name) {
  const Json& vocab = model.contains("vocab") ? model.at("vocab") : Json();
  if (!vocab.is_array() || vocab.empty()) fail(name + ": vocab", "a list of tokens with scores", to_line(vocab).substr(0, 80));
  UnigramPart part;
  for (const Json& entry : vocab) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number())
      fail(str(name, ": vocab[", part.scores.size(), "]"), "a token and its score", to_line(entry).substr(0, 80));
    parts.vocabulary.push_back(entry[0].get<std::string>());
    part.scores.push_back(entry[1].get<double>());
  }
  const size_t limit = parts.vocabulary.size() + parts.added.size() + 4096;
  for (const AddedToken& token : parts.added) place_token(parts.vocabulary, token.id, token.content, limit, name);
  const Json& unk = model.contains("unk_id") ? model.at("unk_id") : Json();
  if (!unk.is_number_integer() || unk.get<int64_t>() < 0 || unk.get<int64_t>() >= static_cast<int64_t>(part.scores.size()))
    fail(name + ": model.unk_id", str("0 to ", part.scores.size() - 1), to_line(unk).substr(0, 80));
  part.unk = unk.get<int32_t>();
  part.byte_fallback = flag_at(model, "byte_fallback");
  parts.unigram = std::move(part);
}

void take_surroundings(BpeParts& parts, const TokenizerSurroundings& around, const std::string& name) {
  if (!around.config.empty()) parts.config = parse_json(around.config, name + "/tokenizer_config.json");
  else
    for (const TokenizerFile& file : around.others)
      if (file.name == "special_tokens_map.json") parts.config = parse_json(file.content, name + "/special_tokens_map.json");
  parts.chat_template = around.chat_template;
  ChatTemplates chat = chat_templates_of(parts.config, name + "/tokenizer_config.json");
  if (parts.chat_template.empty()) parts.chat_template = std::move(chat.used);
  parts.chat_templates = std::move(chat.others);
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
  if (type != "BPE" && type != "Unigram") fail(name + ": model.type", "BPE or Unigram", type);
  if (model.contains("dropout") && model.at("dropout").is_number() && model.at("dropout").get<double>() > 0)
    fail(name + ": model.dropout", "null: ids must not be random", to_line(model.at("dropout")));
  refuse_text(model, "continuing_subword_prefix", name);
  refuse_text(model, "end_of_word_suffix", name);
  BpeParts parts;
  parts.added = json.contains("added_tokens") ? parse_added_tokens(json.at("added_tokens"), name) : std::vector<AddedToken>{};
  if (type == "Unigram") read_unigram(model, parts, name);
  else read_vocabulary(model.contains("vocab") ? model.at("vocab") : Json(), parts.added, parts.vocabulary, name);
  read_merges(model.contains("merges") ? model.at("merges") : Json::array(), parts.merges, name);
  parts.normalizer = Normalizer(part("normalizer"), name + ": normalizer");
  parts.pre_tokenizer = PreTokenizer(part("pre_tokenizer"), name + ": pre_tokenizer");
  parts.decoder = TokenDecoder(part("decoder"), name + ": decoder");
  parts.rules = str("normalizer ", to_line(part("normalizer")), " pre_tokenizer ", to_line(part("pre_tokenizer")));
  read_post(part("post_processor"), parts, name + ": post_processor");
  for (const auto& id : {parts.first, parts.last})
    if (id && *id >= static_cast<int32_t>(parts.vocabulary.size())) fail(name + ": post_processor", "a token's id", str(*id));
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
