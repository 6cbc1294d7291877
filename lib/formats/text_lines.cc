#include "formats/text_lines.h"

#include <zstd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/check.h"

namespace attar {
namespace {

constexpr size_t kLineLimit = size_t{1} << 30;
constexpr uint64_t kTextLimit = uint64_t{1} << 32;
constexpr size_t kTextBuffer = size_t{1} << 18;

bool is_zstd(const fs::path& path) { return path.extension() == ".zst"; }

}  // namespace

// Bytes of a plain or zstd file, piece by piece. Named, because LineReader::State has one.
class PlainOrZstdFile {
 public:
  explicit PlainOrZstdFile(const fs::path& path) : name_(path.string()) {
    std::error_code ignored;
    if (fs::is_directory(path, ignored)) fail(name_, "a file", "a folder");
    file_.reset(std::fopen(path.c_str(), "rb"));
    if (!file_) fail(name_, "a readable file", std::strerror(errno));
    if (is_zstd(path)) {
      stream_.reset(ZSTD_createDStream());
      if (!stream_) fail(name_ + ": zstd", "memory for a decoder", "none");
      compressed_.resize(kTextBuffer);
    }
  }
  const std::string& name() const { return name_; }

  /// Fills up to `size` bytes; 0 at the end.
  size_t read(char* out, size_t size) {
    if (!stream_) return raw(out, size);
    ZSTD_outBuffer produced{out, size, 0};
    while (produced.pos == 0) {
      if (input_.pos == input_.size) {
        input_ = {compressed_.data(), raw(compressed_.data(), compressed_.size()), 0};
        if (input_.size == 0) {
          if (frame_left_ != 0) fail(name_ + ": zstd", "a whole frame", "the file ends inside one", "the file is cut short");
          return 0;
        }
      }
      frame_left_ = ZSTD_decompressStream(stream_.get(), &produced, &input_);
      if (ZSTD_isError(frame_left_)) fail(name_ + ": zstd", "valid data", ZSTD_getErrorName(frame_left_), "the file is damaged");
    }
    return produced.pos;
  }

 private:
  size_t raw(char* out, size_t size) {
    const size_t got = std::fread(out, 1, size, file_.get());
    if (got == 0 && std::ferror(file_.get())) fail(name_, "a readable file", std::strerror(errno));
    return got;
  }
  struct FileCloser {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  struct ZstdCloser {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };
  std::string name_;
  std::unique_ptr<std::FILE, FileCloser> file_;
  std::unique_ptr<ZSTD_DStream, ZstdCloser> stream_;
  std::vector<char> compressed_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  size_t frame_left_ = 1;  // an empty file holds no frame, which is as wrong as half a frame
};

struct LineReader::State {
  explicit State(const fs::path& path) : source(path), buffer(kTextBuffer) {}
  PlainOrZstdFile source;
  std::vector<char> buffer;
  size_t begin = 0, end = 0;
  int64_t number = 0;
};

LineReader::LineReader(const fs::path& path) : state_(std::make_unique<State>(path)) {}
LineReader::~LineReader() = default;

int64_t LineReader::number() const { return state_->number; }

bool LineReader::next(std::string& line) {
  line.clear();
  State& state = *state_;
  bool any = false;
  while (true) {
    if (state.begin == state.end) {
      state.begin = 0;
      state.end = state.source.read(state.buffer.data(), state.buffer.size());
      if (state.end == 0) {
        if (any) ++state.number;
        return any;
      }
    }
    any = true;
    const char* from = state.buffer.data() + state.begin;
    const size_t there = state.end - state.begin;
    const auto* stop = static_cast<const char*>(std::memchr(from, '\n', there));
    const size_t length = stop ? static_cast<size_t>(stop - from) : there;
    if (line.size() + length > kLineLimit)
      fail(str(state.source.name(), ":", state.number + 1), "lines of at most 1 GiB", "a longer one", "is this a text file?");
    line.append(from, length);
    state.begin += length + (stop ? 1 : 0);
    if (stop) {
      ++state.number;
      return true;
    }
  }
}

std::string read_text(const fs::path& path) {
  PlainOrZstdFile source(path);
  std::vector<char> buffer(kTextBuffer);
  std::string out;
  while (const size_t got = source.read(buffer.data(), buffer.size())) {
    if (out.size() + got > kTextLimit) fail(source.name(), "text of at most 4 GiB", "more");
    out.append(buffer.data(), got);
  }
  return out;
}

std::string text_ending(const fs::path& path) { return (is_zstd(path) ? path.stem() : path).extension().string(); }

}  // namespace attar
