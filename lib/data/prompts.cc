#include "data/prompts.h"

#include <algorithm>

#include "base/check.h"
#include "base/utf8.h"
#include "data/row_reader.h"
#include "data/task.h"
#include "tokenizer/chat_template.h"

namespace attar {
namespace {

bool uses_template(const Tokenizer& tokenizer, const DataConfig& config) { return config.chat == "auto" && !tokenizer.chat_template().empty(); }

/// A conversation in ChatML, up to where the assistant begins.
std::vector<int32_t> chatml_prompt(const Json& messages, const Tokenizer& tokenizer) {
  Document document;
  for (const Json& message : messages) {
    document.pieces.push_back({"<|im_start|>", false, true});
    document.pieces.push_back({message["role"].get<std::string>() + "\n", false});
    const std::string content = message["content"].get<std::string>();
    if (!content.empty()) document.pieces.push_back({content, false});
    document.pieces.push_back({"<|im_end|>", false, true});
    document.pieces.push_back({"\n", false});
  }
  document.pieces.push_back({"<|im_start|>", false, true});
  document.pieces.push_back({"assistant\n", false});
  std::vector<int32_t> ids = render_document(document, tokenizer).ids;
  if (tokenizer.eos()) ids.pop_back();
  return ids;
}

}  // namespace

struct PromptReader::State {
  std::vector<fs::path> files;
  DataConfig config;
  std::unique_ptr<const TaskRows> task;
  const Tokenizer& tokenizer;
  int64_t prefix;
  size_t file = 0;
  int64_t given = 0;
  std::unique_ptr<RecordReader> records;
  std::unique_ptr<const Chat> chat_template;
  std::vector<int32_t> text;   ///< ids of the text that is being cut
  size_t begin = 0;            ///< of its next stretch

  std::string kind_of(const Json& record) const {
    if (task) return "task";
    if (config.kind != "auto") return config.kind;
    if (record.contains(config.messages)) return "chat";
    if (record.contains(config.prompt)) return "answers";
    if (record.contains(config.text)) return "text";
    fail(records->place(), "a field '" + config.prompt + "', '" + config.messages + "' or '" + config.text + "'", "others",
         "name yours with data.prompt, data.messages or data.text");
  }

  void take_text(const std::string& content) {
    text = tokenizer.encode(content);
    begin = 0;
  }
  /// The next stretch of the open text; one that is too short to have something after it is passed over.
  bool next_stretch(Prompt& out) {
    while (begin < text.size()) {
      const size_t end = std::min(text.size(), begin + static_cast<size_t>(config.seq)), count = std::min(static_cast<size_t>(prefix), end - begin);
      const size_t from = begin;
      begin = end;
      if (from > 0 && count < static_cast<size_t>(prefix)) continue;
      out = Prompt{Prompt::Kind::text, Json::object(), {}, 0};
      if (tokenizer.add_bos() && tokenizer.bos()) out.ids.push_back(*tokenizer.bos()), out.bos = 1;
      out.ids.insert(out.ids.end(), text.begin() + static_cast<int64_t>(from), text.begin() + static_cast<int64_t>(from + count));
      return true;
    }
    return false;
  }

  void take_chat(const Json& record, Prompt& out) {
    const std::string where = records->place() + ": field '" + config.messages + "'";
    const auto field = record.find(config.messages);
    if (field == record.end() || !field->is_array() || field->empty()) fail(where, "a list of {role, content}", "something else");
    size_t count = field->size();
    for (size_t i = 0; i < field->size(); ++i) {
      const Json& message = (*field)[i];
      const bool right = message.is_object() && message.contains("role") && message["role"].is_string() && message.contains("content") &&
                         message["content"].is_string();
      if (!right) fail(where, "messages {role, content}, both text", to_line(message).substr(0, 60));
      if (message["role"] == "assistant") count = i;
    }
    if (count == 0) fail(where, "a message before the assistant's", "none");
    Json messages = Json::array();
    for (size_t i = 0; i < count; ++i) messages.push_back((*field)[i]);
    try {
      if (uses_template(tokenizer, config)) {
        if (!chat_template) chat_template = std::make_unique<const Chat>(tokenizer);
        out.ids = chat_template->ids(messages, true);
      } else {
        out.ids = chatml_prompt(messages, tokenizer);
      }
    } catch (const Error& error) {
      Fault fault = error.faults().front();
      fault.what = where + ": " + fault.what;
      throw Error(std::move(fault));
    }
    out.kind = Prompt::Kind::chat;
    out.record = {{config.messages, std::move(messages)}};
  }

