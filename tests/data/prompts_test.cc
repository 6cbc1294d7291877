#include "data/prompts.h"

#include "base/check.h"
#include "byte_tokenizer.h"
#include "data_path.h"

namespace attar {
namespace {

std::vector<Prompt> prompts_of(const fs::path& file, const DataConfig& config, const TaskConfig* task = nullptr, int64_t prefix = 4) {
  const ByteTokenizer tokenizer;
  PromptReader reader(file, config, task, tokenizer, prefix);
  std::vector<Prompt> out;
  for (Prompt prompt; reader.next(prompt);) out.push_back(prompt);
  return out;
}
std::string text_of(const Prompt& prompt) { return ByteTokenizer().decode(prompt.ids); }
std::vector<int32_t> ids_of(const std::string& text) { return ByteTokenizer().encode(text); }

TEST(Prompts, RowsNeedNoAnswersAndKeepTheirFieldsNames) {
  TestFolder folder;
  write_file(folder / "a.jsonl", "{\"question\": \"why?\"}\n{\"question\": \"who?\", \"reply\": \"me\"}\n");
  DataConfig config;
  config.prompt = "question", config.answer = "reply";
  const auto prompts = prompts_of(folder / "a.jsonl", config);
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_EQ(text_of(prompts[0]), "<s>why?");
  Json row;
  std::string why;
  ASSERT_TRUE(written_row(prompts[1], ids_of("you"), ByteTokenizer(), config, row, why));
  EXPECT_EQ(row, (Json{{"question", "who?"}, {"reply", "you"}}));
  // What is written is read as data of the same configuration.
  write_file(folder / "out.jsonl", row.dump() + "\n");
  DocumentReader reader(folder / "out.jsonl", config);
  Document document;
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.pieces.back().text, "you");
  config.prompt = "prompt";
  EXPECT_THROW(prompts_of(folder / "a.jsonl", config), Error);
}

TEST(Prompts, TasksGiveTheirTemplate) {
  TestFolder folder;
  write_file(folder / "a.csv", "line,kind\nhello,greeting\n");
  TaskConfig task;
  task.text = "line", task.label = "kind", task.prompt = "Sort: {text}\n", task.labels = {"greeting", "other"};
  const auto prompts = prompts_of(folder / "a.csv", {}, &task);
  ASSERT_EQ(prompts.size(), 1u);
  EXPECT_EQ(text_of(prompts[0]), "<s>Sort: hello\n");
  EXPECT_EQ(prompts[0].record["prompt"], "Sort: hello\n");
}

TEST(Prompts, ChatsEndBeforeTheirLastAnswer) {
  TestFolder folder;
  write_file(folder / "a.jsonl",
             R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})"
             "\n" R"({"messages": [{"role": "user", "content": "only"}]})" "\n");
  const auto prompts = prompts_of(folder / "a.jsonl", {});
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_EQ(text_of(prompts[1]), "<s><|im_start|>user\nonly<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(prompts[1].ids[1], 3) << "the marker is a token";
  EXPECT_EQ(prompts[0].record["messages"].size(), 3u);
  Json row;
  std::string why;
  ASSERT_TRUE(written_row(prompts[0], ids_of("new"), ByteTokenizer(), {}, row, why));
  EXPECT_EQ(row["messages"][3], (Json{{"role", "assistant"}, {"content", "new"}}));
  EXPECT_EQ(ending_ids(ByteTokenizer(), {}), (std::vector<int64_t>{2, 4})) << "EOS and the end of a turn";
  write_file(folder / "b.jsonl", R"({"messages": [{"role": "assistant", "content": "d"}]})" "\n");
  EXPECT_THROW(prompts_of(folder / "b.jsonl", {}), Error);
}

TEST(Prompts, TextsAreCutLikeRows) {
  TestFolder folder;
  write_file(folder / "a.txt", "abcdefghijklmnopqrstuvw");
  DataConfig config;
  config.seq = 10;
  const auto prompts = prompts_of(folder / "a.txt", config);
  ASSERT_EQ(prompts.size(), 2u) << "the last stretch is shorter than a prefix";
  EXPECT_EQ(text_of(prompts[0]), "<s>abcd");
  EXPECT_EQ(text_of(prompts[1]), "<s>klmn");
  Json row;
  std::string why;
  ASSERT_TRUE(written_row(prompts[1], ids_of("XY"), ByteTokenizer(), config, row, why));
  EXPECT_EQ(row, (Json{{"text", "klmnXY"}}));
}

TEST(Prompts, WhatIsNoTextIsRefusedWithItsReason) {
  Prompt prompt;
  prompt.record = {{"prompt", "q"}};
  Json row;
  std::string why;
  EXPECT_FALSE(written_row(prompt, ids_of(" \n"), ByteTokenizer(), {}, row, why));
  EXPECT_EQ(why, "empty");
  EXPECT_FALSE(written_row(prompt, {0xC3 + 5, 'a' + 5}, ByteTokenizer(), {}, row, why));
  EXPECT_EQ(why, "broken");
  ASSERT_TRUE(written_row(prompt, {'a' + 5, 0xC3 + 5}, ByteTokenizer(), {}, row, why)) << "a character that was cut off is left out";
  EXPECT_EQ(row["answer"], "a");
}

}  // namespace
}  // namespace attar
