#include <gtest/gtest.h>

#include "base/check.h"
#include "data/json_schema.h"
#include "data/task.h"
#include "data_path.h"
#include "spec/task_check.h"

namespace attar {
namespace {

std::string fault_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

void expect_words(const std::string& message, std::initializer_list<const char*> words) {
  for (const char* word : words) EXPECT_NE(message.find(word), std::string::npos) << word << " in: " << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

TaskConfig kind_of_task(const std::string& kind) {
  TaskConfig task;
  task.name = "t", task.kind = kind, task.prompt = "{text}\n";
  return task;
}

/// All documents that a task's rows become in training.
std::vector<std::string> learned_texts(const fs::path& file, const TaskConfig& task) {
  DocumentReader reader(file, {}, &task);
  std::vector<std::string> out;
  for (Document document; reader.next(document);) {
    std::string text;
    for (const auto& piece : document.pieces) text += (piece.learn ? "<" : "") + piece.text + (piece.learn ? ">" : "");
    out.push_back(text);
  }
  return out;
}

TEST(TaskRows, ChoicesByLetterNumberOrText) {
  TestFolder folder;
  const auto file = folder / "rows.jsonl";
  TaskConfig task = kind_of_task("multiple_choice");
  task.prompt = "{text}\n{choices}\nAnswer:", task.answer = " {label}";
  write_file(file, R"({"text": "2+2", "choices": ["three", "four"], "label": "B"}
{"text": "2+2", "choices": ["three", "four", "5"], "label": 0}
{"text": "2+3", "choices": ["five", "six"], "label": "six"}
)");
  const auto rows = read_task(file, task);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].prompt, "2+2\nA. three\nB. four\nAnswer:");
  EXPECT_EQ(rows[0].choices, (std::vector<std::string>{" three", " four"}));
  EXPECT_EQ(rows[0].label, 1);
  EXPECT_EQ(rows[1].label, 0);
  EXPECT_EQ(rows[2].label, 1);
  EXPECT_EQ(rows[2].answer, " six");
  EXPECT_EQ(learned_texts(file, task)[0], "2+2\nA. three\nB. four\nAnswer:< four>");
  task.answer = "{letter}";
  EXPECT_EQ(read_task(file, task)[0].answer, "B");
  // A field for each choice; a prompt cannot see the answer.
  task.choices = {"a", "b"};
  write_file(file, "{\"text\": \"q\", \"a\": \"yes\", \"b\": \"no\", \"label\": \"no\"}\n");
  EXPECT_EQ(read_task(file, task)[0].label, 1);
  task.prompt = "{text} {label}";
  expect_words(fault_of([&] { read_task(file, task); }), {"{label}", "none of that name"});
}

TEST(TaskRows, BadChoicesAreOneSentence) {
  TestFolder folder;
  const auto file = folder / "rows.jsonl";
  const TaskConfig task = kind_of_task("multiple_choice");
  const auto said = [&](const std::string& row) {
    write_file(file, row + "\n");
    return fault_of([&] { read_task(file, task); });
  };
  expect_words(said(R"({"text": "q", "choices": ["three", "four"], "label": "fuor"})"), {"rows.jsonl:1", "'fuor'", "did you mean 'four'"});
  expect_words(said(R"({"text": "q", "choices": ["1", "0"], "label": "1"})"), {"rows.jsonl:1", "one choice", "write letters"});
  expect_words(said(R"({"text": "q", "choices": ["x"], "label": "x"})"), {"2 to 26", "received 1"});
  expect_words(said(R"({"text": "q", "choices": ["x", "x"], "label": "A"})"), {"another answer than the other choices'"});
  expect_words(said(R"({"text": "q", "label": "A"})"), {"field 'choices'", "every row"});
  expect_words(said(R"({"text": "q", "choices": "x", "label": "A"})"), {"rows.jsonl:1"});
}

TEST(TaskRows, ExtractionFollowsItsSchema) {
  TestFolder folder;
  const auto file = folder / "rows.jsonl";
  TaskConfig task = kind_of_task("extraction");
  write_file(folder / "s.json", R"({"type": "object", "properties": {"a": {"type": "string"}, "n": {"type": "integer", "minimum": 0}}, "required": ["a"]})");
  task.schema = (folder / "s.json").string();
  write_file(file, "{\"text\": \"x\", \"label\": {\"n\": 3, \"a\": \"b\", \"c\": null}}\n{\"text\": \"y\", \"label\": \"{\\\"a\\\": \\\"z\\\"}\"}\n");
  const auto rows = read_task(file, task);
  EXPECT_EQ(rows[0].answer, R"({"a":"b","n":3})");  // in the schema's order, without nulls
  EXPECT_EQ(rows[1].answer, R"({"a":"z"})");
  EXPECT_EQ(learned_texts(file, task)[1], "y\n<{\"a\":\"z\"}>");
  write_file(file, "{\"text\": \"x\", \"label\": {\"a\": \"b\", \"n\": -1}}\n");
  expect_words(fault_of([&] { read_task(file, task); }), {"rows.jsonl:1", "n: below its minimum"});
  write_file(file, "{\"text\": \"x\", \"label\": {\"n\": 1}}\n");
  expect_words(fault_of([&] { read_task(file, task); }), {"a: required"});
}

TEST(TaskRows, TextsAndWords) {
  TestFolder folder;
  const auto file = folder / "rows.jsonl";
  write_file(file, "{\"text\": \"who?\", \"label\": [\"Ann\", \"Ann Lee\"]}\n{\"text\": \"where?\", \"label\": \"here\"}\n");
  const auto rows = read_task(file, kind_of_task("text"));
  EXPECT_EQ(rows[0].accepted, (std::vector<std::string>{"Ann", "Ann Lee"}));
  EXPECT_EQ(rows[1].accepted, std::vector<std::string>{"here"});
  EXPECT_EQ(learned_texts(file, kind_of_task("text"))[0], "who?\n<Ann>");
  const TaskConfig words = kind_of_task("next_word");
  write_file(file, "{\"text\": \"she went\\n home. \"}\n");
  EXPECT_EQ(read_task(file, words)[0].prompt, "she went");
  EXPECT_EQ(read_task(file, words)[0].answer, " home.");
  EXPECT_EQ(learned_texts(file, words)[0], "<she went\n home. >");
  write_file(file, "{\"text\": \" alone \"}\n");
  expect_words(fault_of([&] { read_task(file, words); }), {"rows.jsonl:1", "two words"});
  write_file(file, "");
  expect_words(fault_of([&] { read_task(file, words); }), {"rows of data", "none"});
}

TEST(TaskRows, WhatATaskFileCannotSayIsRefused) {
  TestFolder folder;
  const auto said = [&](const std::string& text) {
    write_file(folder / "task.yaml", text);
    return fault_of([&] { load_task(folder / "task.yaml"); });
  };
  expect_words(said("kind: classificaton\n"), {"kind of task", "did you mean 'classification'"});
  expect_words(said("kind: extraction\n"), {"schema of task", "nothing"});
  expect_words(said("kind: text\nmethod: likelihood\n"), {"method of task", "no list of answers"});
  expect_words(said("kind: text\ncontent_free: [N/A]\n"), {"content_free"});
  expect_words(said("kind: text\nmetric: rouge_1\n"), {"metric of task", "did you mean 'rouge_l'"});
  expect_words(said("kind: classification\nmethod: generation\ncontent_free: [N/A]\nlabels: [a, b]\n"), {"by likelihood"});
  EXPECT_EQ(said("kind: next_word\n"), "");
  EXPECT_EQ(said("labels: [a, b]\nmetric: accuracy\n"), "");
}

TEST(TaskRows, ExamplesOfEveryKindAreReadable) {
  const fs::path tasks = fs::path(ATTAR_SOURCE_DIR) / "configs/tasks";
  for (const char* name : {"support_extraction", "support_choices", "support_questions", "support_next_word"}) {
    const TaskConfig task = load_task(tasks / (std::string(name) + ".yaml"));
    const auto rows = read_task(task.test, task, 80);
    EXPECT_EQ(rows.size(), 80u) << name;
    for (const auto& row : rows) EXPECT_FALSE(row.answer.empty());
    EXPECT_FALSE(learned_texts(task.train, task).empty()) << name;
  }
}

TEST(JsonSchemas, SayWhatDoesNotFollow) {
  const JsonSchema schema(parse_json(R"({"type": "object", "additionalProperties": false, "required": ["id"], "properties": {
    "id": {"type": "string", "minLength": 2, "maxLength": 3}, "kind": {"enum": ["x", 1, {"a": 1, "b": 2}]}, "none": {"type": ["null", "boolean"]},
    "items": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "object", "properties": {"price": {"type": "number", "maximum": 10}}}}}})",
                                     "s"),
                          "s");
  const auto said = [&](const char* text) { return schema.problem(parse_json(text, "v")); };
  EXPECT_EQ(said(R"({"id": "ab", "kind": {"b": 2, "a": 1.0}, "none": null, "items": [{"price": 10}]})"), "");
  EXPECT_EQ(said(R"({"id": "äöü"})"), "");  // three characters, six bytes
  EXPECT_EQ(said(R"({})"), "id: required, received nothing");
  EXPECT_EQ(said(R"({"id": "a"})"), "id: shorter than minLength");
  EXPECT_EQ(said(R"({"id": "abcd"})"), "id: longer than maxLength");
  EXPECT_EQ(said(R"({"id": 1})"), "id: expected string, received a number");
  EXPECT_EQ(said(R"({"id": "ab", "kind": "y"})"), "kind: none of the enum's values");
  EXPECT_EQ(said(R"({"id": "ab", "other": 1})"), "other: not a property of the schema");
  EXPECT_EQ(said(R"({"id": "ab", "items": []})"), "items: fewer than minItems");
  EXPECT_EQ(said(R"({"id": "ab", "items": [{"price": 1}, {"price": "1"}]})"), "items[1].price: expected number, received text");
  EXPECT_EQ(said(R"({"id": "ab", "items": [{"price": 11}]})"), "items[0].price: above its maximum");
  EXPECT_EQ(said(R"([])"), "the object: expected object, received a list");
}

TEST(JsonSchemas, KeywordsThatAreNotCheckedAreRefused) {
  const auto said = [](const char* text) { return fault_of([&] { JsonSchema(parse_json(text, "s"), "s.json"); }); };
  expect_words(said(R"({"type": "object", "properties": {"a": {"pattern": "x"}}})"), {"s.json.a", "keyword 'pattern'"});
  expect_words(said(R"({"type": "object", "properties": {"a": {"type": "text"}}})"), {"s.json.a: type"});
  expect_words(said(R"({"type": "array"})"), {"type object"});
  expect_words(said(R"({"type": "object", "properties": {"a": {"minLength": -1}}})"), {"minLength"});
  expect_words(said(R"({"type": "object", "properties": {"a": {"enum": []}}})"), {"enum"});
}

}  // namespace
}  // namespace attar
