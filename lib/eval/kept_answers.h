#pragma once
#include <fstream>
#include <map>
#include <mutex>
#include <string>

#include "base/files.h"
#include "base/json.h"

namespace attar {

/// Answers of a server by their questions, a line each in a file that only grows: what a stopped run does not ask again. Any number of threads.
class KeptAnswers {
 public:
  /// `file` empty: nothing is kept. `server`: whose answers; those of another one in the same file are not found. A broken last line is dropped.
  KeptAnswers(const fs::path& file, const std::string& server);
  bool find(const std::string& question, Json& answer) const;
  void keep(const std::string& question, const Json& answer);

 private:
  std::string server_;
  std::map<std::string, Json> known_;  ///< by the question's hash
  std::ofstream out_;
  mutable std::mutex guard_;
};

}  // namespace attar
