// attar generate: text from a model, for a look.
#include "model/generate.h"

#include <ATen/ATen.h>

#include <iostream>

#include "engine_tools.h"
#include "base/check.h"
#include "stages/stage.h"
#include "tokenizer/chat_template.h"

namespace attar {

int tool_generate(const Words& words) {
  Checkpoint model = load_model(words.get("model"), true);
  const Tokenizer& tokenizer = *model.tokenizer;
  check(words.has("chat") || !words.has("system"), "--system", "--chat beside it", "--system alone");
  std::vector<int32_t> prompt;
  if (words.has("chat")) {
    Json messages = Json::array();
    if (words.has("system")) messages.push_back({{"role", "system"}, {"content", words.get("system")}});
    messages.push_back({{"role", "user"}, {"content", words.get("prompt")}});
    prompt = Chat(tokenizer).ids(messages, true);
  } else {
    prompt = tokenizer.encode(words.get("prompt"), true);
    const auto bos = tokenizer.bos();
    if (bos && (prompt.empty() || (tokenizer.add_bos() && prompt.front() != *bos))) prompt.insert(prompt.begin(), *bos);
  }
  check(!prompt.empty(), "--prompt", "text: this tokenizer has no BOS to start from", "nothing");
  GenerateOptions options;
  options.max_tokens = words.integer("max-tokens");
  options.temperature = words.number("temperature");
  options.seed = static_cast<uint64_t>(words.integer("seed"));
  check(options.max_tokens > 0, "--max-tokens", "1 or more", words.get("max-tokens"));
  check(options.temperature >= 0, "--temperature", "0 or more", words.get("temperature"));
  if (!words.has("ignore-eos")) {
    options.stop = model.spec.eos;
    if (tokenizer.eos()) options.stop.push_back(*tokenizer.eos());
  }
  const int64_t room = model.spec.context - static_cast<int64_t>(prompt.size());
  check(room > 0, "--prompt", str("fewer than ", model.spec.context, " tokens, the model's context"), str(prompt.size(), " tokens"));
  options.max_tokens = std::min(options.max_tokens, room);

  const Decoder decoder(model.spec, std::move(model.weights));
  const bool ids = words.has("ids");
  // Decoding everything again after each token keeps spaces and multi-byte characters right; what is printed is the new end.
  std::vector<int32_t> all = prompt;
  const std::string before = tokenizer.decode(prompt);
  size_t printed = before.size();
  const auto out = generate(decoder, prompt, options, [&](int32_t id) {
    all.push_back(id);
    if (!ids) {
      std::string text = tokenizer.decode(all);
      if (text.size() > printed) {
        std::string fresh = text.substr(printed);
        const std::string whole = complete_utf8(fresh);
        std::cout << whole << std::flush;
        printed += whole.size();
      }
    }
    return true;
  });
  if (ids) std::cout << to_line(Json(out)) << "\n";
  else std::cout << "\n";
  return 0;
}

}  // namespace attar
