#pragma once
#include <memory>
#include <string>

#include "base/json.h"
#include "spec/configs.h"

namespace attar {

/// What a server is asked to write.
struct WritingQuestion {
  Json messages;             ///< a chat up to the answer, for /v1/chat/completions; null: `prompt` goes to /v1/completions
  std::string prompt;
  int64_t max_tokens = 256;
  double temperature = 1, top_p = 1;
  uint64_t seed = 0;         ///< a server may keep to it
};
struct ServerText {
  std::string text;
  bool finished = false;     ///< it ended by itself, not at max_tokens
};

/// A model behind an OpenAI-compatible server that writes texts. Any number of threads may ask.
class ServerWriter {
 public:
  /// Asks /v1/models which models there are. Error if the wanted one is not among them.
  ServerWriter(const std::string& address, const ServerConfig& config, uint64_t seed);
  ~ServerWriter();
  /// Address and model, and that its weights have no fingerprint.
  Json facts() const;
  /// Error in one sentence that begins with the server and `name` where the answer is none: cut off, of another model, without a text.
  ServerText write(const WritingQuestion& question, const std::string& name) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace attar
