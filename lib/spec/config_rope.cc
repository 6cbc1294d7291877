#include "spec/config_rope.h"

#include <algorithm>
#include <cmath>

namespace attar {
namespace {

double yarn_magnitude(double factor, double weight) { return factor > 1 ? 0.1 * weight * std::log(factor) + 1 : 1; }

double longrope_magnitude(double stretch, int64_t original) {
  return stretch > 1 ? std::sqrt(1 + std::log(stretch) / std::log(static_cast<double>(original))) : 1;
}

/// The two objects a rope's keys may stand in: its own and the configuration's top level.
struct RopeSource {
  const ConfigReader& config;
  const ConfigReader& own;
  double default_theta;
};

int64_t original_context(const RopeSource& source, const Family& family, int64_t context) {
  // Hugging Face gives the top-level key the word, which Phi-3's class always has.
  if (source.config.has("original_max_position_embeddings")) return source.config.size("original_max_position_embeddings", 0);
  if (std::string(family.model_type) == "phi3") return 4096;
  return source.own.size("original_max_position_embeddings", context);
}

void read_longrope(const RopeSource& source, const Family& family, const ModelSpec& spec, RopeSpec& rope) {
  const size_t pairs = static_cast<size_t>(spec.rope_dims(rope) / 2);
  rope.long_factor = source.own.positives("long_factor", pairs);
  rope.short_factor = source.own.positives("short_factor", pairs);
  rope.original_context = original_context(source, family, spec.context);
  if (rope.original_context < 2) source.own.wrong("original_max_position_embeddings", "2 or more", str(rope.original_context));
  const double implied = static_cast<double>(spec.context) / static_cast<double>(rope.original_context);
  if (source.own.has("attention_factor")) {
    rope.attention_factor = source.own.positive("attention_factor", 1);
  } else if (source.own.has("factor")) {
    const double factor = source.own.positive("factor", 1);
    if (factor != implied) rope.attention_factor = longrope_magnitude(factor, rope.original_context);
  }
}

void read_yarn(const RopeSource& source, const Family& family, const ModelSpec& spec, RopeSpec& rope) {
  rope.original_context = original_context(source, family, spec.context);
  rope.factor = source.own.positive("factor", static_cast<double>(spec.context) / static_cast<double>(rope.original_context));
  auto or_default = [&](const char* key, double fallback) {
    const double value = source.own.number(key, fallback);
    return value != 0 ? value : fallback;
  };
  rope.beta_fast = or_default("beta_fast", 32);
  rope.beta_slow = or_default("beta_slow", 1);
  if (rope.beta_fast < rope.beta_slow || rope.beta_slow < 0)
    source.own.wrong("beta_slow", str("at most beta_fast = ", rope.beta_fast), str(rope.beta_slow));
  rope.truncate = source.own.boolean("truncate", true);
  const double top = source.own.number("mscale", 0), bottom = source.own.number("mscale_all_dim", 0);
  if (source.own.has("attention_factor")) {
    rope.attention_factor = source.own.positive("attention_factor", 1);
  } else if (top != 0 && bottom != 0) {
    rope.attention_factor = yarn_magnitude(rope.factor, top) / yarn_magnitude(rope.factor, bottom);
  }
}

RopeSpec read_rope(const RopeSource& source, const Family& family, const ModelSpec& spec) {
  const ConfigReader& own = source.own;
  const bool phi3 = std::string(family.model_type) == "phi3";
  RopeSpec rope;
  rope.theta = own.positive("rope_theta", source.default_theta);
  if (rope.theta <= 1) own.wrong("rope_theta", "a number above 1", str(rope.theta));
  const double partial = own.positive("partial_rotary_factor", source.config.positive("partial_rotary_factor", 1));
  const int64_t dims = static_cast<int64_t>(static_cast<double>(spec.head_size) * partial);
  if (partial > 1 || dims < 2 || dims % 2 != 0)
    own.wrong("partial_rotary_factor", str("an even number of the ", spec.head_size, " dimensions of a head"), str(partial));
  else if (dims != spec.head_size && !phi3)
    own.wrong("partial_rotary_factor", str("1 for model_type ", family.model_type), str(partial));
  else if (dims != spec.head_size)
    rope.dims = dims;

  std::string kind = own.text("rope_type", own.text("type", "default"));
  if (kind == "su" || (kind == "yarn" && phi3)) kind = "longrope";  // Phi-3's first names of it
  rope.kind = kind;
  if (own.has("mrope_section")) own.wrong("mrope_section", "to be absent", "a list", "rotary embeddings of several axes are not supported");
  if (kind == "linear") {
    rope.factor = own.positive("factor", 0);
  } else if (kind == "llama3") {
    rope.factor = own.positive("factor", 0);
    rope.low_frequency = own.positive("low_freq_factor", 0);
    rope.high_frequency = own.positive("high_freq_factor", 0);
    rope.original_context = original_context(source, family, spec.context);
    if (rope.high_frequency <= rope.low_frequency)
      own.wrong("high_freq_factor", str("more than low_freq_factor = ", rope.low_frequency), str(rope.high_frequency));
  } else if (kind == "yarn") {
    read_yarn(source, family, spec, rope);
  } else if (kind == "longrope") {
    read_longrope(source, family, spec, rope);
  } else if (kind != "default") {
    own.wrong(own.has("rope_type") ? "rope_type" : "type", "default, linear, llama3, yarn or longrope", kind,
              kind == "dynamic" ? "this rope type changes with the sequence's length and is not supported" : "this rope type is not supported");
    rope.kind = "default";
  }
  return rope;
}

Json rope_fields(const ModelSpec& spec, const RopeSpec& rope) {
  Json out = Json::object();
  if (rope.kind == "linear" || rope.kind == "llama3" || rope.kind == "yarn") out["factor"] = rope.factor;
  if (rope.kind == "llama3") {
    out["low_freq_factor"] = rope.low_frequency;
    out["high_freq_factor"] = rope.high_frequency;
  }
  if (rope.kind == "yarn") {
    out["beta_fast"] = rope.beta_fast;
    out["beta_slow"] = rope.beta_slow;
    if (!rope.truncate) out["truncate"] = false;
  }
  if (rope.kind == "longrope") {
    out["short_factor"] = rope.short_factor;
    out["long_factor"] = rope.long_factor;
  }
  // Phi-3's class keeps the original context beside its rope and, before version 5, takes exactly three keys.
  if (rope.kind == "llama3" || rope.kind == "yarn" || (rope.kind == "longrope" && spec.family != "phi3"))
    out["original_max_position_embeddings"] = rope.original_context;
  if ((rope.kind == "yarn" || rope.kind == "longrope") && rope.attention_factor > 0) out["attention_factor"] = rope.attention_factor;
  return out;
}

Json new_style(const ModelSpec& spec, const RopeSpec& rope) {
  Json out = {{"rope_type", rope.kind}, {"rope_theta", rope.theta}};
  if (spec.family == "phi3") out["partial_rotary_factor"] = static_cast<double>(spec.rope_dims(rope)) / static_cast<double>(spec.head_size);
  out.update(rope_fields(spec, rope));
  return out;
}

}  // namespace

RopeSpec plain_rope(const RopeSpec& rope, int64_t head_size, int64_t context) {
  RopeSpec plain;
  plain.kind = rope.kind;
  plain.theta = rope.theta;
  if (rope.dims != head_size) plain.dims = rope.dims;
  if (rope.kind == "linear" || rope.kind == "llama3" || rope.kind == "yarn") plain.factor = rope.factor;
  if (rope.kind == "llama3" || rope.kind == "yarn" || rope.kind == "longrope") plain.original_context = rope.original_context;
  if (rope.kind == "llama3") {
    plain.low_frequency = rope.low_frequency;
    plain.high_frequency = rope.high_frequency;
  }
  if (rope.kind == "yarn") {
    plain.beta_fast = rope.beta_fast;
    plain.beta_slow = rope.beta_slow;
    plain.truncate = rope.truncate;
    if (std::abs(rope.attention_factor - yarn_magnitude(rope.factor, 1)) > 1e-9) plain.attention_factor = rope.attention_factor;
  }
  if (rope.kind == "longrope") {
    plain.long_factor = rope.long_factor;
    plain.short_factor = rope.short_factor;
    const double stretch = static_cast<double>(context) / static_cast<double>(std::max<int64_t>(rope.original_context, 2));
    if (std::abs(rope.attention_factor - longrope_magnitude(stretch, rope.original_context)) > 1e-9) plain.attention_factor = rope.attention_factor;
  }
  return plain;
}

void read_ropes(const ConfigReader& config, const Family& family, ModelSpec& spec) {
  const bool layered = std::string(family.model_type) == "gemma3_text";
  static const Json kNothing = Json::object();
  std::vector<Fault> ignored;
  const ConfigReader nothing(kNothing, config.file(), ignored);
  for (const char* key : {"rope_parameters", "rope_scaling"})
    if (config.has(key) && !config.at(key).is_object()) return config.wrong(key, "an object or null", to_line(config.at(key)).substr(0, 60));

  const bool old_style = config.is_object("rope_scaling") && !config.at("rope_scaling").empty();
  const double theta = config.positive("rope_theta", layered ? 1e6 : 1e4);
  if (config.is_object("rope_parameters")) {
    const ConfigReader parameters = config.inner("rope_parameters");
    const bool nested = parameters.has("full_attention") || parameters.has("sliding_attention");
    if (nested && !layered) {
      return config.wrong("rope_parameters", str("one rope for all layers of model_type ", family.model_type), "one for each layer type");
    }
    if (nested) {
      const ConfigReader global = parameters.is_object("full_attention") ? parameters.inner("full_attention") : nothing;
      const ConfigReader local = parameters.is_object("sliding_attention") ? parameters.inner("sliding_attention") : nothing;
      spec.rope = read_rope({config, global, theta}, family, spec);
      spec.local_rope = read_rope({nothing, local, config.positive("rope_local_base_freq", 1e4)}, family, spec);
      return;
    }
    // rope_scaling, where both are given, is what Hugging Face reads; a missing theta is looked for in the other.
    const double inner_theta = parameters.positive("rope_theta", theta);
    spec.rope = read_rope({config, old_style ? config.inner("rope_scaling") : parameters, old_style ? theta : inner_theta}, family, spec);
  } else {
    spec.rope = read_rope({config, old_style ? config.inner("rope_scaling") : nothing, theta}, family, spec);
  }
  if (layered) spec.local_rope = read_rope({nothing, nothing, config.positive("rope_local_base_freq", 1e4)}, family, spec);
}

void write_ropes(const ModelSpec& spec, Json& config) {
  const RopeSpec& rope = spec.rope;
  config["rope_theta"] = rope.theta;
  if (spec.family == "phi3") config["partial_rotary_factor"] = static_cast<double>(spec.rope_dims(rope)) / static_cast<double>(spec.head_size);
  if (spec.family == "phi3" && rope.kind == "longrope") config["original_max_position_embeddings"] = rope.original_context;
  if (rope.kind == "default") {
    config["rope_scaling"] = nullptr;
  } else {
    // The oldest readers know linear and Phi-3's longrope by "type" alone.
    const bool oldest = spec.family != "gemma3_text" && (rope.kind == "linear" || (rope.kind == "longrope" && spec.family == "phi3"));
    Json scaling = {{oldest ? "type" : "rope_type", rope.kind}};
    scaling.update(rope_fields(spec, rope));
    config["rope_scaling"] = scaling;
  }
  if (spec.family == "gemma3_text") {
    config["rope_local_base_freq"] = spec.local_rope.theta;
    config["rope_parameters"] = {{"full_attention", new_style(spec, rope)}, {"sliding_attention", new_style(spec, spec.local_rope)}};
  } else {
    config["rope_parameters"] = new_style(spec, rope);
  }
}

}  // namespace attar
