// attar inspect, verify, clean, tokenizer inspect, version: what things are and whether they are whole.
#include "plan/inspect.h"

#include <cstdlib>
#include <fstream>
#include <iostream>

#include "base/check.h"
#include "base/files.h"
#include "front/front.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace attar {

int tool_inspect(const Words& words) {
  const Json facts = inspect(words.get("path"));
  std::cout << (words.has("json") ? to_line(facts) + "\n" : inspect_text(facts, 20));
  return 0;
}

int tool_tokenizer_inspect(const Words& words) {
  const auto tokenizer = load_tokenizer(words.get("tokenizer"));
  Json facts = {{"kind", "tokenizer"},
                {"path", words.get("tokenizer")},
                {"algorithm", tokenizer->kind()},
                {"size", tokenizer->size()},
                {"fingerprint", tokenizer->fingerprint()},
                {"bos", tokenizer->bos() ? Json(tokenizer->piece(*tokenizer->bos())) : Json()},
                {"eos", tokenizer->eos() ? Json(tokenizer->piece(*tokenizer->eos())) : Json()},
                {"add_bos", tokenizer->add_bos()}};
  if (!tokenizer->chat_template().empty()) {
    facts["chat_template"] = "rendered";
    try {
      const Chat chat(*tokenizer);
    } catch (const Error& error) {
      facts["chat_template"] = error.faults()[0].line();
    }
  }
  GgufMetadata metadata;
  std::vector<std::string> deviations;
  try {
    tokenizer->to_gguf(metadata, tokenizer->size(), deviations);
    facts["gguf"] = deviations.empty() ? Json("same ids in every reader") : Json(deviations);
  } catch (const Error& error) {
    facts["gguf"] = error.faults()[0].line();
  }
  std::cout << (words.has("json") ? to_line(facts) + "\n" : inspect_text(facts, 20));
  return 0;
}

int tool_verify(const Words& words) {
  if (words.has("against")) return tool_verify_against(words);
  std::vector<Fault> faults = verify_path(words.get("path"));
  if (!faults.empty()) throw Error(std::move(faults));
  std::cout << words.get("path") << ": whole\n";
  return 0;
}

int tool_clean(const Words& words) {
  const Json done = clean_run(words.get("run"), words.has("dry-run"));
  std::cout << (words.has("dry-run") ? "would remove: " : "removed: ") << to_line(done["removed"]) << " ("
            << human_bytes(done["freed_bytes"].get<double>()) << ")\nkept: " << to_line(done["kept"]) << "\n";
  return 0;
}

int tool_version(const Words&) {
  // LibTorch's version stands in its folder; asking the library itself would cost a third of a second.
  std::string torch = "unknown";
  const char* told = std::getenv("ATTAR_LIBTORCH");
  const fs::path folder = told && *told ? fs::path(told) : fs::path(ATTAR_LIBTORCH_AT_BUILD);
  std::ifstream version(folder / "version.py");
  for (std::string line; std::getline(version, line);)
    if (line.rfind("__version__", 0) == 0) torch = line.substr(line.find('\'') + 1, line.rfind('\'') - line.find('\'') - 1);
  const fs::path cuda = fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "lib" / "libattar_cuda.so";
  std::cout << "attar " << ATTAR_VERSION << "\nLibTorch " << torch << "\nCUDA part: " << (fs::exists(cuda) ? "built" : "not built") << "\n";
  return 0;
}

}  // namespace attar
