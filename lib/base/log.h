#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace attar {

/// Words for a person, on stderr; results never go here. Levels: debug, info, warn, error.
void set_log_level(const std::string& level);
void log_debug(const std::string& text);
void log_info(const std::string& text);
void log_warn(const std::string& text);
void log_error(const std::string& text);

/// Progress of long work: a bar with rate and time left on a terminal, a plain line every ten seconds elsewhere.
class Progress {
 public:
  /// `total` 0: unknown. `unit` is the plural of what is counted ("steps", "tokens").
  Progress(std::string label, int64_t total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// `done` so far in all; `note` stands at the end of the line ("loss 1.234").
  void update(int64_t done, const std::string& note = "");
  /// Counts that were done before this process (a resumed run): they do not enter the rate.
  void start_at(int64_t done);
  void finish(const std::string& note = "");

 private:
  void print(int64_t done, const std::string& note, bool last);
  std::string label_, unit_;
  int64_t total_, first_ = 0, done_ = 0;
  bool terminal_, finished_ = false;
  std::chrono::steady_clock::time_point start_, printed_;
};

}  // namespace attar
