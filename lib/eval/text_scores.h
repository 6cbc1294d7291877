#pragma once
#include <string>
#include <vector>

namespace attar {

/// Words as ROUGE counts them: lower case, runs of letters and digits; bytes of other scripts than ASCII count as letters.
std::vector<std::string> rouge_words(const std::string& text);
/// Words as SQuAD compares them: lower case, without ASCII punctuation and the articles a, an, the, split at white space.
std::vector<std::string> squad_words(const std::string& text);
/// `text` without white space at its ends.
std::string trimmed(const std::string& text);

/// F-measure of the longest common subsequence of words (Lin 2004), 0 to 1; 0 if one of them has no words.
double rouge_l(const std::string& expected, const std::string& written);
/// F-measure of the words that both hold, by how often each holds them (Rajpurkar et al. 2016); two without words are equal: 1.
double word_f1(const std::string& expected, const std::string& written);

/// The first word of what was written, and whether it is `word`: punctuation at their ends aside, letter by letter.
bool begins_with_word(const std::string& written, const std::string& word);

/// Which of the answers a free text gives: equal to it (case, white space, quotes and a full stop aside), else the longest that it begins with at
/// a word's end, else the only one that stands in it as words of its own; -1 if none does.
int64_t matched_answer(const std::string& written, const std::vector<std::string>& answers);

}  // namespace attar
