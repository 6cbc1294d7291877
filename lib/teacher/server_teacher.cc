#include "teacher/server_teacher.h"

#include <algorithm>

#include "base/check.h"
#include "base/utf8.h"
#include "teacher/server_answers.h"

namespace attar {
namespace {

/// The address without the version that every endpoint begins with.
std::string without_version(std::string address) {
  while (address.ends_with('/')) address.pop_back();
  if (address.ends_with("/v1")) address.resize(address.size() - 3);
  return address;
}

HttpOptions server_options(const ServerConfig& config, uint64_t seed) {
  HttpOptions options;
  options.timeout = config.timeout;
  options.attempts = config.attempts;
  options.key_variable = config.key_env;
  options.seed = seed;
  return options;
}

std::string joined_names(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + one_line(name).substr(0, 200);
  return out.empty() ? "none" : out;
}

}  // namespace

struct ServerTeacher::State {
  HttpClient client;
  std::shared_ptr<const Tokenizer> tokenizer;
  int64_t k = 0;
  std::string model, api;
  std::unique_ptr<TokenTexts> texts;

  /// Whatever a server said may hold what it was sent: the key is blotted out of every message.
  template <class Work>
  auto guarded(const Work& work) const {
    try {
      return work();
    } catch (const Error& error) {
      std::vector<Fault> faults = error.faults();
      for (Fault& fault : faults)
        for (std::string* text : {&fault.what, &fault.expected, &fault.received, &fault.hint}) *text = client.redacted(*text);
      throw Error(std::move(faults));
    }
  }

  void choose_model(const ServerConfig& config) {
    const std::string name = "server " + client.base() + "/v1/models";
    const Json list = parse_json(client.get("/v1/models"), name);
    const bool right = list.is_object() && list.contains("data") && list["data"].is_array();
    if (!right) fail(name, "a list of models", to_line(list).substr(0, 80), "is this an OpenAI-compatible server?");
    std::vector<std::string> names;
    std::string owner;
    for (const Json& entry : list["data"]) {
      if (!entry.is_object() || !entry.contains("id") || !entry["id"].is_string()) continue;
      names.push_back(entry["id"].get<std::string>());
      if ((config.model.empty() || names.back() == config.model) && entry.contains("owned_by") && entry["owned_by"].is_string())
        owner = entry["owned_by"].get<std::string>();
    }
    model = config.model;
    if (model.empty()) {
      check(names.size() == 1, name, "one model, or its name", joined_names(names), "name it: --model-name NAME");
      model = names[0];
    }
    check(std::find(names.begin(), names.end(), model) != names.end(), name, "model '" + model + "'", joined_names(names));
    api = config.api;
    if (api == "auto") {
      api = owner == "vllm" ? "vllm" : owner == "llamacpp" ? "llama" : owner == "me" ? "echo" : "";
      check(!api.empty(), name + ": kind of server", "vllm, llamacpp or me as the model's owner", "'" + one_line(owner).substr(0, 80) + "'",
            "say what it answers to: --api vllm, echo or llama");
    }
    check(api == "vllm" || api == "echo" || api == "llama", "server.api", "auto, vllm, echo or llama", "'" + api + "'",
          nearest_hint(api, {"auto", "vllm", "echo", "llama"}));
  }

  Json post(const std::string& path, const Json& question, const std::string& name) const {
    Json answer = parse_json(client.post(path, question.dump(-1, ' ', false, Json::error_handler_t::replace)), name);
    if (answer.is_object() && answer.contains("error")) fail(name, "an answer", to_line(answer["error"]).substr(0, 200));
    if (answer.is_object() && answer.contains("model") && answer["model"] != Json(model))
      fail(name + ": model", "'" + model + "'", to_line(answer["model"]).substr(0, 200), "the server answers with another model");
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
    : state_(new State{HttpClient(without_version(address), server_options(config, seed)), std::move(tokenizer), k, "", "", nullptr}) {
  state_->guarded([&] { return state_->choose_model(config); });
  if (state_->api == "echo") state_->texts = std::make_unique<TokenTexts>(*state_->tokenizer);
}

ServerTeacher::~ServerTeacher() = default;

std::string ServerTeacher::fingerprint() const { return state_->api + " " + state_->model + " at " + state_->client.base(); }

Json ServerTeacher::facts() const {
  return {{"address", state_->client.base()}, {"model", state_->model}, {"api", state_->api},
          {"weights", "no fingerprint: what a server holds is known by its name alone"}};
}

std::vector<SaidPosition> ServerTeacher::ask(const RowSegment& segment) const {
  const State& s = *state_;
  return s.guarded([&] {
    const std::string name = "server " + s.client.base() + ", " + segment.name();
    std::vector<SaidPosition> out;
    if (s.api == "llama") {
      out = s.ask_llama(segment, name);
    } else if (s.api == "vllm") {
      const Json question = {{"model", s.model},     {"prompt", segment.ids},  {"max_tokens", 1},
                             {"temperature", 0.0}, {"prompt_logprobs", s.k}, {"return_token_ids", true}};
      out = read_vllm_answer(s.post("/v1/completions", question, name), segment.ids, s.k, name);
    } else {
      int32_t bos = -1;
      const std::string text = s.text_of(segment, bos);
      const Json question = {{"model", s.model}, {"prompt", text}, {"max_tokens", 1}, {"temperature", 0.0}, {"logprobs", s.k}, {"echo", true}};
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
