#pragma once
#include <memory>
#include <optional>

#include "data/prompts.h"
#include "stages/stage.h"

namespace attar {

/// What an author wrote after a prompt: ids, or text.
struct AuthorText {
  std::vector<int32_t> ids;
  std::optional<std::string> said;
  bool finished = false;     ///< it ended by itself, not at max_tokens
};

/// Who writes texts for synthesize.
class Author {
 public:
  virtual ~Author() = default;
  virtual const Tokenizer& tokenizer() const = 0;
  virtual int64_t context() const = 0;   ///< tokens of a prompt and its text together
  virtual Json facts() const { return {}; }
  /// One text for each prompt; text i draws from the stage's seed and number `first` + i.
  virtual std::vector<AuthorText> write(const std::vector<const Prompt*>& prompts, const DataConfig& data, int64_t first) const = 0;
};

/// A model here, on the run's device; prompts of like length share a batch. Both authors keep references to run and configuration.
std::unique_ptr<Author> model_author(const StageRun& run, const SynthesizeConfig& config);
/// A model behind an OpenAI-compatible server, several requests at once. What it draws is its own affair: the seed is sent, no more.
std::unique_ptr<Author> server_author(const StageRun& run, const SynthesizeConfig& config);

}  // namespace attar
