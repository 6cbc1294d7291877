#include "tokenizer/pre_tokenizer.h"

#include "base/check.h"
#include "base/utf8.h"
#include "tokenizer/bpe.h"

namespace attar {
namespace {

PreTokenizer::Behavior parse_behavior(const Json& json, const std::string& name) {
  using Behavior = PreTokenizer::Behavior;
  const std::string text = get<std::string>(json, "behavior", name);
  if (text == "Isolated") return Behavior::isolated;
  if (text == "Removed") return Behavior::removed;
  if (text == "MergedWithPrevious") return Behavior::merged_with_previous;
  if (text == "MergedWithNext") return Behavior::merged_with_next;
  if (text == "Contiguous") return Behavior::contiguous;
  fail(name + ": behavior", "Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous", text);
}

bool bool_in(const Json& json, const char* key, bool fallback) {
  return json.contains(key) && json.at(key).is_boolean() ? json.at(key).get<bool>() : fallback;
}

/// Appends the words that `step` makes of `text`.
void apply_split(const PreTokenizer::Step& step, std::string_view text, std::vector<std::string_view>& out) {
  using Behavior = PreTokenizer::Behavior;
  const Regex& regex = step.regex[0];
  size_t done = 0, from = 0;
  bool last_was_match = false;
  const size_t first_word = out.size();
  const auto put = [&](size_t begin, size_t end, bool match) {
    if (begin == end) return;
    const std::string_view word = text.substr(begin, end - begin);
    const bool joins = out.size() > first_word;
    switch (step.behavior) {
      case Behavior::isolated: out.push_back(word); break;
      case Behavior::removed:
        if (!match) out.push_back(word);
        break;
      case Behavior::contiguous:
        if (joins && match == last_was_match) out.back() = {out.back().data(), out.back().size() + word.size()};
        else out.push_back(word);
        break;
      case Behavior::merged_with_previous:
        if (joins && match && !last_was_match) out.back() = {out.back().data(), out.back().size() + word.size()};
        else out.push_back(word);
        break;
      case Behavior::merged_with_next:
        if (joins && !match && last_was_match) out.back() = {out.back().data(), out.back().size() + word.size()};
        else out.push_back(word);
        break;
    }
    last_was_match = match;
  };
  Regex::Match match{};
  while (from < text.size() && regex.find(text, from, match)) {
    if (match.end == match.begin) {
      // An empty match cuts nothing; go on behind the next character.
      if (match.begin >= text.size()) break;
      from = match.begin + std::max<size_t>(utf8_length(text, match.begin), 1);
      continue;
    }
    put(done, match.begin, step.invert);
    put(match.begin, match.end, !step.invert);
    done = from = match.end;
  }
  put(done, text.size(), step.invert);
}

}  // namespace

const char* const kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

PreTokenizer::PreTokenizer(const Json& json, const std::string& name) {
  if (!json.is_null()) add(json, name, 0);
}

PreTokenizer PreTokenizer::isolating(const std::vector<std::string>& patterns) {
  PreTokenizer out;
  for (const std::string& pattern : patterns) out.add_split(pattern, Behavior::isolated, false, "split rule");
  out.byte_level_ = true;
  return out;
}

void PreTokenizer::add_split(std::string pattern, Behavior behavior, bool invert, const std::string& name) {
  Step step;
  step.regex.emplace_back(pattern, name);
  step.pattern = std::move(pattern);
  step.behavior = behavior;
  step.invert = invert;
  steps_.push_back(std::move(step));
}

void PreTokenizer::add(const Json& json, const std::string& name, int depth) {
  const std::string type = get<std::string>(json, "type", name);
  const std::string place = name + " " + type;
  if (depth > 8) fail(place, "sequences at most 8 deep");
  if (type == "Sequence") {
    const Json& parts = json.contains("pretokenizers") ? json.at("pretokenizers") : Json::array();
    // What follows ByteLevel works on text spelled in its alphabet, where some bytes look like digits or signs.
    bool spelled = false;
    for (const Json& part : parts) {
      if (byte_level_) {
        byte_level_ = false;
        spelled = true;
        steps_.push_back({.kind = Step::Kind::spell});
        add(part, name, depth + 1);
        if (byte_level_) fail(place, "ByteLevel once", "two of it");
      } else {
        add(part, name, depth + 1);
        if (spelled && byte_level_) fail(place, "ByteLevel once", "two of it");
      }
    }
    if (spelled) {
      steps_.push_back({.kind = Step::Kind::unspell});
      byte_level_ = true;
    }
  } else if (type == "Split") {
    const Json& pattern = json.contains("pattern") ? json.at("pattern") : Json();
    if (!pattern.is_object()) fail(place + ": pattern", "String or Regex", to_line(pattern).substr(0, 80));
    const std::string regex = pattern.contains("Regex") ? get<std::string>(pattern, "Regex", place) : Regex::escape(get<std::string>(pattern,
        "String", place));
    add_split(regex, parse_behavior(json, place), bool_in(json, "invert", false), place);
  } else if (type == "ByteLevel") {
    if (bool_in(json, "add_prefix_space", true)) {
      Step step;
      step.kind = Step::Kind::prefix_space;
      steps_.push_back(std::move(step));
    }
    if (bool_in(json, "use_regex", true)) add_split(kGpt2Pattern, Behavior::isolated, false, place);
    byte_level_ = true;
  } else if (type == "Digits") {
    const bool each = bool_in(json, "individual_digits", false);
    add_split("\\p{N}", each ? Behavior::isolated : Behavior::contiguous, false, place);
  } else if (type == "Punctuation") {
    // ASCII's signs and symbols count as punctuation too.
    add_split("[\\p{P}!-\\/:-@\\[-`{-~]", json.contains("behavior") ? parse_behavior(json, place) : Behavior::isolated, false, place);
  } else if (type == "WhitespaceSplit") {
    add_split("\\s", Behavior::removed, false, place);
  } else if (type == "Whitespace") {
    add_split("\\w+|[^\\w\\s]+", Behavior::removed, true, place);
  } else if (type == "CharDelimiterSplit") {
    add_split(Regex::escape(get<std::string>(json, "delimiter", place)), Behavior::removed, false, place);
  } else if (type == "Metaspace") {
    Step step;
    step.kind = Step::Kind::metaspace;
    step.replacement = json.contains("replacement") ? get<std::string>(json, "replacement", place) : "\xE2\x96\x81";
    std::string scheme = bool_in(json, "add_prefix_space", true) ? "always" : "never";
    if (json.contains("prepend_scheme")) scheme = get<std::string>(json, "prepend_scheme", place);
    if (scheme != "always" && scheme != "first" && scheme != "never") fail(place + ": prepend_scheme", "always, first or never", scheme);
    step.prepend = scheme == "always" ? Step::Prepend::always : scheme == "first" ? Step::Prepend::first : Step::Prepend::never;
    const std::string replacement = step.replacement;
    steps_.push_back(std::move(step));
    if (bool_in(json, "split", true)) add_split(Regex::escape(replacement), Behavior::merged_with_next, false, place);
  } else {
    fail(name, "Split, ByteLevel, Digits, Punctuation, Metaspace, Whitespace, WhitespaceSplit, CharDelimiterSplit or a Sequence of them", type);
  }
}

void PreTokenizer::split(std::string_view text, bool at_start, std::string& storage, std::vector<std::string_view>& words) const {
  words.clear();
  if (text.empty()) return;
  words.push_back(text);
  std::vector<std::string_view> next;
  for (const Step& step : steps_) {
    next.clear();
    if (step.kind == Step::Kind::split) {
      for (const std::string_view word : words) apply_split(step, word, next);
    } else {
      // The characters change: write all words anew, then point into the new text.
      std::string fresh, bytes;
      std::vector<size_t> ends;
      for (size_t i = 0; i < words.size(); ++i) {
        const std::string_view word = words[i];
        if (step.kind == Step::Kind::spell) {
          for (const char byte : word) fresh += byte_alphabet()[static_cast<uint8_t>(byte)];
        } else if (step.kind == Step::Kind::unspell) {
          from_byte_alphabet(word, bytes);
          fresh += bytes;
        } else if (step.kind == Step::Kind::prefix_space) {
          if (!word.starts_with(' ')) fresh += ' ';
          fresh += word;
        } else {
          const bool prepend = step.prepend == Step::Prepend::always || (step.prepend == Step::Prepend::first && at_start && i == 0);
          if (prepend && !word.starts_with(step.replacement) && !word.starts_with(' ')) fresh += step.replacement;
          for (const char character : word)
            if (character == ' ') fresh += step.replacement;
            else fresh += character;
        }
        ends.push_back(fresh.size());
      }
      storage = std::move(fresh);
      size_t begin = 0;
      for (const size_t end : ends) {
        next.push_back(std::string_view(storage).substr(begin, end - begin));
        begin = end;
      }
    }
    words.swap(next);
  }
}

}  // namespace attar
