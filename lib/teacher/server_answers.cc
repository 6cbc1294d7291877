#include "teacher/server_answers.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

#include "base/check.h"
#include "base/utf8.h"

namespace attar {
namespace {

std::string json_excerpt(const Json& value) { return to_line(value).substr(0, 80); }

const Json& first_choice(const Json& answer, const std::string& name) {
  const Json* list = answer.is_object() && answer.contains("choices") ? &answer["choices"] : nullptr;
  if (!list || !list->is_array() || list->empty() || !(*list)[0].is_object()) fail(name + ": answer", "an object with choices", json_excerpt(answer));
  return (*list)[0];
}

double log_probability(const Json& value, const std::string& name) {
  if (!value.is_number()) fail(name + ": log-probability", "a number", json_excerpt(value));
  const double number = value.get<double>();
  if (!std::isfinite(number)) fail(name + ": log-probability", "a finite number", str(number));
  return number;
}

/// Candidates by falling log-probability, at most k of them.
void keep_best(std::vector<std::pair<int32_t, double>>& found, int64_t k, SaidPosition& out) {
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  if (static_cast<int64_t>(found.size()) > k) found.resize(static_cast<size_t>(k));
  for (const auto& [id, value] : found) {
    out.ids.push_back(id);
    out.log_probs.push_back(value);
  }
}

/// Bytes that are no whole UTF-8 character are left out, as servers do that decode with errors ignored.
std::string whole_characters(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t size = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
    bool whole = size > 0 && i + size <= text.size();
    for (size_t j = 1; whole && j < size; ++j) whole = (static_cast<unsigned char>(text[i + j]) & 0xC0u) == 0x80u;
    if (whole) out.append(text, i, size);
    i += whole ? size : 1;
  }
  return out;
}

}  // namespace

std::vector<SaidPosition> read_vllm_answer(const Json& answer, const std::vector<int32_t>& ids, int64_t k, const std::string& name) {
  const Json& choice = first_choice(answer, name);
  const Json* list = choice.contains("prompt_logprobs") ? &choice["prompt_logprobs"] : nullptr;
  if (!list || !list->is_array()) {
    fail(name + ": prompt_logprobs", "a list", list ? json_excerpt(*list) : "nothing",
         "the server must be vLLM or answer as it does; else name another server.api");
  }
  if (choice.contains("prompt_token_ids") && choice["prompt_token_ids"].is_array() && choice["prompt_token_ids"] != Json(ids))
    fail(name + ": prompt_token_ids", "the ids that were sent", json_excerpt(choice["prompt_token_ids"]));
  if (list->size() != ids.size()) fail(name + ": prompt_logprobs", str(ids.size(), " positions"), str(list->size()));
  std::vector<SaidPosition> out(ids.size());
  for (size_t t = 1; t < ids.size(); ++t) {
    const std::string place = str(name, ": position ", t);
    const Json& entries = (*list)[t];
    if (!entries.is_object()) fail(place, "a map of log-probabilities", json_excerpt(entries));
    std::vector<std::pair<int64_t, std::pair<int32_t, double>>> ranked;
    bool label_found = false;
    for (const auto& [key, entry] : entries.items()) {
      int32_t id = -1;
      const auto [end, problem] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (problem != std::errc() || end != key.data() + key.size()) fail(place + ": key", "a token id", "'" + one_line(key).substr(0, 40) + "'");
      if (!entry.is_object() || !entry.contains("logprob")) fail(place, "entries with a logprob", json_excerpt(entry));
      const double value = log_probability(entry["logprob"], place);
      const int64_t rank = entry.contains("rank") && json_fits<int64_t>(entry["rank"]) ? entry["rank"].get<int64_t>() : 0;
      if (id == ids[t]) label_found = true, out[t].label_log_prob = value;
      ranked.push_back({rank, {id, value}});
    }
    if (!label_found) {
      fail(place, str("the log-probability of the prompt's token ", ids[t]), "none", "another tokenizer's ids, or not the prompt that was sent");
    }
    const bool with_ranks = std::all_of(ranked.begin(), ranked.end(), [](const auto& entry) { return entry.first >= 1; });
    if (with_ranks) std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    if (!with_ranks) std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.second.second > b.second.second; });
    if (static_cast<int64_t>(ranked.size()) < k)
      fail(place + ": log-probabilities", str("the ", k, " likeliest"), str(ranked.size()),
           "vLLM gives at most --max-logprobs of them, 20 unless told");
    for (int64_t i = 0; i < k; ++i) {
      const auto& [rank, entry] = ranked[static_cast<size_t>(i)];
      if (with_ranks && rank > k) fail(place + ": ranks", str("1 to ", k), str(rank));
      out[t].ids.push_back(entry.first);
      out[t].log_probs.push_back(entry.second);
      if (i > 0 && entry.second > out[t].log_probs[static_cast<size_t>(i - 1)] + 1e-6)
        fail(place + ": log-probabilities", "falling with their rank", str(out[t].log_probs[static_cast<size_t>(i - 1)], " before ", entry.second));
    }
  }
  return out;
}

