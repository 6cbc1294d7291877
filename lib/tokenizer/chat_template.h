#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "jinja/jinja_template.h"
#include "tokenizer/tokenizer.h"

namespace attar {

/// Chat templates of a model: the one that is used, and others by name.
struct ChatTemplates {
  std::string used;                                          ///< "" if there is none
  std::vector<std::pair<std::string, std::string>> others;   ///< name and text, as they were given
};

/// "chat_template" of a tokenizer_config.json: a text, or a list of {name, template} of which "default" is used. Error naming what is neither.
ChatTemplates chat_templates_of(const Json& config, const std::string& name);
/// The same way back: the value of "chat_template"; null if there is none.
Json chat_templates_json(const ChatTemplates& templates);

/// A part of a rendered conversation; in order the parts are its text.
struct ChatPiece {
  std::string text;
  bool learn = false;   ///< an assistant wrote it, or it ends the assistant's turn
  bool apart = false;   ///< its ids do not depend on what stands before it
};

/// A tokenizer's chat template, ready for use. Renders as transformers' apply_chat_template does without tools, with one exception: the day's date
/// is not given (strftime_now is not defined), so that the same conversation always gives the same text; templates that test for it fall back on
/// their own date. What a message says never becomes a special token: only the template's own text does. Keeps a pointer to the tokenizer.
class Chat {
 public:
  /// Error naming line and construct if the template is one that attar does not render, or if there is none.
  explicit Chat(const Tokenizer& tokenizer);
  /// messages: a list of {role, content, ...}. Error with the template's own words where it refuses the conversation.
  std::string render(const Json& messages, bool add_generation_prompt) const;
  /// A conversation to learn from: the assistant's turns and what ends them, whitespace after an end mark left out, are marked `learn`.
  /// Error if the template writes earlier turns differently once later ones follow: then no text is the assistant's alone.
  std::vector<ChatPiece> pieces(const Json& messages, bool learn_all = false) const;
  /// Ids of the rendered text. BOS once: the template's, or before it where the tokenizer adds one.
  std::vector<int32_t> ids(const Json& messages, bool add_generation_prompt) const;

 private:
  Json guarded(Json messages) const;
  std::string rendered(const Json& messages, bool add_generation_prompt) const;

  const Tokenizer* tokenizer_;
  JinjaTemplate template_;
  std::vector<std::string> specials_;  ///< texts that would be read as special tokens, longest first
};

}  // namespace attar
