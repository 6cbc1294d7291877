#include "model/init_layers.h"

#include <ATen/ATen.h>

#include <cmath>

#include "base/check.h"

namespace attar {

std::vector<int64_t> chosen_layers(const InitConfig& config, int64_t wanted, int64_t given) {
  check(config.layers.empty() || config.every == 0, "init", "layers or every", "both");
  check(config.every >= 0, "init.every", "1 or more, or 0", std::to_string(config.every));
  std::vector<int64_t> chosen = config.layers;
  if (chosen.empty() && config.every > 0) {
    for (int64_t layer = config.every; layer <= given; layer += config.every) chosen.push_back(layer);
  } else if (chosen.empty()) {
    check(wanted <= given, "init.from", str("a model of ", wanted, " layers at least, as the student has"), str(given, " layers"),
          "name them in init.layers; one may be named twice");
    for (int64_t i = 0; i < wanted; ++i)
      chosen.push_back(wanted == 1 ? 1 : 1 + std::llround(static_cast<double>(i * (given - 1)) / static_cast<double>(wanted - 1)));
  }
  check(static_cast<int64_t>(chosen.size()) == wanted, config.every > 0 ? "init.every" : "init.layers",
        str("as many layers as the student has: ", wanted), std::to_string(chosen.size()), "change the student's layers or the choice");
  for (const int64_t layer : chosen)
    check(layer >= 1 && layer <= given, "init.layers", str("numbers from 1 to ", given, ", the layers of init.from"), std::to_string(layer));
  return chosen;
}

StateDict weights_from_layers(const ModelSpec& student, const Checkpoint& from, const std::vector<int64_t>& layers) {
  StateDict out;
  for (const ParameterInfo& parameter : parameters_of(student)) {
    std::string source = parameter.name;
    const std::string before = "model.layers.";
    if (source.starts_with(before)) {
      const size_t end = source.find('.', before.size());
      const auto layer = static_cast<size_t>(std::stoll(source.substr(before.size(), end - before.size())));
      source = layer_name(layers.at(layer) - 1, source.substr(end + 1));
    }
    auto found = from.weights.find(source);
    if (found == from.weights.end() && source == "lm_head.weight") found = from.weights.find("model.embed_tokens.weight");
    check(found != from.weights.end(), "init.from: tensor " + source, "to be there, as the student has " + parameter.name, "nothing",
          "the student's features (biases, norms) must be those of the model it begins with");
    check(found->second.sizes() == at::IntArrayRef(parameter.shape), "init.from: tensor " + source,
          attar::str("the student's shape ", at::IntArrayRef(parameter.shape)), attar::str(found->second.sizes()),
          "the student must have the same hidden size, heads, FFN size and vocabulary");
    out[parameter.name] = found->second.detach().to(at::kFloat).clone();
  }
  return out;
}

}  // namespace attar
