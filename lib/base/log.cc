#include "base/log.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <mutex>
#include <vector>

#include "base/check.h"

namespace attar {

namespace {

enum LogLevel { kDebugLevel, kInfoLevel, kWarnLevel, kErrorLevel };

/// What all log lines and bars of the process share: one screen.
struct LogScreen {
  std::recursive_mutex mutex;
  LogLevel level = kInfoLevel;
  std::string bar;  ///< the unfinished line now on the terminal, "" if none
};

LogScreen& log_screen() {
  static LogScreen* screen = new LogScreen;  // never destroyed: log lines may come from destructors of statics
  return *screen;
}

void write_stderr(const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t wrote = ::write(STDERR_FILENO, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return;  // nobody listens; there is nowhere to say so
    done += static_cast<size_t>(wrote);
  }
}

/// File names and other foreign text must not steer the terminal.
std::string without_controls(std::string text) {
  for (char& c : text)
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7F) c = '?';
  return text;
}

constexpr const char* kEraseLine = "\r\x1b[K";

void log_line(LogLevel level, const char* prefix, const std::string& text) {
  LogScreen& screen = log_screen();
  const std::lock_guard lock(screen.mutex);
  if (level < screen.level) return;
  const std::string line = prefix + without_controls(text) + "\n";
  write_stderr(screen.bar.empty() ? line : kEraseLine + line + screen.bar);
}

size_t terminal_columns() {
  winsize size = {};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

void set_log_level(const std::string& level) {
  const std::vector<std::string> names{"debug", "info", "warn", "error"};
  const auto found = std::find(names.begin(), names.end(), level);
  if (found == names.end()) throw UsageError("log level '" + level + "' is none of debug, info, warn, error");
  const std::lock_guard lock(log_screen().mutex);
  log_screen().level = static_cast<LogLevel>(found - names.begin());
}

void log_debug(const std::string& text) { log_line(kDebugLevel, "debug: ", text); }
void log_info(const std::string& text) { log_line(kInfoLevel, "", text); }
void log_warn(const std::string& text) { log_line(kWarnLevel, "warning: ", text); }
void log_error(const std::string& text) { log_line(kErrorLevel, "error: ", text); }

Progress::Progress(std::string label, int64_t total, std::string unit)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()),
      printed_(start_) {}

Progress::~Progress() {
  const std::lock_guard lock(log_screen().mutex);
  if (terminal_ && !finished_ && !log_screen().bar.empty()) {
    write_stderr("\n");
    log_screen().bar.clear();
  }
}

void Progress::start_at(int64_t done) {
  const std::lock_guard lock(log_screen().mutex);
  first_ = done_ = done;
  start_ = printed_ = std::chrono::steady_clock::now();
}

void Progress::update(int64_t done, const std::string& note) {
  const std::lock_guard lock(log_screen().mutex);
  done_ = done;
  const auto now = std::chrono::steady_clock::now();
  const auto pause = terminal_ ? std::chrono::milliseconds(100) : std::chrono::seconds(10);
  if (finished_ || now - printed_ < pause || (!terminal_ && total_ > 0 && done >= total_)) return;  // finish() has the last word
  printed_ = now;
  print(done, note, false);
}

void Progress::finish(const std::string& note) {
  const std::lock_guard lock(log_screen().mutex);
  if (finished_) return;
  finished_ = true;
  print(done_, note, true);
}

void Progress::print(int64_t done, const std::string& note, bool last) {
  LogScreen& screen = log_screen();
  if (screen.level > kInfoLevel) return;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(done - first_) / seconds : 0;
  std::string tail = " " + std::to_string(done);
  if (total_ > 0) tail += "/" + std::to_string(total_);
  tail += " " + unit_;
  if (rate > 0) tail += ", " + human_count(rate) + " " + unit_ + "/s";
  if (last) tail += ", " + human_seconds(seconds);
  if (!last && rate > 0 && total_ > done) tail += ", " + human_seconds(static_cast<double>(total_ - done) / rate) + " left";
  if (!note.empty()) tail += ", " + note;
  if (!terminal_) return log_line(kInfoLevel, "", label_ + ":" + tail);
  std::string line = label_;
  if (total_ > 0 && !last) {
    constexpr int64_t kWidth = 20;
    const double part = std::clamp(static_cast<double>(done) / static_cast<double>(total_), 0.0, 1.0);
    const auto full = static_cast<size_t>(std::lround(part * kWidth));
    line += " [" + std::string(full, '#') + std::string(kWidth - full, '.') + "]";
  } else {
    line += ":";
  }
  line = without_controls(line + tail);
  std::replace(line.begin(), line.end(), '\n', ' ');
  if (last) {
    write_stderr(kEraseLine + line + "\n");
    screen.bar.clear();
    return;
  }
  if (const size_t columns = terminal_columns(); line.size() >= columns) {
    line.resize(columns - 1);
    while (!line.empty() && (static_cast<unsigned char>(line.back()) & 0x80u)) line.pop_back();  // no half character at the edge
  }
  screen.bar = line;
  write_stderr(kEraseLine + line);
}

}  // namespace attar
