#include <ATen/ATen.h>

#include "base/check.h"
#include "byte_tokenizer.h"
#include "data/task.h"
#include "data_path.h"

namespace attar {
namespace {

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::vector<Document> all_documents(const fs::path& path, const DataConfig& config = {}, const TaskConfig* task = nullptr) {
  DocumentReader reader(path, config, task);
  std::vector<Document> out;
  for (Document document; reader.next(document);) out.push_back(document);
  return out;
}

std::string joined(const Document& document) {
  std::string out;
  for (const auto& piece : document.pieces) out += (piece.learn ? "[" : "(") + piece.text + (piece.learn ? "]" : ")");
  return out;
}

TEST(Documents, TextFromJsonLinesCsvAndPlainFiles) {
  TestFolder folder;
  write_file(folder / "a.jsonl", "{\"text\": \"one\"}\n\n{\"text\": \"two\\nlines\", \"year\": 1901}\r\n");
  write_file(folder / "b.csv", "id,text\n1,\"three, with \"\"quotes\"\"\nand a break\"\n2,four\n");
  write_file(folder / "c.txt", "five\n\nsix\n");
  write_file(folder / "README.md", "not data");
  const auto documents = all_documents(folder.path());
  ASSERT_EQ(documents.size(), 5u);
  EXPECT_EQ(joined(documents[0]), "[one]");
  EXPECT_EQ(joined(documents[1]), "[two\nlines]");
  EXPECT_EQ(joined(documents[2]), "[three, with \"quotes\"\nand a break]");
  EXPECT_EQ(joined(documents[4]), "[five\n\nsix\n]");
  EXPECT_FALSE(documents[0].whole);
}

TEST(Documents, TestRowsOfAFolderAreNotRead) {
  TestFolder folder;
  write_file(folder / "train.jsonl", "{\"text\": \"learn\"}\n");
  write_file(folder / "test.jsonl", "{\"text\": \"held\"}\n");
  const auto documents = all_documents(folder.path());
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_EQ(joined(documents[0]), "[learn]");
}

TEST(Documents, AnswersLearnOnlyTheAnswerUnlessToldOtherwise) {
  TestFolder folder;
  write_file(folder / "a.jsonl", "{\"prompt\": \"2+2=\", \"answer\": 4}\n");
  DataConfig config;
  EXPECT_EQ(joined(all_documents(folder / "a.jsonl", config).at(0)), "(2+2=)[4]");
  config.learn = "all";
  const auto all = all_documents(folder / "a.jsonl", config);
  EXPECT_EQ(joined(all.at(0)), "[2+2=][4]");
  EXPECT_EQ(all.at(0).prompt_pieces, 1u);
  EXPECT_TRUE(all.at(0).whole);
}

TEST(Documents, ChatLearnsEveryTurnOfTheAssistant) {
  TestFolder folder;
  write_file(folder / "chat.jsonl",
             "{\"messages\": [{\"role\": \"system\", \"content\": \"be kind\"}, {\"role\": \"user\", \"content\": \"hi\"},"
             "{\"role\": \"assistant\", \"content\": \"hello\"}, {\"role\": \"user\", \"content\": \"bye\"},"
             "{\"role\": \"assistant\", \"content\": \"so long\"}]}\n");
  const auto documents = all_documents(folder / "chat.jsonl");
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_EQ(joined(documents[0]),
            "(<|im_start|>)(system\n)(be kind)(<|im_end|>)(\n)(<|im_start|>)(user\n)(hi)(<|im_end|>)(\n)"
            "(<|im_start|>)(assistant\n)[hello][<|im_end|>](\n)(<|im_start|>)(user\n)(bye)(<|im_end|>)(\n)"
            "(<|im_start|>)(assistant\n)[so long][<|im_end|>](\n)");
  const auto rendered = render_document(documents[0], ByteTokenizer());
  EXPECT_EQ(rendered.ids[0], 1);
  EXPECT_EQ(rendered.ids[1], 3);                      // the marker is the special token
  EXPECT_EQ(rendered.ids.back(), 2);
  std::string learned;
  for (size_t i = 0; i < rendered.ids.size(); ++i)
    if (rendered.learn[i]) learned += ByteTokenizer().decode({rendered.ids[i]});
  EXPECT_EQ(learned, "hello<|im_end|>so long<|im_end|></s>");
}

TEST(Documents, ChatTextIsNeverASpecialToken) {
  TestFolder folder;
  write_file(folder / "chat.jsonl",
             "{\"messages\": [{\"role\": \"user\", \"content\": \"<|im_end|>\"}, {\"role\": \"assistant\", \"content\": \"ok\"}]}\n");
  const auto rendered = render_document(all_documents(folder / "chat.jsonl").at(0), ByteTokenizer());
  EXPECT_EQ(std::count(rendered.ids.begin(), rendered.ids.end(), 4), 2);
}

/// ByteTokenizer with a template that begins with a BOS of its own and joins words: "[user]hi[assistant]".
class ChattingTokenizer : public ByteTokenizer {
 public:
  std::string chat_template() const override {
    return "<|im_start|>{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{{ '<|im_end|>\n' if m.role == 'assistant' }}{% endfor %}"
           "{{ '[assistant]' if add_generation_prompt }}";
  }
  std::optional<int32_t> bos() const override { return 3; }
};

TEST(Documents, ChatsAreWrittenByTheTokenizersTemplate) {
  TestFolder folder;
  write_file(folder / "chat.jsonl",
             "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": \"hello\"},"
             "{\"role\": \"user\", \"content\": \"a<|im_end|>b\"}, {\"role\": \"assistant\", \"content\": \"yes\"}]}\n");
  const ChattingTokenizer tokenizer;
  Document document;
  ASSERT_TRUE(DocumentReader(folder / "chat.jsonl", {}, nullptr, &tokenizer).next(document));
  EXPECT_EQ(joined(document), "(<|im_start|>[user]hi[assistant])[hello<|im_end|>](\n[user]a<)(|im_end|>b[assistant])[yes<|im_end|>](\n)");
  EXPECT_EQ(document.prompt_pieces, 1u);
  const auto rendered = render_document(document, tokenizer);
  EXPECT_EQ(rendered.ids[0], 3);
  EXPECT_NE(rendered.ids[1], 3) << "BOS stands once";
  EXPECT_EQ(rendered.bos, 1);
  EXPECT_EQ(std::count(rendered.ids.begin(), rendered.ids.end(), 4), 2) << "a message's text is no special token";
  EXPECT_EQ(std::count(rendered.ids.begin(), rendered.ids.end(), 2), 0) << "the template says how the text ends";
  std::string learned;
  for (size_t i = 0; i < rendered.ids.size(); ++i)
    if (rendered.learn[i]) learned += tokenizer.decode({rendered.ids[i]});
  EXPECT_EQ(learned, "hello<|im_end|>yes<|im_end|>");
  DataConfig config;
  config.chat = "chatml";
  ASSERT_TRUE(DocumentReader(folder / "chat.jsonl", config, nullptr, &tokenizer).next(document));
  EXPECT_EQ(joined(document).substr(0, 24), "(<|im_start|>)(user\n)(hi");
  config.chat = "chatlm";
  EXPECT_NE(error_of([&] { DocumentReader(folder / "chat.jsonl", config); }).find("chatml"), std::string::npos);
}

/// Joins "]h" into one token: ids of a prefix are no prefix of the ids.
class JoiningTokenizer : public ChattingTokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text, bool specials = false) const override {
    std::vector<int32_t> out;
    for (const int32_t id : ByteTokenizer::encode(text, specials))
      if (!out.empty() && out.back() == ']' + 5 && id == 'h' + 5) out.back() = 0;
      else out.push_back(id);
    return out;
  }
};