SaidPosition read_llama_answer(const Json& answer, int32_t label, int64_t k, const std::string& name) {
  const Json* list = answer.is_object() && answer.contains("completion_probabilities") ? &answer["completion_probabilities"] : nullptr;
  const Json* one = list && list->is_array() && !list->empty() && (*list)[0].is_object() ? &(*list)[0] : nullptr;
  if (!one || !one->contains("top_logprobs") || !(*one)["top_logprobs"].is_array()) {
    fail(name + ": completion_probabilities", "a list with top_logprobs", list ? json_excerpt(*list) : json_excerpt(answer),
         "llama.cpp's server of 2025 or later");
  }
  const Json& top = (*one)["top_logprobs"];
  if (static_cast<int64_t>(top.size()) != k) fail(name + ": top_logprobs", str("the ", k, " likeliest"), str(top.size()));
  SaidPosition out;
  double mass = 0;
  bool label_found = false;
  for (const Json& entry : top) {
    if (!entry.is_object() || !entry.contains("id") || !json_fits<int32_t>(entry["id"]) || !entry.contains("logprob"))
      fail(name + ": top_logprobs", "entries with id and logprob", json_excerpt(entry));
    const auto id = entry["id"].get<int32_t>();
    const double value = log_probability(entry["logprob"], name);
    out.ids.push_back(id);
    out.log_probs.push_back(value);
    mass += std::exp(value);
    if (id == label) label_found = true, out.label_log_prob = value;
  }
  // All that is known of a label outside the list: it is at most the last one named, and at most what is left.
  if (!label_found) out.label_log_prob = std::min(out.log_probs.back(), std::log(std::max(1e-30, 1 - mass)));
  return out;
}

TokenTexts::TokenTexts(const Tokenizer& tokenizer) {
  // Decoders drop a text's first space: each token is shown behind another one.
  std::vector<int32_t> anchor;
  std::string shown;
  for (int32_t id = 0; id < tokenizer.size() && anchor.empty(); ++id) {
    shown = tokenizer.decode({id, id});
    if (shown.size() >= 2 && whole_characters(shown) == shown && std::isalnum(static_cast<unsigned char>(shown.front()))) anchor = {id};
  }
  check(!anchor.empty(), "a tokenizer", "tokens of text", "none");
  shown = tokenizer.decode(anchor);
  std::vector<bool> bytes;
  for (int32_t id = 0; id < tokenizer.size(); ++id) {
    const std::string text = tokenizer.decode({anchor[0], id});
    texts_.push_back(whole_characters(text.starts_with(shown) ? text.substr(shown.size()) : ""));
    const std::string piece = tokenizer.piece(id);
    bytes.push_back(piece.size() == 6 && piece.starts_with("<0x") && piece.ends_with(">"));
    ids_[texts_.back()].push_back(id);
  }
  for (auto& [text, ids] : ids_) {
    if (std::any_of(ids.begin(), ids.end(), [&](int32_t id) { return !bytes[static_cast<size_t>(id)]; }))
      std::erase_if(ids, [&](int32_t id) { return bytes[static_cast<size_t>(id)]; });
  }
}

