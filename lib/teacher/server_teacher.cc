#include "teacher/server_teacher.h"

#include <algorithm>

#include "base/check.h"
#include "base/utf8.h"
#include "teacher/served_model.h"
#include "teacher/server_answers.h"

namespace attar {
namespace {

HttpOptions server_options(const ServerConfig& config, uint64_t seed) {
  HttpOptions options;
  options.timeout = config.timeout;
  options.attempts = config.attempts;
  options.key_variable = config.key_env;
  options.seed = seed;
  return options;
}

}  // namespace

struct ServerTeacher::State {
  ServedModel served;
  std::shared_ptr<const Tokenizer> tokenizer;
  int64_t k = 0;
  std::string api;
  std::unique_ptr<TokenTexts> texts;

  void choose_api(const std::string& wanted) {
    api = wanted;
    if (api == "auto") {
      const std::string& owner = served.owner();
      api = owner == "vllm" ? "vllm" : owner == "llamacpp" ? "llama" : owner == "me" ? "echo" : "";
      check(!api.empty(), "server " + served.base() + "/v1/models: kind of server", "vllm, llamacpp or me as the model's owner",
            "'" + one_line(owner).substr(0, 80) + "'", "say what it answers to: --api vllm, echo or llama");
    }
    check(api == "vllm" || api == "echo" || api == "llama", "server.api", "auto, vllm, echo or llama", "'" + api + "'",
          nearest_hint(api, {"auto", "vllm", "echo", "llama"}));
  }

  Json post(const std::string& path, const Json& question, const std::string& name) const {
    Json answer = served.post(path, question, name);
    served.check_answerer(answer, name);
    return answer;
  }

  std::vector<SaidPosition> ask_llama(const RowSegment& segment, const std::string& name) const {
    std::vector<SaidPosition> out(segment.ids.size());
    for (size_t t = 1; t < segment.ids.size(); ++t) {
      if (!segment.wanted[t]) continue;
      const std::vector<int32_t> before(segment.ids.begin(), segment.ids.begin() + static_cast<std::ptrdiff_t>(t));
      const Json question = {{"prompt", before},     {"n_predict", 1},       {"n_probs", k},
                             {"temperature", 0.0}, {"cache_prompt", true}, {"stream", false}};
      const Json answer = post("/completion", question, name);
      if (answer.is_object() && answer.contains("tokens_evaluated") && answer["tokens_evaluated"] != Json(t))
        fail(name + ": tokens_evaluated", str(t), to_line(answer["tokens_evaluated"]).substr(0, 80), "the server read other tokens than were sent");
      out[t] = read_llama_answer(answer, segment.ids[t], k, str(name, ": position ", t));
    }
    return out;
  }

  /// The text of a segment for a server that takes text alone; Error if the server would read other tokens in it.
  std::string text_of(const RowSegment& segment, int32_t& bos) const {
    bos = tokenizer->add_bos() && tokenizer->bos() ? *tokenizer->bos() : -1;
    size_t begin = bos >= 0 && segment.ids[0] == bos ? 1 : 0, end = segment.ids.size();
    std::string ending;
    if (end > begin && tokenizer->eos() && segment.ids[end - 1] == *tokenizer->eos()) ending = tokenizer->piece(segment.ids[--end]);
    const auto first = segment.ids.begin();
    const std::vector<int32_t> middle(first + static_cast<std::ptrdiff_t>(begin), first + static_cast<std::ptrdiff_t>(end));
    std::string text = tokenizer->decode(middle) + ending;
    std::vector<int32_t> again = tokenizer->encode(text, true);
    if (bos >= 0) again.insert(again.begin(), bos);
    check(bos >= 0, segment.name(), "a tokenizer that begins texts with BOS", "one that does not",
          "servers of the echo kind shift the answers of such models: use api vllm or llama");
    check(again == segment.ids, segment.name(), "tokens that come back from their text, as this server takes text alone", "others",
          "one document a row (--data.pack false), or a server that takes ids (vllm, llama)");
    return text;
  }
};

ServerTeacher::ServerTeacher(const std::string& address, const ServerConfig& config, std::shared_ptr<const Tokenizer> tokenizer, int64_t k,
                             uint64_t seed)
    : state_(new State{ServedModel(address, config.model, server_options(config, seed)), std::move(tokenizer), k, "", nullptr}) {
  state_->served.guarded([&] { return state_->choose_api(config.api); });
  if (state_->api == "echo") state_->texts = std::make_unique<TokenTexts>(*state_->tokenizer);
}

ServerTeacher::~ServerTeacher() = default;

std::string ServerTeacher::fingerprint() const { return state_->api + " " + state_->served.name() + " at " + state_->served.base(); }

Json ServerTeacher::facts() const {
  return {{"address", state_->served.base()}, {"model", state_->served.name()}, {"api", state_->api},
          {"weights", "no fingerprint: what a server holds is known by its name alone"}};
}

std::vector<SaidPosition> ServerTeacher::ask(const RowSegment& segment) const {
  const State& s = *state_;
  return s.served.guarded([&] {
    const std::string name = "server " + s.served.base() + ", " + segment.name();
    std::vector<SaidPosition> out;
    if (s.api == "llama") {
      out = s.ask_llama(segment, name);
    } else if (s.api == "vllm") {
      const Json question = {{"model", s.served.name()},     {"prompt", segment.ids},  {"max_tokens", 1},
                             {"temperature", 0.0}, {"prompt_logprobs", s.k}, {"return_token_ids", true}};
      out = read_vllm_answer(s.post("/v1/completions", question, name), segment.ids, s.k, name);
    } else {
      int32_t bos = -1;
      const std::string text = s.text_of(segment, bos);
      const Json question = {{"model", s.served.name()}, {"prompt", text},  {"max_tokens", 1},
                             {"temperature", 0.0},       {"logprobs", s.k}, {"echo", true}};
      out = read_echo_answer(s.post("/v1/completions", question, name), segment.ids, bos, s.k, *s.texts, name);
    }
    for (size_t t = 0; t < out.size(); ++t) {
      if (!segment.wanted[t]) continue;
      for (const int32_t id : out[t].ids)
        if (id < 0 || id >= s.tokenizer->size())
          fail(str(name, ": position ", t, ": token id"), str("in [0, ", s.tokenizer->size(), ")"), str(id), "the ids of another tokenizer");
    }
    return out;
  });
}

}  // namespace attar