TEST(Documents, NoTokenReachesOverTheEndOfATurn) {
  TestFolder folder;
  write_file(folder / "chat.jsonl",
             "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": \"hello\"}]}\n");
  const JoiningTokenizer tokenizer;
  Document document;
  ASSERT_TRUE(DocumentReader(folder / "chat.jsonl", {}, nullptr, &tokenizer).next(document));
  const auto rendered = render_document(document, tokenizer);
  EXPECT_EQ(std::count(rendered.ids.begin(), rendered.ids.end(), 0), 1) << "the user's, not the one over the turn's end";
  EXPECT_EQ(std::count(rendered.learn.begin(), rendered.learn.end(), 1), 6);
}

TEST(Documents, ATemplatesRefusalNamesTheRow) {
  TestFolder folder;
  write_file(folder / "chat.jsonl", "{\"messages\": [{\"role\": \"assistant\", \"content\": \"hello\"}]}\n");
  const ChattingTokenizer tokenizer;
  Document document;
  const std::string error = error_of([&] { DocumentReader(folder / "chat.jsonl", {}, nullptr, &tokenizer).next(document); });
  EXPECT_NE(error.find("chat.jsonl:1"), std::string::npos) << error;
}

TEST(Documents, ATasksTemplatesAreFilled) {
  TestFolder folder;
  write_file(folder / "rows.csv", "body,kind,channel\nwhere is it,lost,email\n");
  TaskConfig task;
  task.text = "body";
  task.label = "kind";
  task.labels = {"lost", "found"};
  task.prompt = "{channel}: {text}\n";
  EXPECT_EQ(joined(all_documents(folder / "rows.csv", {}, &task).at(0)), "(email: where is it\n)[lost]");
  const auto examples = read_task(folder / "rows.csv", task);
  ASSERT_EQ(examples.size(), 1u);
  EXPECT_EQ(examples[0].prompt, "email: where is it\n");
  EXPECT_EQ(examples[0].label, 0);
}

TEST(Documents, ZstdReadsAsPlain) {
  ATTAR_NEED_DATA("novels/train.jsonl.zst");
  DataConfig config;
  config.limit = 3;
  const auto documents = all_documents(test_data() / "novels/train.jsonl.zst", config);
  ASSERT_EQ(documents.size(), 3u);
  for (const auto& document : documents) EXPECT_GT(document.pieces.at(0).text.size(), 100000u);
}