const std::vector<int32_t>& TokenTexts::ids(const std::string& text) const {
  static const std::vector<int32_t> none;
  const auto found = ids_.find(text);
  return found == ids_.end() ? none : found->second;
}

std::vector<SaidPosition> read_echo_answer(const Json& answer, const std::vector<int32_t>& ids, int32_t bos, int64_t k, const TokenTexts& texts,
                                           const std::string& name) {
  const Json& choice = first_choice(answer, name);
  const Json* logprobs = choice.contains("logprobs") ? &choice["logprobs"] : nullptr;
  const auto list = [&](const char* key) -> const Json& {
    if (!logprobs || !logprobs->is_object() || !logprobs->contains(key) || !(*logprobs)[key].is_array())
      fail(name + ": logprobs." + key, "a list", logprobs ? json_excerpt(*logprobs) : "nothing", "the server must echo the prompt with logprobs");
    return (*logprobs)[key];
  };
  const Json &tokens = list("tokens"), &own = list("token_logprobs"), &top = list("top_logprobs");
  if (tokens.size() != own.size() || tokens.size() != top.size())
    fail(name + ": logprobs", "lists of one length", str(tokens.size(), ", ", own.size(), ", ", top.size()));
  std::vector<SaidPosition> out(ids.size());
  size_t at = 0;
  for (size_t t = 0; t < ids.size(); ++t) {
    if (ids[t] == bos) {
      out[t].known = false;
      continue;
    }
    const std::string place = str(name, ": token ", t);
    if (at >= tokens.size())
      fail(name + ": tokens", str("those of the prompt, ", ids.size()), str(tokens.size()), "the server cut the text into other tokens");
    const std::string& wanted = texts.of(ids[t]);
    if (!tokens[at].is_string() || tokens[at].get<std::string>() != wanted)
      fail(place, "'" + one_line(wanted) + "'", json_excerpt(tokens[at]),
           "the server cut the text into other tokens: another tokenizer, or rows that cannot go as text");
    if (own[at].is_null() || top[at].is_null()) {
      if (at > 0) fail(place, "log-probabilities", "null");
      out[t].known = false;
      ++at;
      continue;
    }
    out[t].label_log_prob = log_probability(own[at], place);
    if (!top[at].is_object() || top[at].empty()) fail(place + ": top_logprobs", "a map", json_excerpt(top[at]));
    std::vector<std::pair<int32_t, double>> found = {{ids[t], out[t].label_log_prob}};
    double before = 0;
    for (auto entry = top[at].begin(); entry != top[at].end(); ++entry) {
      const double value = log_probability(entry.value(), place);
      const std::vector<int32_t>& named = texts.ids(entry.key());
      if (named.empty())
        fail(place + ": token", "one of this tokenizer's", "'" + one_line(entry.key()).substr(0, 40) + "'", "another tokenizer's tokens");
      if (entry.key() == wanted) continue;
      // Several ids of one text overwrite each other in such a map, the last, least likely one stays: its place shows it.
      const auto next = std::next(entry);
      const bool overwritten = next != top[at].end() && next.key() != wanted && log_probability(next.value(), place) > value + 1e-6;
      if (overwritten || named.size() > 1) continue;
      if (value > before + 1e-6) fail(place + ": log-probabilities", "by falling value", str(before, " before ", value));
      before = value;
      found.push_back({named[0], value});
    }
    keep_best(found, k, out[t]);
    ++at;
  }
  if (tokens.size() > at + 1) {
    fail(name + ": tokens", str(at, " of the prompt and at most one more"), str(tokens.size()), "the server cut the text into other tokens");
  }
  return out;
}

}  // namespace attar
