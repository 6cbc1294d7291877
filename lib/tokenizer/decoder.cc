#include "tokenizer/decoder.h"

#include "base/check.h"
#include "tokenizer/bpe.h"

namespace attar {
namespace {

std::string replaced(const std::string& text, const std::string& pattern, const std::string& content) {
  std::string out;
  size_t done = 0;
  for (size_t at; (at = text.find(pattern, done)) != std::string::npos; done = at + pattern.size()) {
    out.append(text, done, at - done);
    out += content;
  }
  return out.append(text, done);
}

/// The byte of "<0x41>", -1 if the token is not of that form.
int fallback_byte(const std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int value = 0;
  for (const char digit : {token[3], token[4]}) {
    if (digit >= '0' && digit <= '9') value = value * 16 + (digit - '0');
    else if (digit >= 'A' && digit <= 'F') value = value * 16 + (digit - 'A' + 10);
    else if (digit >= 'a' && digit <= 'f') value = value * 16 + (digit - 'a' + 10);
    else return -1;
  }
  return value;
}

std::string joined(const std::vector<std::string>& tokens) {
  std::string out;
  for (const std::string& token : tokens) out += token;
  return out;
}

}  // namespace

TokenDecoder::TokenDecoder(const Json& json, const std::string& name) {
  if (!json.is_null()) add(json, name, 0);
}

void TokenDecoder::add(const Json& json, const std::string& name, int depth) {
  const std::string type = get<std::string>(json, "type", name);
  const std::string place = name + " " + type;
  if (depth > 8) fail(place, "sequences at most 8 deep");
  if (type == "Sequence") {
    if (json.contains("decoders"))
      for (const Json& part : json.at("decoders")) add(part, name, depth + 1);
  } else if (type == "ByteLevel") {
    steps_.push_back({.kind = Step::Kind::byte_level});
  } else if (type == "ByteFallback") {
    steps_.push_back({.kind = Step::Kind::byte_fallback});
  } else if (type == "Fuse") {
    steps_.push_back({.kind = Step::Kind::fuse});
  } else if (type == "Replace") {
    Step step{.kind = Step::Kind::replace, .content = get<std::string>(json, "content", place)};
    const Json& pattern = json.contains("pattern") ? json.at("pattern") : Json();
    step.pattern = get<std::string>(pattern, "String", place);
    if (step.pattern.empty()) fail(place + ": pattern", "a text", "nothing");
    steps_.push_back(std::move(step));
  } else if (type == "Strip") {
    const auto start = get<int64_t>(json, "start", place), stop = get<int64_t>(json, "stop", place);
    if (start < 0 || stop < 0) fail(place, "counts from 0", str(start, " and ", stop));
    Step step{.kind = Step::Kind::strip, .content = get<std::string>(json, "content", place)};
    step.start = static_cast<size_t>(start);
    step.stop = static_cast<size_t>(stop);
    if (step.content.empty()) fail(place + ": content", "a character", "nothing");
    steps_.push_back(std::move(step));
  } else if (type == "Metaspace") {
    Step step{.kind = Step::Kind::metaspace};
    step.pattern = json.contains("replacement") ? get<std::string>(json, "replacement", place) : "\xE2\x96\x81";
    bool prefix = !json.contains("add_prefix_space") || json.at("add_prefix_space") == true;
    if (json.contains("prepend_scheme")) prefix = json.at("prepend_scheme") != "never";
    step.start = prefix;
    if (step.pattern.empty()) fail(place + ": replacement", "a character", "nothing");
    steps_.push_back(std::move(step));
  } else {
    fail(name, "ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace or a Sequence of them", type);
  }
}

std::string TokenDecoder::decode(std::vector<std::string> tokens) const {
  if (steps_.empty()) {
    std::string out;
    for (size_t i = 0; i < tokens.size(); ++i) out += (i ? " " : "") + tokens[i];
    return out;
  }
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Step::Kind::byte_level: {
        std::string bytes;
        for (std::string& token : tokens)
          if (from_byte_alphabet(token, bytes)) token = bytes;
        tokens = {joined(tokens)};
        break;
      }
      case Step::Kind::byte_fallback:
        for (std::string& token : tokens)
          if (const int byte = fallback_byte(token); byte >= 0) token.assign(1, static_cast<char>(byte));
        break;
      case Step::Kind::fuse: tokens = {joined(tokens)}; break;
      case Step::Kind::replace:
        for (std::string& token : tokens) token = replaced(token, step.pattern, step.content);
        break;
      case Step::Kind::strip:
        for (std::string& token : tokens) {
          for (size_t i = 0; i < step.start && token.starts_with(step.content); ++i) token.erase(0, step.content.size());
          for (size_t i = 0; i < step.stop && token.ends_with(step.content); ++i) token.resize(token.size() - step.content.size());
        }
        break;
      case Step::Kind::metaspace:
        for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = replaced(tokens[i], step.pattern, i == 0 && step.start ? "" : " ");
        break;
    }
  }
  return joined(tokens);
}

}  // namespace attar
