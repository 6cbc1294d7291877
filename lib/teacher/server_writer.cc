#include "teacher/server_writer.h"

#include "base/check.h"
#include "teacher/served_model.h"

namespace attar {

struct ServerWriter::State {
  ServedModel served;
};

ServerWriter::ServerWriter(const std::string& address, const ServerConfig& config, uint64_t seed) {
  HttpOptions options;
  options.timeout = config.timeout;
  options.attempts = config.attempts;
  options.key_variable = config.key_env;
  options.seed = seed;
  state_.reset(new State{ServedModel(address, config.model, options)});
}

ServerWriter::~ServerWriter() = default;

Json ServerWriter::facts() const {
  return {{"address", state_->served.base()}, {"model", state_->served.name()},
          {"weights", "no fingerprint: what a server holds is known by its name alone"}};
}

ServerText ServerWriter::write(const WritingQuestion& question, const std::string& asked) const {
  const State& s = *state_;
  return s.served.guarded([&] {
    const std::string name = "server " + s.served.base() + ", " + asked;
    const bool chat = !question.messages.is_null();
    Json request = {{"model", s.served.name()}, {"max_tokens", question.max_tokens}, {"temperature", question.temperature}, {"top_p", question.top_p},
                    {"seed", question.seed % (uint64_t{1} << 31)}, {"stream", false}};
    if (chat) request["messages"] = question.messages;
    else request["prompt"] = question.prompt;
    const Json answer = s.served.post(chat ? "/v1/chat/completions" : "/v1/completions", request, name);
    s.served.check_answerer(answer, name);
    const bool listed = answer.is_object() && answer.contains("choices") && answer["choices"].is_array() && !answer["choices"].empty();
    check(listed, name + ": choices", "one at least", "none");
    const Json& choice = answer["choices"][0];
    const Json* holder = chat && choice.is_object() && choice.contains("message") ? &choice["message"] : &choice;
    const char* key = chat ? "content" : "text";
    const bool written = holder->is_object() && holder->contains(key) && (*holder)[key].is_string();
    check(written, name + ": " + (chat ? "choices[0].message.content" : "choices[0].text"), "a text", to_line(choice).substr(0, 80));
    const Json& reason = choice.contains("finish_reason") ? choice["finish_reason"] : Json();
    check(reason == "stop" || reason == "length", name + ": finish_reason", "stop or length", to_line(reason).substr(0, 80),
          "the server gave this text up");
    return ServerText{(*holder)[key].get<std::string>(), reason == "stop"};
  });
}

}  // namespace attar
