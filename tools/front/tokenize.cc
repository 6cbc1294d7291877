// attar tokenize: text to ids, a JSON array a line, or back.
#include <fstream>
#include <iostream>
#include <iterator>

#include "base/check.h"
#include "base/files.h"
#include "front/front.h"
#include "tokenizer/tokenizer.h"

namespace attar {
namespace {

std::string everything(std::istream& in) { return {std::istreambuf_iterator<char>(in), {}}; }

std::string ids_line(const std::vector<int32_t>& ids) {
  std::string out = "[";
  for (size_t i = 0; i < ids.size(); ++i) out += (i ? ", " : "") + std::to_string(ids[i]);
  return out + "]";
}

std::vector<int32_t> read_ids(const std::string& line, const Tokenizer& tokenizer, int64_t number) {
  const Json json = parse_json(line, str("line ", number));
  check(json.is_array(), str("line ", number), "a JSON array of ids", line.substr(0, 60));
  std::vector<int32_t> ids;
  for (const Json& id : json) {
    check(id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() < tokenizer.size(), str("line ", number, ": id"),
          str("0 to ", tokenizer.size() - 1), to_line(id));
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace

int tool_tokenize(const Words& words) {
  const auto tokenizer = load_tokenizer(words.get("tokenizer"));
  std::string text;
  if (words.has("input")) text = read_file(words.get("input"));
  else text = everything(std::cin);
  const bool specials = words.has("specials");
  const auto encode = [&](std::string_view part) {
    std::vector<int32_t> ids = tokenizer->encode(part, specials);
    if (specials && tokenizer->add_bos() && tokenizer->bos()) ids.insert(ids.begin(), *tokenizer->bos());
    return ids;
  };
  if (words.has("whole") && !words.has("decode")) {
    std::cout << ids_line(encode(text)) << "\n";
    return 0;
  }
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    ++number;
    if (words.has("decode")) std::cout << tokenizer->decode(read_ids(line, *tokenizer, number)) << "\n";
    else std::cout << ids_line(encode(line)) << "\n";
    begin = end + 1;
  }
  return 0;
}

}  // namespace attar