  void take_question(const Json& record, Prompt& out) {
    std::string prompt = task ? task->example(*records, record, false).prompt : records->text(record, config.prompt);
    if (prompt.empty()) fail(records->place() + (task ? ": the task's prompt" : ": field '" + config.prompt + "'"), "a prompt", "empty text");
    out.kind = Prompt::Kind::answer;
    out.ids = prompt_ids(prompt, tokenizer);
    out.record = {{config.prompt, std::move(prompt)}};
  }
};

PromptReader::PromptReader(const fs::path& path, const DataConfig& config, const TaskConfig* task, const Tokenizer& tokenizer, int64_t prefix)
    : state_(new State{.files = data_files(path), .config = config, .task = {}, .tokenizer = tokenizer, .prefix = prefix}) {
  // The checks of its keys are the document reader's.
  DocumentReader(path, config, task, &tokenizer);
  check(prefix >= 1, "prefix", "1 or more", str(prefix));
  if (task && config.kind == "auto") state_->task = std::make_unique<const TaskRows>(*task);
}

PromptReader::~PromptReader() = default;

bool PromptReader::next(Prompt& prompt) {
  State& s = *state_;
  for (;;) {
    if (s.next_stretch(prompt)) return true;
    if ((s.config.limit > 0 && s.given >= s.config.limit) || s.file >= s.files.size()) return false;
    const fs::path& path = s.files[s.file];
    if (text_ending(path) == ".txt") {
      if (s.config.kind == "answers" || s.config.kind == "chat")
        fail(path.string(), "rows (.jsonl or .csv) for data.kind " + s.config.kind, "plain text");
      ++s.file, ++s.given;
      s.take_text(read_text(path));
      continue;
    }
    if (!s.records) s.records = std::make_unique<RecordReader>(path);
    Json record;
    if (!s.records->next(record)) {
      s.records.reset();
      ++s.file;
      continue;
    }
    ++s.given;
    prompt = Prompt{};
    const std::string kind = s.kind_of(record);
    if (kind == "text") {
      s.take_text(s.records->text(record, s.config.text));
      continue;
    }
    if (kind == "chat") s.take_chat(record, prompt);
    else s.take_question(record, prompt);
    prompt.bos = s.tokenizer.bos() && !prompt.ids.empty() && prompt.ids.front() == *s.tokenizer.bos() ? 1 : 0;
    return true;
  }
}

namespace {

/// A whole text, of a continued one the beginning too, into the prompt's row.
bool row_of_text(const Prompt& prompt, std::string bytes, const DataConfig& config, Json& row, std::string& why) {
  // A text that was cut inside a character loses that character.
  const std::string text = complete_utf8(bytes);
  why = text.find_first_not_of(" \t\r\n") == std::string::npos ? "empty" : is_utf8(text) ? "" : "broken";
  if (!why.empty()) return false;
  row = prompt.record;
  if (prompt.kind == Prompt::Kind::chat) row[config.messages].push_back({{"role", "assistant"}, {"content", text}});
  else row[prompt.kind == Prompt::Kind::text ? config.text : config.answer] = text;
  return true;
}

}  // namespace

bool written_row(const Prompt& prompt, const std::vector<int32_t>& ids, const Tokenizer& tokenizer, const DataConfig& config, Json& row,
                 std::string& why) {
  std::vector<int32_t> all;
  if (prompt.kind == Prompt::Kind::text) all.assign(prompt.ids.begin() + prompt.bos, prompt.ids.end());
  all.insert(all.end(), ids.begin(), ids.end());
  return row_of_text(prompt, tokenizer.decode(all), config, row, why);
}

bool written_text_row(const Prompt& prompt, const std::string& text, const Tokenizer& tokenizer, const DataConfig& config, Json& row,
                      std::string& why) {
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) {
    why = "empty";
    return false;
  }
  std::string begun;
  if (prompt.kind == Prompt::Kind::text) begun = tokenizer.decode({prompt.ids.begin() + prompt.bos, prompt.ids.end()});
  return row_of_text(prompt, begun + text, config, row, why);
}

std::vector<int64_t> ending_ids(const Tokenizer& tokenizer, const DataConfig& config) {
  std::vector<int64_t> out;
  if (tokenizer.eos()) out.push_back(*tokenizer.eos());
  std::string end = "<|im_end|>";
  if (uses_template(tokenizer, config)) {
    end.clear();
    try {
      const std::string answer = "answer";
      const Json messages = {{{"role", "user"}, {"content", "question"}}, {{"role", "assistant"}, {"content", answer}}};
      for (const ChatPiece& piece : Chat(tokenizer).pieces(messages))
        if (piece.learn) end += piece.text;
      const size_t at = end.rfind(answer);
      end = at == std::string::npos ? "" : end.substr(at + answer.size());
    } catch (const Error&) {
      // A template that refuses this conversation may still render others; then EOS alone ends a text.
    }
  }
  const std::vector<int32_t> ids = end.empty() ? std::vector<int32_t>() : tokenizer.encode(end, true);
  // Only a special token: an ordinary one may stand inside an answer.
  if (!ids.empty() && tokenizer.encode(tokenizer.piece(ids.front()), false) != std::vector<int32_t>{ids.front()}) out.push_back(ids.front());
  return out;
}

}  // namespace attar
