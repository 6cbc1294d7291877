#pragma once
// What is read: texts and tasks.
#include "base/fields.h"

namespace attar {

/// What text is read and how rows of token ids are made of it.
struct DataConfig {
  std::string path;                     ///< file or folder; empty: the task's
  std::string kind = "auto";
  std::string text = "text", prompt = "prompt", answer = "answer", messages = "messages";
  std::string learn = "answer", chat = "auto";
  int64_t seq = 256;
  bool pack = true;
  int64_t limit = 0;
  template <class Visitor> void fields(Visitor&& field) {
    field("path", path, "file (.jsonl, .csv, .txt, each also .zst) or folder of them; empty: the task's training rows");
    field("kind", kind, "text (documents), answers (prompt and answer fields), chat (messages), or auto");
    field("text", text, "field that holds a document's text");
    field("prompt", prompt, "field that holds the prompt");
    field("answer", answer, "field that holds the answer; only it is learned");
    field("messages", messages, "field that holds a chat; only the assistant's turns are learned");
    field("learn", learn, "answer: loss on the answer's tokens only; all: on the prompt's too");
    field("chat", chat, "auto: chats in the tokenizer's chat template, ChatML where it has none; chatml: ChatML");
    field("seq", seq, "T, longest row in tokens");
    field("pack", pack, "fill rows with several documents (attention stays inside each); false: one example a row");
    field("limit", limit, "use only the first so many documents or examples; 0: all");
  }
};

/// A task file: what goes in, what must come out, how it is judged.
struct TaskConfig {
  std::string name = "task";
  std::string train, test, valid;
  std::string text = "text", label = "label";
  std::string prompt = "{text}\n";
  std::string answer = "{label}";
  std::vector<std::string> labels;
  std::string metric = "accuracy";
  template <class Visitor> void fields(Visitor&& field) {
    field("name", name, "name of the task in the report");
    field("train", train, "rows to learn from (.jsonl or .csv)");
    field("test", test, "held-out rows, never learned from");
    field("valid", valid, "rows for evaluation during training; empty: a twentieth of the training rows is kept apart");
    field("text", text, "field of the input");
    field("label", label, "field of the right answer");
    field("prompt", prompt, "what the model reads; {field} is replaced by a row's field");
    field("answer", answer, "what the model must write; {label} is replaced");
    field("labels", labels, "every allowed label; empty: those of the training rows");
    field("metric", metric, "accuracy: the label of highest likelihood is the answer");
  }
};

}  // namespace attar
