#include "tokenizer/line_workers.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace attar {
namespace {

constexpr size_t kBatchBytes = 256 * 1024;

/// What the threads share. Each takes a batch of lines, works on it alone, and waits for its turn to write.
class LinePipeline {
 public:
  LinePipeline(const std::function<bool(std::string&)>& next, const std::function<void(const std::string&, int64_t, std::string&)>& work,
               const std::function<void(std::string_view)>& write)
      : next_(next), work_(work), write_(write) {}

  void run() {
    Batch batch;
    std::string out;
    while (take(batch)) {
      out.clear();
      size_t whole = 0;
      try {
        for (size_t i = 0; i < batch.lines.size(); ++i) {
          work_(batch.lines[i], batch.first + static_cast<int64_t>(i), out);
          whole = out.size();
        }
      } catch (...) {
        out.resize(whole);
        batch.error = std::current_exception();
      }
      if (!put(batch, out)) stop();
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  struct Batch {
    int64_t number = 0, first = 1;
    std::vector<std::string> lines;
    std::exception_ptr error;
  };

  bool take(Batch& batch) {
    const std::lock_guard lock(reading_);
    if (ended_) return false;
    batch.lines.clear();
    batch.error = nullptr;
    try {
      std::string line;
      for (size_t bytes = 0; bytes < kBatchBytes; bytes += batch.lines.back().size() + 1) {
        if (!next_(line)) {
          ended_ = true;
          break;
        }
        batch.lines.push_back(std::move(line));
        line.clear();
      }
    } catch (...) {
      ended_ = true;
      batch.error = std::current_exception();
    }
    batch.number = batches_++;
    batch.first = lines_ + 1;
    lines_ += static_cast<int64_t>(batch.lines.size());
    return true;
  }

  /// False if nothing more shall be read.
  bool put(const Batch& batch, const std::string& out) {
    std::unique_lock lock(writing_);
    turn_.wait(lock, [&] { return written_ == batch.number; });
    try {
      if (!error_) write_(out);
      if (!error_) error_ = batch.error;
    } catch (...) {
      error_ = std::current_exception();
    }
    ++written_;
    turn_.notify_all();
    return !error_;
  }

  void stop() {
    const std::lock_guard lock(reading_);
    ended_ = true;
  }

  const std::function<bool(std::string&)>& next_;
  const std::function<void(const std::string&, int64_t, std::string&)>& work_;
  const std::function<void(std::string_view)>& write_;
  std::mutex reading_, writing_;
  std::condition_variable turn_;
  int64_t batches_ = 0, lines_ = 0, written_ = 0;
  bool ended_ = false;
  std::exception_ptr error_;
};

}  // namespace

void work_lines(const std::function<bool(std::string&)>& next, int64_t threads,
                const std::function<void(const std::string&, int64_t, std::string&)>& work, const std::function<void(std::string_view)>& write) {
  if (threads <= 0) threads = std::max<int64_t>(1, std::thread::hardware_concurrency());
  LinePipeline pipeline(next, work, write);
  std::vector<std::thread> others;
  for (int64_t i = 1; i < std::min<int64_t>(threads, 256); ++i) others.emplace_back([&] { pipeline.run(); });
  pipeline.run();
  for (std::thread& other : others) other.join();
  pipeline.rethrow();
}

}  // namespace attar
