#pragma once
#include <memory>
#include <string>
#include <vector>

#include "http/client.h"
#include "spec/configs.h"
#include "teacher/capture.h"
#include "tokenizer/tokenizer.h"

namespace attar {

/// A teacher behind an HTTP server: vLLM (prompt_logprobs), a server that echoes the prompt with logprobs (llama-cpp-python's), or llama.cpp's
/// own server (one request a position). docs/teacher_cache.md says which endpoints are used. Any number of threads may ask.
class ServerTeacher {
 public:
  /// Asks /v1/models which models there are. Error if the model is not among them, or its kind of server is not known.
  ServerTeacher(const std::string& address, const ServerConfig& config, std::shared_ptr<const Tokenizer> tokenizer, int64_t k, uint64_t seed);
  ~ServerTeacher();
  /// "vllm NAME at http://host:port": no hash of the weights can be had from a server.
  std::string fingerprint() const;
  /// What the manifest says of it: address, model, kind, and that its weights have no fingerprint.
  Json facts() const;
  /// What it says of each token of a segment. Error in one sentence naming the segment if the answer is not what was asked for.
  std::vector<SaidPosition> ask(const RowSegment& segment) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace attar
