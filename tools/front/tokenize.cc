// attar tokenize: text to ids, a JSON array a line, or back.
#include <iostream>
#include <iterator>

#include "base/check.h"
#include "base/files.h"
#include "formats/text_lines.h"
#include "front/front.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/line_workers.h"
#include "tokenizer/tokenizer.h"

namespace attar {
namespace {

std::string everything(std::istream& in) { return {std::istreambuf_iterator<char>(in), {}}; }

std::string ids_line(const std::vector<int32_t>& ids) {
  std::string out = "[";
  for (size_t i = 0; i < ids.size(); ++i) out += (i ? ", " : "") + std::to_string(ids[i]);
  return out + "]";
}

std::vector<int32_t> read_ids(const std::string& line, const Tokenizer& tokenizer, int64_t number) {
  const Json json = parse_json(line, str("line ", number));
  check(json.is_array(), str("line ", number), "a JSON array of ids", line.substr(0, 60));
  std::vector<int32_t> ids;
  for (const Json& id : json) {
    check(id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() < tokenizer.size(), str("line ", number, ": id"),
          str("0 to ", tokenizer.size() - 1), to_line(id));
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

/// A line of --chat: a list of messages, or {messages, add_generation_prompt}. The prompt is on where the last message is not the assistant's.
std::string chat_line(const Chat& chat, const std::string& line, int64_t number, bool text) {
  const std::string name = str("line ", number);
  const Json json = parse_json(line, name);
  const Json& messages = json.is_object() && json.contains("messages") ? json["messages"] : json;
  check(messages.is_array() && !messages.empty() && messages.back().is_object(), name, "a list of messages {role, content}", line.substr(0, 60));
  bool prompt = messages.back().value("role", Json()) != "assistant";
  if (json.is_object() && json.contains("add_generation_prompt")) prompt = get<bool>(json, "add_generation_prompt", name);
  return text ? to_line(Json(chat.render(messages, prompt))) : ids_line(chat.ids(messages, prompt));
}

}  // namespace

int tool_tokenize(const Words& words) {
  const auto tokenizer = load_tokenizer(words.get("tokenizer"));
  const bool specials = words.has("specials");
  check(words.has("chat") || !words.has("text"), "--text", "--chat beside it", "--text alone");
  const auto chat = words.has("chat") ? std::make_unique<const Chat>(*tokenizer) : nullptr;
  const auto encode = [&](std::string_view part) {
    std::vector<int32_t> ids = tokenizer->encode(part, specials);
    if (specials && tokenizer->add_bos() && tokenizer->bos()) ids.insert(ids.begin(), *tokenizer->bos());
    if (specials && tokenizer->add_eos() && tokenizer->eos()) ids.push_back(*tokenizer->eos());
    return ids;
  };
  if (words.has("whole") && !words.has("decode")) {
    std::cout << ids_line(encode(words.has("input") ? read_file(words.get("input")) : everything(std::cin))) << "\n";
    return 0;
  }
  std::unique_ptr<LineReader> file;
  if (words.has("input")) file = std::make_unique<LineReader>(words.get("input"));
  const auto next = [&](std::string& line) { return file ? file->next(line) : static_cast<bool>(std::getline(std::cin, line)); };
  const auto work = [&](const std::string& line, int64_t number, std::string& out) {
    if (chat) out += chat_line(*chat, line, number, words.has("text"));
    else if (words.has("decode")) out += tokenizer->decode(read_ids(line, *tokenizer, number));
    else out += ids_line(encode(line));
    out += '\n';
  };
  work_lines(next, words.integer("threads"), work, [](std::string_view lines) { std::cout << lines; });
  return 0;
}

}  // namespace attar