TEST(Documents, RealCsvOfATask) {
  ATTAR_NEED_DATA("banking77/train.csv");
  ::setenv("ATTAR_TEST_DATA", test_data().c_str(), 1);
  const TaskConfig task = load_task(fs::path(ATTAR_SOURCE_DIR) / "configs/tasks/banking77.yaml");
  EXPECT_EQ(task.labels.size(), 77u);
  EXPECT_EQ(read_task(task.train, task).size(), 10003u);
  EXPECT_EQ(read_task(task.test, task).size(), 3080u);
  EXPECT_EQ(all_documents(task.train, {}, &task).size(), 10003u);
}

TEST(Documents, TheTasksThatShipLoadFromAnywhere) {
  const TaskConfig task = load_task(fs::path(ATTAR_SOURCE_DIR) / "configs/tasks/support_triage.yaml");
  EXPECT_GE(task.labels.size(), 12u);
  EXPECT_GE(read_task(task.test, task).size(), 2000u);
  EXPECT_TRUE(fs::exists(task.train));
}

TEST(Documents, ErrorsNameFileLineAndField) {
  TestFolder folder;
  const auto file = folder / "bad.jsonl";
  TaskConfig task;
  task.labels = {"refund", "login"};
  write_file(file, "{\"text\": \"a\", \"label\": \"refund\"}\n{\"text\": \"b\", \"label\": \"refnud\"}\n");
  for (const std::string& message :
       {error_of([&] { all_documents(file, {}, &task); }), error_of([&] { read_task(file, task); })}) {
    EXPECT_NE(message.find("bad.jsonl:2"), std::string::npos) << message;
    EXPECT_NE(message.find("refnud"), std::string::npos) << message;
    EXPECT_NE(message.find("did you mean 'refund'"), std::string::npos) << message;
  }
  write_file(file, "{\"text\": \"a\", \"label\": \"refund\"}\n{\"txt\": \"b\", \"label\": \"login\"}\n");
  const std::string missing = error_of([&] { all_documents(file, {}, &task); });
  EXPECT_NE(missing.find("bad.jsonl:2"), std::string::npos) << missing;
  EXPECT_NE(missing.find("field 'text'"), std::string::npos) << missing;
  write_file(file, "{\"text\": \"a\"}\n{\"text\": \"b\n");
  EXPECT_NE(error_of([&] { all_documents(file); }).find("bad.jsonl:2"), std::string::npos);
  write_file(file, "[1, 2]\n");
  EXPECT_NE(error_of([&] { all_documents(file); }).find("object"), std::string::npos);
  write_file(file, "{\"body\": \"a\"}\n");
  EXPECT_NE(error_of([&] { all_documents(file); }).find("body"), std::string::npos);
  write_file(file, "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}\n");
  EXPECT_NE(error_of([&] { all_documents(file); }).find("assistant"), std::string::npos);
  write_file(file, "{\"messages\": [{\"role\": \"user\"}]}\n");
  EXPECT_NE(error_of([&] { all_documents(file); }).find("{role, content}"), std::string::npos);
  EXPECT_NE(error_of([&] { all_documents(folder / "none.jsonl"); }).find("none.jsonl"), std::string::npos);
  write_file(folder / "x.parquet", "PAR1");
  EXPECT_NE(error_of([&] { all_documents(folder / "x.parquet"); }).find(".jsonl"), std::string::npos);
  DataConfig config;
  config.kind = "chats";
  EXPECT_NE(error_of([&] { all_documents(file, config); }).find("did you mean 'chat'"), std::string::npos);
}

TEST(Documents, TaskLabelsComeFromTheTrainingRows) {
  TestFolder folder;
  write_file(folder / "train.jsonl",
             "{\"text\": \"x\", \"label\": \"b\"}\n{\"text\": \"y\", \"label\": \"a\"}\n{\"text\": \"z\", \"label\": \"b\"}\n");
  write_file(folder / "task.yaml", "name: t\ntrain: train.jsonl\n");
  const TaskConfig task = load_task(folder / "task.yaml");
  EXPECT_EQ(task.labels, (std::vector<std::string>{"a", "b"}));
  write_file(folder / "task.yaml", "name: t\ntrain: trian.jsonl\n");
  EXPECT_NE(error_of([&] { load_task(folder / "task.yaml"); }).find("trian.jsonl"), std::string::npos);
  TaskConfig same = task;
  same.answer = "yes";
  EXPECT_NE(error_of([&] { task_answers(same); }).find("another text"), std::string::npos);
}

TEST(Template, FillsFieldsAndBraces) {
  EXPECT_EQ(fill_template("{a}-{b}{{x}", {{"a", "1"}, {"b", "{a}"}}), "1-{a}{x}");
  EXPECT_NE(error_of([] { fill_template("{chanel}", {{"channel", ""}}); }).find("did you mean 'channel'"), std::string::npos);
  EXPECT_NE(error_of([] { fill_template("{a", {{"a", ""}}); }).find("'}'"), std::string::npos);
}

}  // namespace
}  // namespace attar
