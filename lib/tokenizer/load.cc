#include <algorithm>
#include <array>

#include "base/check.h"
#include "formats/gguf.h"
#include "tokenizer/gguf_vocab.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_json.h"

namespace attar {
namespace {

constexpr uint64_t kTokenizerFileLimit = uint64_t{1} << 28;

std::string read_if_there(const fs::path& file) { return fs::is_regular_file(file) ? read_file(file, kTokenizerFileLimit) : ""; }

/// Files around a tokenizer; `main` is the one it is read from.
TokenizerSurroundings surroundings_of(const fs::path& folder, const std::string& main) {
  TokenizerSurroundings around;
  around.config = read_if_there(folder / "tokenizer_config.json");
  around.chat_template = read_if_there(folder / "chat_template.jinja");
  std::error_code ignored;
  std::vector<fs::path> more;
  for (const auto& entry : fs::directory_iterator(folder / "additional_chat_templates", ignored))
    if (entry.path().extension() == ".jinja" && entry.is_regular_file(ignored)) more.push_back(entry.path());
  std::sort(more.begin(), more.end());
  for (const fs::path& file : more)
    around.others.push_back({"additional_chat_templates/" + file.filename().string(), read_file(file, kTokenizerFileLimit)});
  for (const char* name : {"tokenizer.json", "special_tokens_map.json", "added_tokens.json"})
    if (name != main && fs::is_regular_file(folder / name)) around.others.push_back({name, read_file(folder / name, kTokenizerFileLimit)});
  return around;
}

std::shared_ptr<const Tokenizer> load_folder(const fs::path& folder) {
  const bool model = fs::is_regular_file(folder / "tokenizer.model"), json = fs::is_regular_file(folder / "tokenizer.json");
  if (model) {
    const std::string bytes = read_file(folder / "tokenizer.model", kTokenizerFileLimit);
    // Some folders hold tiktoken's text under this name, beside a tokenizer.json of the same ids.
    if (!json || !bytes.starts_with("IQ== 0\n")) return sentencepiece_tokenizer(bytes, surroundings_of(folder, "tokenizer.model"), folder.string());
  }
  if (json) {
    return json_tokenizer(read_file(folder / "tokenizer.json", kTokenizerFileLimit), surroundings_of(folder, "tokenizer.json"), folder.string());
  }
  if (fs::is_regular_file(folder / "vocab.json") && fs::is_regular_file(folder / "merges.txt"))
    return gpt2_tokenizer(read_file(folder / "vocab.json", kTokenizerFileLimit), read_file(folder / "merges.txt", kTokenizerFileLimit),
                          surroundings_of(folder, "vocab.json"), folder.string());
  fail(folder.string(), "a tokenizer: tokenizer.model, tokenizer.json, or vocab.json with merges.txt", "a folder without one");
}

bool starts_with_magic(const fs::path& file) {
  try {
    const MappedFile map(file);
    const auto bytes = map.bytes();
    return bytes.size() >= 4 && bytes[0] == 'G' && bytes[1] == 'G' && bytes[2] == 'U' && bytes[3] == 'F';
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

std::shared_ptr<const Tokenizer> load_tokenizer(const fs::path& path) {
  if (!fs::exists(path)) fail("tokenizer " + path.string(), "a folder, tokenizer.model, tokenizer.json or .gguf file", "nothing there");
  if (fs::is_directory(path)) return load_folder(path);
  const std::string name = path.string();
  if (path.extension() == ".gguf" || starts_with_magic(path)) return gguf_tokenizer(read_gguf_vocabulary(GgufFile(path).metadata(), name), name);
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (path.filename() == "vocab.json" || path.filename() == "merges.txt") return load_folder(folder);
  const std::string content = read_file(path, kTokenizerFileLimit);
  if (path.extension() == ".json") {
    TokenizerSurroundings around = path.filename() == "tokenizer.json" ? surroundings_of(folder, "tokenizer.json") : TokenizerSurroundings{};
    return json_tokenizer(content, std::move(around), name);
  }
  // A lone model file: what else lies in its folder belongs to it only under the layout's own name.
  TokenizerSurroundings around = path.filename() == "tokenizer.model" ? surroundings_of(folder, "tokenizer.model") : TokenizerSurroundings{};
  return sentencepiece_tokenizer(content, std::move(around), name);
}

bool has_tokenizer(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored))
    return fs::is_regular_file(path / "tokenizer.model", ignored) || fs::is_regular_file(path / "tokenizer.json", ignored) ||
           (fs::is_regular_file(path / "vocab.json", ignored) && fs::is_regular_file(path / "merges.txt", ignored));
  if (!fs::is_regular_file(path, ignored)) return false;
  if (path.extension() == ".gguf") {
    try {
      return GgufFile(path).metadata().has("tokenizer.ggml.tokens");
    } catch (const Error&) {
      return false;
    }
  }
  return path.extension() == ".model" || path.filename() == "tokenizer.json";
}

std::string complete_utf8(std::string& bytes) {
  // At most the last three bytes can belong to a character that is not whole.
  size_t keep = 0;
  for (size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
    const auto byte = static_cast<uint8_t>(bytes[bytes.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    const size_t need = byte >= 0xF0 && byte < 0xF8 ? 4 : byte >= 0xE0 && byte < 0xF0 ? 3 : byte >= 0xC2 && byte < 0xE0 ? 2 : 1;
    if (need > back) keep = back;
    break;
  }
  std::string whole = bytes.substr(0, bytes.size() - keep);
  bytes.erase(0, bytes.size() - keep);
  return whole;
}

}  // namespace attar
