#include <algorithm>
#include <array>
#include <cctype>

#include "base/utf8.h"
#include "report/terminal.h"

namespace attar {
namespace {

struct CodeRange {
  uint32_t first, last;
};

/// Marks that stand on the character before them, and characters without width (Unicode 15, categories Mn, Me and Cf, the common blocks).
constexpr std::array<CodeRange, 30> kNoWidth = {{{0x0300, 0x036F}, {0x0483, 0x0489}, {0x0591, 0x05BD}, {0x05BF, 0x05BF}, {0x05C1, 0x05C2}, {0x05C4,
    0x05C5},
                                                 {0x0610, 0x061A}, {0x064B, 0x065F}, {0x0670, 0x0670}, {0x06D6, 0x06DC}, {0x06DF, 0x06E4}, {0x0711,
                                                     0x0711},
                                                 {0x0730, 0x074A}, {0x0900, 0x0902}, {0x093C, 0x093C}, {0x0941, 0x0948}, {0x094D, 0x094D}, {0x0E31,
                                                     0x0E31},
                                                 {0x0E34, 0x0E3A}, {0x0E47, 0x0E4E}, {0x1AB0, 0x1AFF}, {0x1DC0, 0x1DFF}, {0x200B, 0x200F}, {0x202A,
                                                     0x202E},
                                                 {0x2060, 0x2064}, {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F}, {0xFEFF, 0xFEFF}, {0xE0100,
                                                     0xE01EF}}};

/// Two cells wide (Unicode 15, East Asian Width W and F, and emoji shown as pictures).
constexpr std::array<CodeRange, 30> kWide = {{{0x1100, 0x115F}, {0x231A, 0x231B}, {0x23E9, 0x23EC}, {0x25FD, 0x25FE}, {0x2614, 0x2615}, {0x2648,
    0x2653},
                                              {0x26A1, 0x26A1}, {0x26BD, 0x26BE}, {0x26D4, 0x26D4}, {0x2705, 0x2705}, {0x270A, 0x270B}, {0x2728,
                                                  0x2728},
                                              {0x274C, 0x274C}, {0x2753, 0x2755}, {0x2757, 0x2757}, {0x2795, 0x2797}, {0x2B1B, 0x2B1C}, {0x2B50,
                                                  0x2B50},
                                              {0x2E80, 0x303E}, {0x3041, 0x4DBF}, {0x4E00, 0xA4CF}, {0xA960, 0xA97F}, {0xAC00, 0xD7A3}, {0xF900,
                                                  0xFAFF},
                                              {0xFE30, 0xFE6F}, {0xFF00, 0xFF60}, {0xFFE0, 0xFFE6}, {0x1F300, 0x1F64F}, {0x1F680, 0x1FAFF}, {0x20000,
                                                  0x3FFFD}}};

template <size_t Count>
bool in_ranges(const std::array<CodeRange, Count>& ranges, uint32_t code) {
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), code, [](uint32_t value, const CodeRange& range) { return value < range.first; });
  return after != ranges.begin() && code <= std::prev(after)->last;
}

/// Cells a terminal gives to one line of valid UTF-8.
size_t cell_width(const std::string& text) {
  size_t width = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t length = std::max<size_t>(1, utf8_length(text, at));
    const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[at + i])); };
    uint32_t code = byte(0);
    if (length > 1) code &= 0xFFu >> (length + 1);
    for (size_t i = 1; i < length; ++i) code = code << 6 | (byte(i) & 0x3Fu);
    width += in_ranges(kNoWidth, code) ? 0 : in_ranges(kWide, code) ? 2 : 1;
    at += length;
  }
  return width;
}

/// "12", "-0.5 MiB", "95.3% [94.1, 96.2]", "1m15s", "+1.0 pts"; "-" and "" stand in for a missing number.
bool reads_as_number(const std::string& cell) {
  if (cell.empty() || cell == "-" || cell == "?") return true;
  size_t at = 0;
  for (const std::string_view sign : {"+", "-", "−", "±", "<", "~", "×"})
    if (std::string_view(cell).substr(at).starts_with(sign)) {
      at += sign.size();
      break;
    }
  if (at >= cell.size() || !std::isdigit(static_cast<unsigned char>(cell[at]))) return false;
  constexpr size_t kLongestUnit = 8;
  const size_t bracket = std::min(cell.find(" ["), cell.find(" ("));
  const std::string head = cell.substr(at, bracket == std::string::npos ? bracket : bracket - at);
  const size_t number_end = std::min(head.find_first_not_of("0123456789.,"), head.size());
  const std::string unit = head.substr(number_end);
  return unit.size() <= kLongestUnit && std::all_of(unit.begin(), unit.end(), [](unsigned char c) {
           return std::isalnum(c) || c >= 0x80 || c == '%' || c == '/' || c == ' ' || c == '.' || c == '-' || c == '+';
         });
}

}  // namespace

std::string format_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
  size_t columns = header.size();
  for (const auto& row : rows) columns = std::max(columns, row.size());
  std::vector<std::vector<std::string>> cells;
  const auto add = [&](const std::vector<std::string>& row) {
    cells.emplace_back(columns);
    for (size_t c = 0; c < row.size(); ++c) cells.back()[c] = one_line(row[c]);
  };
  add(header);
  for (const auto& row : rows) add(row);
  std::vector<size_t> widths(columns, 0);
  std::vector<bool> right(columns, false);
  for (size_t c = 0; c < columns; ++c) {
    bool numbers = cells.size() > 1, any = false;
    for (size_t r = 0; r < cells.size(); ++r) {
      widths[c] = std::max(widths[c], cell_width(cells[r][c]));
      if (r == 0) continue;
      numbers = numbers && reads_as_number(cells[r][c]);
      any = any || !cells[r][c].empty();
    }
    right[c] = numbers && any;
  }
  std::string out;
  for (size_t r = 0; r < cells.size(); ++r) {
    std::string line;
    for (size_t c = 0; c < columns; ++c) {
      const std::string gap(widths[c] - cell_width(cells[r][c]), ' ');
      if (c) line += "  ";
      line += right[c] ? gap + cells[r][c] : cells[r][c] + gap;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
    if (r == 0) {
      line.clear();
      for (size_t c = 0; c < columns; ++c) {
        if (c) line += "  ";
        for (size_t i = 0; i < widths[c]; ++i) line += "─";
      }
      out += line + "\n";
    }
  }
  return out;
}

}  // namespace attar
