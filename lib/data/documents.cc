#include "base/check.h"
#include "data/row_reader.h"
#include "data/rows.h"
#include "data/task.h"
#include "tokenizer/chat_template.h"

namespace attar {

/// Where a reader stands: the file that is open and how its rows become documents.
struct DocumentReader::State {
  std::vector<fs::path> files;
  DataConfig config;
  std::unique_ptr<const TaskRows> task;
  size_t file = 0;     ///< index of the file that is open or comes next
  int64_t given = 0;
  std::unique_ptr<RecordReader> records;
  std::string kind;    ///< of the open file's rows
  const Tokenizer* tokenizer = nullptr;
  mutable std::unique_ptr<const Chat> chat_template;   ///< made with the first chat that needs it

  std::string kind_of(const Json& record) const;
  bool document(const Json& record, Document& out) const;
  void chat(const Json& record, Document& out) const;
  void chatml(const Json& messages, Document& out) const;
  void templated(const Json& messages, Document& out) const;
  void example(const Json& record, Document& out) const;
  bool learn_all() const { return config.learn == "all"; }
};

DocumentReader::DocumentReader(const fs::path& path, const DataConfig& config, const TaskConfig* task, const Tokenizer* tokenizer)
    : state_(std::make_unique<State>()) {
  static const std::vector<std::string> kinds = {"auto", "text", "answers", "chat"}, learns = {"answer", "all"}, chats = {"auto", "chatml"};
  if (std::find(kinds.begin(), kinds.end(), config.kind) == kinds.end())
    fail("data.kind", "auto, text, answers or chat", config.kind, nearest_hint(config.kind, kinds));
  if (std::find(learns.begin(), learns.end(), config.learn) == learns.end())
    fail("data.learn", "answer or all", config.learn, nearest_hint(config.learn, learns));
  if (std::find(chats.begin(), chats.end(), config.chat) == chats.end())
    fail("data.chat", "auto or chatml", config.chat, nearest_hint(config.chat, chats));
  check(config.limit >= 0, "data.limit", "0 (all) or more", str(config.limit));
  state_->files = data_files(path);
  state_->config = config;
  if (tokenizer && config.chat == "auto" && !tokenizer->chat_template().empty()) state_->tokenizer = tokenizer;
  if (task && config.kind == "auto") state_->task = std::make_unique<const TaskRows>(*task);
}

DocumentReader::~DocumentReader() = default;

const std::vector<fs::path>& DocumentReader::files() const { return state_->files; }

bool DocumentReader::next(Document& document) {
  State& s = *state_;
  if (s.config.limit > 0 && s.given >= s.config.limit) return false;
  while (s.file < s.files.size()) {
    const fs::path& path = s.files[s.file];
    if (text_ending(path) == ".txt") {
      if (s.config.kind == "answers" || s.config.kind == "chat")
        fail(path.string(), "rows (.jsonl or .csv) for data.kind " + s.config.kind, "plain text");
      ++s.file;
      document = Document{};
      document.pieces.push_back({read_text(path), true});
      if (document.pieces[0].text.empty()) continue;
      ++s.given;
      return true;
    }
    if (!s.records) s.records = std::make_unique<RecordReader>(path);
    Json record;
    while (s.records->next(record)) {
      if (s.kind.empty()) s.kind = s.kind_of(record);
      if (!s.document(record, document)) continue;
      ++s.given;
      return true;
    }
    s.records.reset();
    s.kind.clear();
    ++s.file;
  }
  return false;
}

std::string DocumentReader::State::kind_of(const Json& record) const {
  if (task) return "task";
  if (config.kind != "auto") return config.kind;
  if (record.contains(config.messages)) return "chat";
  if (record.contains(config.prompt) && record.contains(config.answer)) return "answers";
  if (record.contains(config.text)) return "text";
  std::string names;
  for (const auto& [name, value] : record.items()) names += (names.empty() ? "" : ", ") + name;
  fail(records->place(), "a field '" + config.text + "', fields '" + config.prompt + "' and '" + config.answer + "', or '" + config.messages + "'",
       "fields " + names, "name yours with data.text, data.prompt, data.answer or data.messages");
}

bool DocumentReader::State::document(const Json& record, Document& out) const {
  out = Document{};
  if (kind == "text") {
    out.pieces.push_back({records->text(record, config.text), true});
    return !out.pieces[0].text.empty();
  }
  if (kind == "chat")
    chat(record, out);
  else
    example(record, out);
  return true;
}

void DocumentReader::State::example(const Json& record, Document& out) const {
  if (task) {
    out = task->document(*records, record, learn_all());
    return;
  }
  std::string prompt = records->text(record, config.prompt), answer = records->text(record, config.answer);
  if (answer.empty()) fail(records->place() + ": field '" + config.answer + "'", "an answer", "empty text");
  out.whole = true;
  if (!prompt.empty()) {
    out.pieces.push_back({std::move(prompt), learn_all()});
    out.prompt_pieces = 1;
  }
  out.pieces.push_back({std::move(answer), true});
}

void DocumentReader::State::chat(const Json& record, Document& out) const {
  const auto messages = record.find(config.messages);
  const std::string where = records->place() + ": field '" + config.messages + "'";
  if (messages == record.end()) fail(where, "in every row", "nothing");
  if (!messages->is_array() || messages->empty()) fail(where, "a list of {role, content}", to_line(*messages).substr(0, 40));
  out.whole = true;
  bool any = false;
  for (const Json& message : *messages) {
    const bool right = message.is_object() && message.contains("role") && message["role"].is_string() && message.contains("content") &&
                       message["content"].is_string();
    if (!right) fail(where, "messages {role, content}, both text", to_line(message).substr(0, 60));
    any = any || message["role"] == "assistant";
  }
  if (!any) fail(where, "at least one turn of role 'assistant'", "none", "there is nothing to learn in it");
  if (tokenizer) templated(*messages, out);
  else chatml(*messages, out);
}

/// ChatML: "<|im_start|>role\n", content, "<|im_end|>\n" for each message; the assistant's content and its end marker are learned.
void DocumentReader::State::chatml(const Json& messages, Document& out) const {
  bool any = false;
  for (const Json& message : messages) {
    const std::string role = message["role"].get<std::string>(), content = message["content"].get<std::string>();
    const bool assistant = role == "assistant";
    out.pieces.push_back({"<|im_start|>", learn_all(), true});
    out.pieces.push_back({role + "\n", learn_all()});
    if (assistant && !any) out.prompt_pieces = out.pieces.size();
    any = any || assistant;
    if (!content.empty()) out.pieces.push_back({content, learn_all() || assistant});
    out.pieces.push_back({"<|im_end|>", learn_all() || assistant, true});
    out.pieces.push_back({"\n", learn_all()});
  }
}

void DocumentReader::State::templated(const Json& messages, Document& out) const {
  if (!chat_template) chat_template = std::make_unique<const Chat>(*tokenizer);
  try {
    out.joined = true;
    for (ChatPiece& piece : chat_template->pieces(messages, learn_all()))
      out.pieces.push_back({std::move(piece.text), piece.learn, true, piece.apart});
  } catch (const Error& error) {
    Fault fault = error.faults().front();
    fault.what = records->place() + ": " + fault.what;
    throw Error(std::move(fault));
  }
  while (out.prompt_pieces < out.pieces.size() && !out.pieces[out.prompt_pieces].learn) ++out.prompt_pieces;
}

}  // namespace attar
