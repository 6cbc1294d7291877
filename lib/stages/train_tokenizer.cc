#include "base/check.h"
#include "base/log.h"
#include "stages/stage.h"

namespace attar {

void run_train_tokenizer(StageRun& run, const TrainTokenizerConfig& config) {
  const fs::path* given = run.input("data");
  check(given || run.task, "data", "a path, or a task", "neither");
  DataConfig data;
  data.learn = "all";
  DocumentReader documents(given ? *given : fs::path(run.task->train), data, given ? nullptr : &*run.task);
  Document document;
  std::string rest;
  int64_t characters = 0;
  // Lines, because a newline is no part of a SentencePiece sentence; what is rendered for training is what the tokenizer sees.
  std::vector<std::string> lines;
  const auto next_line = [&](std::string& line) {
    while (lines.empty()) {
      if (!documents.next(document)) return false;
      for (const Document::Piece& piece : document.pieces)
        for (size_t begin = 0; begin < piece.text.size();) {
          const size_t end = std::min(piece.text.find('\n', begin), piece.text.size());
          if (end > begin) lines.push_back(piece.text.substr(begin, end - begin));
          begin = end + 1;
        }
      std::reverse(lines.begin(), lines.end());
    }
    line = std::move(lines.back());
    lines.pop_back();
    characters += static_cast<int64_t>(line.size());
    return true;
  };
  const std::string model = train_sentencepiece(next_line, config.vocab_size, config.model);
  const auto tokenizer = sentencepiece_tokenizer(model, "", "the trained tokenizer");
  for (const TokenizerFile& file : tokenizer->files()) write_file(run.out / file.name, file.content);
  run.facts = {{"vocab", tokenizer->size()}, {"characters", characters}, {"fingerprint", tokenizer->fingerprint()}, {"tokenizer", tokenizer->kind()}};
  log_info(str(run.label, ": ", tokenizer->size(), " tokens from ", human_bytes(static_cast<double>(characters)), " of text"));
}

}  // namespace attar
