#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "data/json_schema.h"
#include "data/task.h"

namespace attar {

struct TaskRows::State {
  TaskConfig task;
  std::map<std::string, int64_t> numbers;  ///< of the labels
  std::string labels;                      ///< all of them, for {labels}
  std::optional<JsonSchema> schema;

  /// The texts of a row's choices: one field's list, or a field for each.
  std::vector<std::string> choices(const RecordReader& records, const Json& record) const {
    std::vector<std::string> out;
    if (task.choices.size() > 1) {
      for (const std::string& field : task.choices)
        if (std::string text = records.text(record, field); !text.empty()) out.push_back(std::move(text));
    } else {
      const std::string where = records.place() + ": field '" + task.choices[0] + "'";
      const auto found = record.find(task.choices[0]);
      if (found == record.end()) fail(where, "in every row", "nothing", "name yours with choices in the task file");
      // A list that came through CSV is JSON text.
      const Json list = found->is_string() ? parse_json(found->get<std::string>(), where) : *found;
      check(list.is_array(), where, "a list of texts", to_line(list).substr(0, 60));
      for (const Json& item : list) {
        if (!item.is_string() && !item.is_number()) fail(where, "a list of texts", to_line(list).substr(0, 60));
        out.push_back(item.is_string() ? item.get<std::string>() : to_line(item));
      }
    }
    check(out.size() >= 2 && out.size() <= 26, records.place() + ": choices", "2 to 26", str(out.size()));
    return out;
  }

  /// Which choice a label means: by its text, its letter or its number from 0.
  int64_t choice_of(const std::string& label, const std::vector<std::string>& texts, const std::string& place) const {
    const int64_t count = static_cast<int64_t>(texts.size());
    std::vector<int64_t> meant;
    const auto same = std::count(texts.begin(), texts.end(), label);
    if (same == 1) meant.push_back(std::find(texts.begin(), texts.end(), label) - texts.begin());
    if (label.size() == 1 && label[0] >= 'A' && label[0] < 'A' + count) meant.push_back(label[0] - 'A');
    int64_t number = -1;
    const auto [end, problem] = std::from_chars(label.data(), label.data() + label.size(), number);
    if (problem == std::errc() && end == label.data() + label.size() && number >= 0 && number < count) meant.push_back(number);
    if (meant.empty())
      fail(place + ": label '" + label + "'", "a choice's letter, number or text",
           same > 1 ? "the text of two choices" : "none of the " + str(count, " choices"), nearest_hint(label, texts));
    for (const int64_t other : meant)
      if (other != meant[0])
        fail(place + ": label '" + label + "'", "one choice", "two, one by its text and one by its letter or number", "write letters");
    return meant[0];
  }

  void choose(const RecordReader& records, const Json& record, std::map<std::string, std::string>& fields, bool answered, TaskExample& out) const {
    const std::vector<std::string> texts = choices(records, record);
    std::string lines;
    for (size_t i = 0; i < texts.size(); ++i) lines += (i ? "\n" : "") + std::string(1, static_cast<char>('A' + i)) + ". " + texts[i];
    const int64_t right = answered ? choice_of(records.text(record, task.label), texts, records.place()) : 0;
    fields["choices"] = lines;
    for (size_t i = 0; i < texts.size(); ++i) {
      fields["label"] = texts[i];
      fields["letter"] = std::string(1, static_cast<char>('A' + i));
      out.choices.push_back(fill_template(task.answer, fields));
      if (out.choices.back().empty()) fail(records.place() + ": choice " + fields["letter"], "text", "nothing");
      if (std::find(out.choices.begin(), out.choices.end() - 1, out.choices.back()) != out.choices.end() - 1)
        fail(records.place() + ": choice " + fields["letter"], "another answer than the other choices'", out.choices.back().substr(0, 60));
    }
    // The prompt must not tell which choice is right.
    fields.erase("label");
    fields.erase("letter");
    out.label = right;
    if (answered) out.answer = out.choices[static_cast<size_t>(right)];
  }

  void classify(const RecordReader& records, const Json& record, std::map<std::string, std::string>& fields, bool answered, TaskExample& out) const {
    if (!labels.empty()) fields["labels"] = labels;
    if (!answered && !record.contains(task.label)) return;
    const std::string label = records.text(record, task.label);
    fields["label"] = label;
    if (!answered) return;
    if (!numbers.empty()) {
      const auto found = numbers.find(label);
      if (found == numbers.end())
        fail(records.place() + ": label '" + label + "'", "a label of task " + task.name, "one that it does not have",
             nearest_hint(label, task.labels));
      out.label = found->second;
    }
    out.answer = fill_template(task.answer, fields);
    if (out.answer.empty()) fail(records.place() + ": field '" + task.label + "'", "an answer", "empty text");
  }

