#include "tokenizer/chat_template.h"

#include <algorithm>

#include "base/check.h"
#include "base/utf8.h"

namespace attar {
namespace {

/// U+FDD0, a code point that is no character: put into a message where its text would read as a special token, taken out after rendering.
const std::string kGuard = "\xEF\xB7\x90";

JinjaTemplate template_of(const Tokenizer& tokenizer) {
  const std::string text = tokenizer.chat_template();
  if (text.empty()) fail("the tokenizer", "a chat template", "none", "a base model knows no turns: give it text to go on from");
  return JinjaTemplate(text);
}

std::vector<std::string> special_texts(const Tokenizer& tokenizer) {
  std::vector<std::string> out;
  for (int64_t id = 0; id < tokenizer.size(); ++id) {
    const std::string text = tokenizer.piece(static_cast<int32_t>(id));
    if (!text.empty() && is_utf8(text) && tokenizer.encode(text, true) != tokenizer.encode(text, false)) out.push_back(text);
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.size() != b.size() ? a.size() > b.size() : a < b; });
  return out;
}

/// `text` without guards, as pieces: one ends where a guard stood.
void add_pieces(std::string_view text, bool learn, bool& apart, std::vector<ChatPiece>& out) {
  for (;;) {
    const size_t guard = text.find(kGuard);
    const std::string_view part = text.substr(0, guard);
    if (!part.empty()) {
      out.push_back({std::string(part), learn, apart});
      apart = false;
    }
    if (guard == std::string_view::npos) return;
    apart = true;
    text.remove_prefix(guard + kGuard.size());
  }
}

void check_messages(const Json& messages) {
  if (!messages.is_array() || messages.empty()) fail("messages", "a list of {role, content}", to_line(messages).substr(0, 40));
}

}  // namespace

ChatTemplates chat_templates_of(const Json& config, const std::string& name) {
  ChatTemplates out;
  const auto found = config.find("chat_template");
  if (!config.is_object() || found == config.end() || found->is_null()) return out;
  if (found->is_string()) {
    out.used = found->get<std::string>();
    return out;
  }
  const std::string what = name + ": chat_template";
  if (!found->is_array()) fail(what, "a text, or a list of {name, template}", to_line(*found).substr(0, 60));
  for (const Json& entry : *found) {
    const bool whole =
        entry.is_object() && entry.contains("name") && entry["name"].is_string() && entry.contains("template") && entry["template"].is_string();
    if (!whole) fail(what, "entries {name, template}, both text", to_line(entry).substr(0, 60));
    if (entry["name"] == "default") out.used = entry["template"].get<std::string>();
    else out.others.emplace_back(entry["name"].get<std::string>(), entry["template"].get<std::string>());
  }
  return out;
}

Json chat_templates_json(const ChatTemplates& templates) {
  if (templates.others.empty()) return templates.used.empty() ? Json() : Json(templates.used);
  Json out = Json::array();
  if (!templates.used.empty()) out.push_back({{"name", "default"}, {"template", templates.used}});
  for (const auto& [name, text] : templates.others) out.push_back({{"name", name}, {"template", text}});
  return out;
}

Chat::Chat(const Tokenizer& tokenizer) : tokenizer_(&tokenizer), template_(template_of(tokenizer)), specials_(special_texts(tokenizer)) {}

/// The messages with guards in every text that would read as a special token.
Json Chat::guarded(Json messages) const {
  const auto guard = [&](auto&& self, Json& value) -> void {
    if (value.is_string()) {
      auto& text = value.get_ref<std::string&>();
      if (!is_utf8(text)) fail("a message", "UTF-8", "other bytes");
      if (text.find(kGuard) != std::string::npos) fail("a message", "characters", "U+FDD0, which is none");
      for (const std::string& special : specials_)
        for (size_t at = 0; (at = text.find(special, at)) != std::string::npos; at += special.size()) text.insert(at + utf8_length(text, at), kGuard);
    } else if (value.is_array()) {
      for (Json& part : value) self(self, part);
    } else if (value.is_object()) {
      for (auto& [key, part] : value.items())
        if (key != "role") self(self, part);
    }
  };
  guard(guard, messages);
  return messages;
}

std::string Chat::rendered(const Json& messages, bool add_generation_prompt) const {
  JinjaValue::Map variables;
  variables.emplace_back("messages", jinja_from(messages));
  variables.emplace_back("tools", jinja_none());
  variables.emplace_back("documents", jinja_none());
  variables.emplace_back("add_generation_prompt", jinja_bool(add_generation_prompt));
  const auto mark = [&](const char* name, std::optional<int32_t> id) {
    if (id) variables.emplace_back(name, jinja_text(tokenizer_->piece(*id)));
  };
  mark("bos_token", tokenizer_->bos());
  mark("eos_token", tokenizer_->eos());
  mark("pad_token", tokenizer_->pad());
  return template_.render(jinja_map(std::move(variables)));
}

std::string Chat::render(const Json& messages, bool add_generation_prompt) const {
  check_messages(messages);
  std::string out = rendered(guarded(messages), add_generation_prompt);
  for (size_t at = 0; (at = out.find(kGuard, at)) != std::string::npos;) out.erase(at, kGuard.size());
  return out;
}

std::vector<ChatPiece> Chat::pieces(const Json& given, bool learn_all) const {
  check_messages(given);
  const Json messages = guarded(given);
  const std::string whole = rendered(messages, false);
  std::vector<ChatPiece> out;
  bool apart = false;
  size_t at = 0;
  Json part = Json::array();
  for (size_t i = 0; i < messages.size() && !learn_all; ++i) {
    const Json& message = messages[i];
    const bool assistant = message.is_object() && message.contains("role") && message["role"] == "assistant";
    const std::string before = assistant && i > 0 ? rendered(part, true) : "";
    part.push_back(message);
    if (!assistant) continue;
    if (i == 0) fail("the conversation", "a message before the assistant's first", "none", "data.learn: all learns every turn");
    const std::string after = i + 1 == messages.size() ? whole : rendered(part, false);
    if (!whole.starts_with(after) || !after.starts_with(before) || before.size() < at)
      fail(str("the chat template at message ", i + 1), "to write a turn the same whatever follows it", "it writes earlier turns differently",
           "data.chat: chatml, or data.learn: all, or one turn a row");
    std::string_view turn = std::string_view(after).substr(before.size());
    const std::string said = message.contains("content") && message["content"].is_string() ? message["content"].get<std::string>() : "";
    const std::string_view words = python_strip(said, false, true), shorter = python_strip(turn, false, true);
    // Newlines after an end mark belong to nobody: the model has stopped by then.
    if (words.empty() ? !shorter.empty() : !shorter.ends_with(words)) turn = shorter;
    add_pieces(std::string_view(whole).substr(at, before.size() - at), false, apart, out);
    add_pieces(turn, true, apart, out);
    at = before.size() + turn.size();
  }
  add_pieces(std::string_view(whole).substr(at), learn_all, apart, out);
  return out;
}

std::vector<int32_t> Chat::ids(const Json& messages, bool add_generation_prompt) const {
  check_messages(messages);
  std::vector<ChatPiece> parts;
  bool apart = false;
  add_pieces(rendered(guarded(messages), add_generation_prompt), false, apart, parts);
  std::vector<int32_t> out;
  for (const ChatPiece& part : parts)
    for (const int32_t id : tokenizer_->encode(part.text, true)) out.push_back(id);
  const auto bos = tokenizer_->bos();
  if (bos && tokenizer_->add_bos() && (out.empty() || out.front() != *bos)) out.insert(out.begin(), *bos);
  return out;
}

}  // namespace attar
