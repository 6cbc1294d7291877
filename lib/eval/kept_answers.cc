#include "eval/kept_answers.h"

#include "base/check.h"
#include "base/hash.h"

namespace attar {

KeptAnswers::KeptAnswers(const fs::path& file, const std::string& server) : server_(server) {
  if (file.empty()) return;
  make_folder(file.parent_path().empty() ? fs::path(".") : file.parent_path());
  std::string whole;
  if (fs::exists(file)) {
    const std::string content = read_file(file);
    for (size_t begin = 0, end = 0; (end = content.find('\n', begin)) != std::string::npos; begin = end + 1) {
      try {
        const Json line = parse_json(content.substr(begin, end - begin), file.string());
        known_[get<std::string>(line, "question", file.string())] = line.at("answer");
        whole += content.substr(begin, end + 1 - begin);
      } catch (const std::exception&) {
        continue;  // torn by a crash: asked again
      }
    }
    if (whole != content) write_file(file, whole);
  }
  out_.open(file, std::ios::app);
  check(out_.is_open(), file.string(), "a file that can be written", "none");
}

bool KeptAnswers::find(const std::string& question, Json& answer) const {
  const std::lock_guard<std::mutex> lock(guard_);
  const auto found = known_.find(sha256(server_ + "\n" + question));
  if (found == known_.end()) return false;
  answer = found->second;
  return true;
}

void KeptAnswers::keep(const std::string& question, const Json& answer) {
  const std::lock_guard<std::mutex> lock(guard_);
  if (!out_.is_open()) return;
  out_ << to_line(Json{{"question", sha256(server_ + "\n" + question)}, {"answer", answer}}) << "\n" << std::flush;
}

}  // namespace attar