  void extract(const RecordReader& records, const Json& record, TaskExample& out) const {
    const std::string where = records.place() + ": field '" + task.label + "'";
    const auto found = record.find(task.label);
    if (found == record.end()) fail(where, "in every row", "nothing");
    const Json object = found->is_string() ? parse_json(found->get<std::string>(), where) : *found;
    check(object.is_object(), where, "a JSON object", to_line(object).substr(0, 60));
    const Json ordered = schema->in_order(object);
    if (const std::string problem = schema->problem(ordered); !problem.empty()) fail(where, "an object by " + task.schema, problem);
    out.answer = fill_template(task.answer, {{"label", to_line(ordered)}});
  }

  void answer_freely(const RecordReader& records, const Json& record, std::map<std::string, std::string>& fields, TaskExample& out) const {
    const auto found = record.find(task.label);
    std::vector<std::string> texts;
    if (found != record.end() && found->is_array()) {
      for (const Json& item : *found) {
        if (!item.is_string()) fail(records.place() + ": field '" + task.label + "'", "a text or a list of texts", to_line(*found).substr(0, 60));
        texts.push_back(item.get<std::string>());
      }
      if (texts.empty()) fail(records.place() + ": field '" + task.label + "'", "an answer", "an empty list");
    } else {
      texts.push_back(records.text(record, task.label));
    }
    for (const std::string& text : texts) {
      fields["label"] = text;
      out.accepted.push_back(fill_template(task.answer, fields));
      if (out.accepted.back().empty()) fail(records.place() + ": field '" + task.label + "'", "an answer", "empty text");
    }
    out.answer = out.accepted[0];
  }

  /// The text up to its last word, and that word behind a space.
  void split_word(const RecordReader& records, const std::string& text, TaskExample& out) const {
    constexpr const char* kSpace = " \t\r\n";
    const size_t end = text.find_last_not_of(kSpace), space = end == std::string::npos ? end : text.find_last_of(kSpace, end);
    const size_t before = space == std::string::npos ? space : text.find_last_not_of(kSpace, space);
    if (before == std::string::npos) fail(records.place() + ": field '" + task.text + "'", "two words or more", "'" + text.substr(0, 40) + "'");
    out.prompt = text.substr(0, before + 1);
    out.answer = " " + text.substr(space + 1, end - space);
  }
};

TaskRows::TaskRows(const TaskConfig& task) {
  State state;
  state.task = task;
  for (const auto& label : task.labels) {
    state.numbers.emplace(label, static_cast<int64_t>(state.numbers.size()));
    state.labels += (state.labels.empty() ? "" : ", ") + label;
  }
  if (task.kind == "extraction") state.schema = JsonSchema::read(task.schema);
  state_ = std::make_unique<const State>(std::move(state));
}

TaskRows::~TaskRows() = default;

TaskExample TaskRows::example(const RecordReader& records, const Json& record, bool answered) const {
  const State& s = *state_;
  TaskExample out{"", 0, records.line()};
  auto fields = records.texts(record);
  const std::string text = records.text(record, s.task.text);
  fields["text"] = text;
  if (s.task.kind == "next_word") {
    s.split_word(records, text, out);
    return out;
  }
  if (s.task.kind == "multiple_choice") s.choose(records, record, fields, answered, out);
  else if (s.task.kind == "classification") s.classify(records, record, fields, answered, out);
  else if (!answered) fields.erase("label");
  else if (s.task.kind == "extraction") s.extract(records, record, out);
  else s.answer_freely(records, record, fields, out);
  out.prompt = fill_template(s.task.prompt, fields);
  return out;
}

Document TaskRows::document(const RecordReader& records, const Json& record, bool learn_prompt) const {
  Document out;
  if (state_->task.kind == "next_word") {
    out.pieces.push_back({records.text(record, state_->task.text), true});
    return out;
  }
  TaskExample row = example(records, record);
  out.whole = true;
  if (!row.prompt.empty()) {
    out.pieces.push_back({std::move(row.prompt), learn_prompt});
    out.prompt_pieces = 1;
  }
  out.pieces.push_back({std::move(row.answer), true});
  return out;
}

std::vector<TaskExample> read_task(const fs::path& file, const TaskConfig& task, int64_t limit) {
  const TaskRows rows(task);
  std::vector<TaskExample> out;
  RecordReader records(file);
  Json record;
  while ((limit == 0 || static_cast<int64_t>(out.size()) < limit) && records.next(record)) out.push_back(rows.example(records, record));
  if (out.empty()) fail(file.string(), "rows of data", "none");
  return out;
}

}  // namespace attar
