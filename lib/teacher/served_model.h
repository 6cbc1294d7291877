#pragma once
#include <string>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "http/client.h"

namespace attar {

/// A model behind an OpenAI-compatible server, whatever it is asked for. Any number of threads may ask.
class ServedModel {
 public:
  /// Asks /v1/models which models there are; the address may end in /v1. Error if `model` is not among them, or is empty and there are several.
  ServedModel(const std::string& address, const std::string& model, const HttpOptions& options);
  const std::string& base() const { return client_.base(); }
  const std::string& name() const { return name_; }
  /// What the server says of who owns the model ("owned_by"), by which kinds of servers are known; may be empty.
  const std::string& owner() const { return owner_; }
  /// What it answers. Servers of llama.cpp's kind are told not to punish repetition, which llama-cpp-python's does by 1.1 unless told otherwise: it
  /// is the model that is asked. Error in one sentence that begins with `asked` for no JSON or an error of the server's.
  Json post(const std::string& path, Json question, const std::string& asked) const;
  /// Error if the answer names another model.
  void check_answerer(const Json& answer, const std::string& asked) const;

  /// Does work(); whatever a server said may hold what it was sent: the key is blotted out of every message.
  template <class Work>
  auto guarded(const Work& work) const {
    try {
      return work();
    } catch (const Error& error) {
      std::vector<Fault> faults = error.faults();
      for (Fault& fault : faults)
        for (std::string* text : {&fault.what, &fault.expected, &fault.received, &fault.hint}) *text = client_.redacted(*text);
      throw Error(std::move(faults));
    }
  }

 private:
  void choose(const std::string& model);
  HttpClient client_;
  std::string name_, owner_;
};

}  // namespace attar
