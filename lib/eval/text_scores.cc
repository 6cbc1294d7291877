#include "eval/text_scores.h"

#include <algorithm>
#include <cstdint>
#include <map>

namespace attar {
namespace {

constexpr const char* kWhiteSpace = " \t\r\n\v\f";
constexpr const char* kPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

char lower_ascii(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string lower_text(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), lower_ascii);
  return text;
}

bool is_word_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || static_cast<unsigned char>(c) >= 0x80;
}

/// Labels are often written with underscores, which belong to them.
bool is_name_byte(char c) { return is_word_byte(c) || c == '_'; }

double f_measure(double common, double expected, double written) {
  return common > 0 ? 2 * common / (expected + written) : 0;
}

/// Without the characters `outer` at both ends.
std::string stripped(const std::string& text, const char* outer) {
  const size_t begin = text.find_first_not_of(outer);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(outer) - begin + 1);
}

/// Whether `text` holds `words` at `at` with nothing of a word on either side.
bool stands_at(const std::string& text, size_t at, const std::string& words) {
  const size_t end = at + words.size();
  const bool left = at == 0 || !is_name_byte(text[at - 1]) || !is_name_byte(words.front());
  const bool right = end == text.size() || !is_name_byte(text[end]) || !is_name_byte(words.back());
  return left && right;
}

}  // namespace

std::vector<std::string> rouge_words(const std::string& text) {
  std::vector<std::string> out;
  bool inside = false;
  for (const char c : text) {
    const bool word = is_word_byte(c);
    if (word && !inside) out.emplace_back();
    if (word) out.back() += lower_ascii(c);
    inside = word;
  }
  return out;
}

std::vector<std::string> squad_words(const std::string& text) {
  std::string plain;
  for (const char c : text)
    if (std::string(kPunctuation).find(c) == std::string::npos) plain += lower_ascii(c);
  std::vector<std::string> out;
  for (size_t begin = plain.find_first_not_of(kWhiteSpace); begin != std::string::npos;) {
    const size_t end = std::min(plain.find_first_of(kWhiteSpace, begin), plain.size());
    std::string word = plain.substr(begin, end - begin);
    if (word != "a" && word != "an" && word != "the") out.push_back(std::move(word));
    begin = plain.find_first_not_of(kWhiteSpace, end);
  }
  return out;
}

std::string trimmed(const std::string& text) { return stripped(text, kWhiteSpace); }

double rouge_l(const std::string& expected, const std::string& written) {
  const std::vector<std::string> a = rouge_words(expected), b = rouge_words(written);
  std::vector<int64_t> row(b.size() + 1, 0);
  for (const std::string& word : a) {
    int64_t diagonal = 0;
    for (size_t j = 1; j <= b.size(); ++j) {
      const int64_t above = row[j];
      row[j] = word == b[j - 1] ? diagonal + 1 : std::max(above, row[j - 1]);
      diagonal = above;
    }
  }
  return f_measure(static_cast<double>(row.back()), static_cast<double>(a.size()), static_cast<double>(b.size()));
}

double word_f1(const std::string& expected, const std::string& written) {
  const std::vector<std::string> a = squad_words(expected), b = squad_words(written);
  if (a.empty() || b.empty()) return a.empty() && b.empty() ? 1 : 0;
  std::map<std::string, int64_t> left;
  for (const std::string& word : a) ++left[word];
  double common = 0;
  for (const std::string& word : b) common += left[word]-- > 0 ? 1 : 0;
  return f_measure(common, static_cast<double>(a.size()), static_cast<double>(b.size()));
}

bool begins_with_word(const std::string& written, const std::string& word) {
  const std::string text = trimmed(written);
  const std::string first = stripped(text.substr(0, std::min(text.find_first_of(kWhiteSpace), text.size())), kPunctuation);
  const std::string wanted = stripped(trimmed(word), kPunctuation);
  // A word that is punctuation alone stands for itself.
  return wanted.empty() ? text.starts_with(trimmed(word)) : first == wanted;
}

int64_t matched_answer(const std::string& written, const std::vector<std::string>& answers) {
  const std::string ends = std::string(kWhiteSpace) + "\"'`*.";
  const std::string text = lower_text(stripped(written, ends.c_str()));
  if (text.empty()) return -1;
  int64_t begins = -1, inside = -1;
  size_t longest = 0, found = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    const std::string answer = lower_text(stripped(answers[i], ends.c_str()));
    if (answer.empty()) continue;
    if (text == answer) return static_cast<int64_t>(i);
    if (text.starts_with(answer) && answer.size() > longest && stands_at(text, 0, answer)) begins = static_cast<int64_t>(i), longest = answer.size();
    for (size_t at = text.find(answer); at != std::string::npos; at = text.find(answer, at + 1)) {
      if (!stands_at(text, at, answer)) continue;
      inside = static_cast<int64_t>(i), ++found;
      break;
    }
  }
  return begins >= 0 ? begins : found == 1 ? inside : -1;
}

}  // namespace attar
