#pragma once
// What is read: texts and tasks.
#include "base/fields.h"

namespace attar {

/// One of the data sets of a mixture. Keys that are left out are those of the data that it is part of.
struct MixPartConfig {
  std::string path;
  std::optional<double> weight;
  std::optional<std::string> kind, text, prompt, answer, messages, learn;
  std::optional<int64_t> limit;
  template <class Visitor> void fields(Visitor&& field) {
    field("path", path, "file or folder as in data.path, or a synthesize stage; empty: the task's training rows");
    field("weight", weight, "its share of the rows that are read is this over the sum of all; absent (in every part): by data.mix_temperature");
    field("kind", kind, "as in data");
    field("text", text, "as in data");
    field("prompt", prompt, "as in data");
    field("answer", answer, "as in data");
    field("messages", messages, "as in data");
    field("learn", learn, "as in data");
    field("limit", limit, "as in data");
  }
};

/// Easier rows first, as a warm-up.
struct CurriculumConfig {
  std::string by = "none";
  double share = 0.15, from = 0.25;
  template <class Visitor> void fields(Visitor&& field) {
    field("by", by, "none, length (rows of short documents first) or teacher_loss (rows that the teacher finds easy first)");
    field("share", share, "share of the training's steps that it takes; after it every row counts the same");
    field("from", from, "share of the rows that the first steps draw from; it grows to all of them");
  }
};

/// Rows that are left out because of the teacher's loss on them.
struct FilterConfig {
  double drop_highest = 0, drop_lowest = 0;
  template <class Visitor> void fields(Visitor&& field) {
    field("drop_highest", drop_highest, "share of the rows, those of the teacher's highest loss (noise), that is not trained on");
    field("drop_lowest", drop_lowest, "share of the rows, those of the teacher's lowest loss (nothing to learn), that is not trained on");
  }
};

/// What text is read and how rows of token ids are made of it.
struct DataConfig {
  std::string path;                     ///< file or folder; empty: the task's
  std::string kind = "auto";
  std::string text = "text", prompt = "prompt", answer = "answer", messages = "messages";
  std::string learn = "answer", chat = "auto";
  int64_t seq = 256;
  bool pack = true;
  int64_t limit = 0;
  std::vector<MixPartConfig> mix;
  double mix_temperature = 1;
  CurriculumConfig curriculum;
  FilterConfig filter;
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
    field("mix", mix, "instead of path: several data sets, [{path: a.jsonl, weight: 2}, {path: b.jsonl, weight: 1}]");
    field("mix_temperature", mix_temperature, "parts without weights have shares as rows^(1/this): 1 as they are, higher evens them out");
    field("curriculum", curriculum, "easier rows first, as a warm-up");
    field("filter", filter, "rows left out because of the teacher's loss on them");
  }
};

/// A task file: what goes in, what must come out, how it is judged.
struct TaskConfig {
  std::string name = "task", kind = "classification";
  std::string train, test, valid;
  std::string text = "text", label = "label";
  std::string prompt = "{text}\n";
  std::string answer = "{label}";
  std::vector<std::string> labels, content_free, choices = {"choices"}, stop;
  std::string method, schema, instruction;
  int64_t max_tokens = 0;
  std::string metric;
  template <class Visitor> void fields(Visitor&& field) {
    field("name", name, "name of the task in the report");
    field("kind", kind,
          "classification, multiple_choice (a row brings its choices), extraction (JSON by a schema), text (free answers) or next_word");
    field("train", train, "rows to learn from (.jsonl or .csv)");
    field("test", test, "held-out rows, never learned from");
    field("valid", valid, "rows for evaluation during training; empty: a twentieth of the training rows is kept apart");
    field("text", text, "field of the input");
    field("label", label, "field of the right answer; multiple_choice: the choice's letter, its number from 0 or its text");
    field("prompt", prompt, "what the model reads; {field} is replaced by a row's field, {choices} by \"A. ...\" lines");
    field("answer", answer, "what the model must write; {label} is replaced, in multiple_choice {letter} too");
    field("labels", labels, "every allowed label; empty: those of the training rows");
    field("choices", choices, "multiple_choice: the field that holds the list of choices, or one field for each");
    field("schema", schema, "extraction: file of the JSON Schema that answers follow");
    field("method", method,
          "likelihood (the likeliest answer) or generation (what is written greedily; of a classification only its labels); empty: the kind's own");
    field("max_tokens", max_tokens, "longest written answer in tokens; 0: the kind's own (text 128, extraction 256, others 16)");
    field("stop", stop, "texts that end a written answer, beside the end token");
    field("instruction", instruction, "what a chat endpoint is told before the prompt; empty: a sentence by the task's kind");
    field("content_free", content_free,
          "texts that say nothing, such as [N/A]: labels that a model likes anyway are marked down by so much; empty: not done");
    field("metric", metric, "the metric that stands for quality in tables; empty: the kind's first (accuracy, exact_match)");
  }
};

}  // namespace attar
