#include "tokenizer/gguf_specials.h"

#include <algorithm>
#include <unordered_set>

namespace attar {
namespace {

bool is_c_space(char character) { return character == ' ' || (character >= '\t' && character <= '\r'); }

/// Texts that readers take for the end of a turn or of a generation, or for the marks of fill-in-the-middle, whatever their type says.
const std::unordered_set<std::string_view>& control_texts() {
  static const std::unordered_set<std::string_view> kTexts = {
      "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>", "<|endoftext|>", "</s>",
          "<|eom_id|>",
      "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
      "<\xEF\xBD\x9C""end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
      "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>", "\xE2\x96\x81<PRE>", "<|code_prefix|>",
      "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<SUF>", "\xE2\x96\x81<SUF>", "<|code_suffix|>",
      "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<MID>", "\xE2\x96\x81<MID>", "<|code_middle|>",
      "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>"};
  return kTexts;
}

}  // namespace

GgufSpecials::GgufSpecials(const GgufVocabulary& vocabulary) {
  hidden_.resize(vocabulary.tokens.size());
  std::string model = vocabulary.general_name;
  for (char& letter : model)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  const bool phi3 = model.find("phi-3") != std::string::npos || model.find("phi3") != std::string::npos;
  static const std::unordered_set<std::string_view> kKeepRight = {"<unk>", "<s>", "<|endoftext|>"};
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string& text = vocabulary.tokens[id];
    const bool control = control_texts().contains(text) || vocabulary.types[id] == GgufVocabulary::kControl ||
        vocabulary.types[id] == GgufVocabulary::kUnknown;
    hidden_[id] = control || vocabulary.types[id] == GgufVocabulary::kUnused;
    if ((!control && vocabulary.types[id] != GgufVocabulary::kUserDefined) || text.empty()) continue;
    tokens_.push_back({static_cast<int32_t>(id), text, control, phi3 && !kKeepRight.contains(text)});
  }
  std::stable_sort(tokens_.begin(), tokens_.end(), [](const Special& a, const Special& b) { return a.text.size() > b.text.size(); });
}

void GgufSpecials::split(std::string_view text, bool specials, const std::function<void(std::string_view, int32_t)>& piece) const {
  struct Fragment {
    std::string_view text;
    int32_t id;
  };
  std::vector<Fragment> fragments, next;
  if (!text.empty()) fragments.push_back({text, -1});
  for (const Special& special : tokens_) {
    if (special.control && !specials) continue;
    if (text.find(special.text) == std::string_view::npos) continue;
    next.clear();
    for (const Fragment& fragment : fragments) {
      if (fragment.id >= 0) {
        next.push_back(fragment);
        continue;
      }
      std::string_view rest = fragment.text;
      for (size_t at; (at = rest.find(special.text)) != std::string_view::npos;) {
        if (at > 0) next.push_back({rest.substr(0, at), -1});
        next.push_back({rest.substr(at, special.text.size()), special.id});
        rest.remove_prefix(at + special.text.size());
        while (special.strip_right && !rest.empty() && is_c_space(rest[0])) rest.remove_prefix(1);
      }
      if (!rest.empty()) next.push_back({rest, -1});
    }
    fragments.swap(next);
  }
  for (const Fragment& fragment : fragments) piece(fragment.text, fragment.id);
}

}  // namespace attar
