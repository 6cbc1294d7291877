#include "teacher/served_model.h"

#include <algorithm>

#include "base/utf8.h"

namespace attar {
namespace {

/// The address without the version that every endpoint begins with.
std::string without_version(std::string address) {
  while (address.ends_with('/')) address.pop_back();
  if (address.ends_with("/v1")) address.resize(address.size() - 3);
  return address;
}

std::string joined_names(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + one_line(name).substr(0, 200);
  return out.empty() ? "none" : out;
}

}  // namespace

ServedModel::ServedModel(const std::string& address, const std::string& model, const HttpOptions& options)
    : client_(without_version(address), options), name_(model) {
  guarded([&] { choose(model); });
}

void ServedModel::choose(const std::string& model) {
  const std::string list_name = "server " + base() + "/v1/models";
  const Json list = parse_json(client_.get("/v1/models"), list_name);
  const bool right = list.is_object() && list.contains("data") && list["data"].is_array();
  if (!right) fail(list_name, "a list of models", to_line(list).substr(0, 80), "is this an OpenAI-compatible server?");
  std::vector<std::string> names;
  for (const Json& entry : list["data"]) {
    if (!entry.is_object() || !entry.contains("id") || !entry["id"].is_string()) continue;
    names.push_back(entry["id"].get<std::string>());
    if ((model.empty() || names.back() == model) && entry.contains("owned_by") && entry["owned_by"].is_string())
      owner_ = entry["owned_by"].get<std::string>();
  }
  if (model.empty()) {
    check(names.size() == 1, list_name, "one model, or its name", joined_names(names), "name it: --model-name NAME");
    name_ = names[0];
  }
  check(std::find(names.begin(), names.end(), name_) != names.end(), list_name, "model '" + name_ + "'", joined_names(names));
}

Json ServedModel::post(const std::string& path, Json question, const std::string& asked) const {
  if ((owner_ == "me" || owner_ == "llamacpp") && !question.contains("repeat_penalty")) question["repeat_penalty"] = 1.0;
  Json answer = parse_json(client_.post(path, question.dump(-1, ' ', false, Json::error_handler_t::replace)), asked);
  if (answer.is_object() && answer.contains("error")) fail(asked, "an answer", to_line(answer["error"]).substr(0, 200));
  return answer;
}

void ServedModel::check_answerer(const Json& answer, const std::string& asked) const {
  if (answer.is_object() && answer.contains("model") && answer["model"] != Json(name_))
    fail(asked + ": model", "'" + name_ + "'", to_line(answer["model"]).substr(0, 200), "the server answers with another model");
}

}  // namespace attar
