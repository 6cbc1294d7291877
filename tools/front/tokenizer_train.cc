// attar tokenizer train: a SentencePiece model from text.
#include "base/check.h"
#include "base/files.h"
#include "base/log.h"
#include "front/front.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/training_text.h"

namespace attar {

int tool_tokenizer_train(const Words& words) {
  const std::string model = words.get("model");
  if (model != "bpe" && model != "unigram") throw UsageError("--model, expected bpe or unigram, received " + model);
  TrainingText text(words.get("data"), words.get("text"));
  const std::string bytes = train_sentencepiece([&](std::string& line) { return text.next(line); }, words.integer("vocab-size"), model);
  const auto tokenizer = sentencepiece_tokenizer(bytes, "", "the trained tokenizer");
  make_folder(words.get("out"));
  for (const TokenizerFile& file : tokenizer->files()) write_file(fs::path(words.get("out")) / file.name, file.content);
  log_info(str("tokenizer of ", tokenizer->size(), " tokens in ", words.get("out")));
  return 0;
}

}  // namespace attar
