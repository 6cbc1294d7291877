#include "base/check.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstdio>

#include "base/utf8.h"

namespace attar {

namespace {

/// What one part of a message may take: enough for a long list of names, little enough for a log.
constexpr size_t kLongestPart = 4000;

std::string message_part(const std::string& text) {
  if (text.size() <= kLongestPart) return one_line(text);
  size_t end = kLongestPart;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80u) --end;
  return one_line(std::string_view(text).substr(0, end)) + "...";
}

std::string joined_lines(const std::vector<Fault>& faults) {
  std::string out;
  for (const Fault& fault : faults) {
    if (!out.empty()) out += '\n';
    out += fault.line();
  }
  return out;
}

std::string lower_case(const std::string& text) {
  std::string out = text;
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

/// Edit distance with swaps of neighbours (optimal string alignment).
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), now(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) now[j] = std::min(now[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, now);
  }
  return last[b.size()];
}

/// Three significant digits without exponent or trailing zeros.
std::string three_digits(double value) {
  char out[64];
  std::snprintf(out, sizeof out, std::fabs(value) >= 99.95 ? "%.0f" : std::fabs(value) >= 9.995 ? "%.1f" : "%.2f", value);
  std::string text = out;
  if (text.find('.') != std::string::npos) {
    while (text.back() == '0') text.pop_back();
    if (text.back() == '.') text.pop_back();
  }
  return text;
}

std::string with_unit(double value, double step, const std::vector<const char*>& units) {
  if (!std::isfinite(value)) return "?";
  size_t unit = 0;
  while (unit + 1 < units.size() && std::fabs(value) >= step - 0.5) {
    value /= step;
    ++unit;
  }
  return three_digits(value) + units[unit];
}

}  // namespace

std::string Fault::line() const {
  std::string out = message_part(what);
  const auto add = [&](const char* word, const std::string& part) {
    if (part.empty()) return;
    if (!out.empty()) out += ", ";
    out += word + message_part(part);
  };
  add("expected ", expected);
  add("received ", received);
  add("", hint);
  return out;
}

Error::Error(Fault fault, std::source_location where) : std::runtime_error(fault.line()), faults_{std::move(fault)}, where_(where) {}
Error::Error(std::vector<Fault> faults, std::source_location where)
    : std::runtime_error(joined_lines(faults)), faults_(std::move(faults)), where_(where) {}

void fail(std::string what, std::string expected, std::string received, std::string hint, std::source_location where) {
  throw Error(Fault{std::move(what), std::move(expected), std::move(received), std::move(hint)}, where);
}

std::string nearest(const std::string& word, const std::vector<std::string>& known) {
  constexpr size_t kLongestWord = 200;  // the distance takes time with the product of the lengths
  if (word.empty() || word.size() > kLongestWord) return "";
  const std::string wanted = lower_case(word);
  std::string best;
  size_t best_distance = SIZE_MAX;
  for (const std::string& candidate : known) {
    if (candidate.empty() || candidate.size() > kLongestWord) continue;
    const size_t distance = edit_distance(wanted, lower_case(candidate));
    const size_t limit = std::max<size_t>(1, std::min(word.size(), candidate.size()) / 3);
    if (distance <= limit && distance < best_distance && distance < candidate.size()) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string nearest_hint(const std::string& word, const std::vector<std::string>& known) {
  const std::string near = nearest(word, known);
  if (!near.empty()) return "did you mean '" + near + "'?";
  if (known.empty()) return "";
  constexpr size_t kMostNamed = 60;
  std::string out = "known: ";
  for (size_t i = 0; i < known.size() && i < kMostNamed; ++i) out += (i ? ", " : "") + known[i];
  if (known.size() > kMostNamed) out += ", ... (" + std::to_string(known.size()) + " in all)";
  return out;
}

std::string human_bytes(double bytes) { return with_unit(bytes, 1024, {" B", " KiB", " MiB", " GiB", " TiB", " PiB"}); }
std::string human_count(double count) { return with_unit(count, 1000, {"", " K", " M", " B", " T"}); }

std::string human_seconds(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e15) return "?";
  if (seconds < 59.95) return three_digits(seconds) + "s";
  char out[64];
  const int64_t whole = static_cast<int64_t>(std::llround(seconds));
  const auto two = [&](int64_t big, const char* first, int64_t small, const char* second) {
    std::snprintf(out, sizeof out, "%lld%s%02lld%s", static_cast<long long>(big), first, static_cast<long long>(small), second);
    return std::string(out);
  };
  if (whole < 3600) return two(whole / 60, "m", whole % 60, "s");
  if (whole < 86400) return two(whole / 3600, "h", whole % 3600 / 60, "m");
  return two(whole / 86400, "d", whole % 86400 / 3600, "h");
}

}  // namespace attar
