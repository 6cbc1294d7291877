#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/files.h"
#include "base/log.h"

namespace attar {

namespace {

constexpr size_t kWaitingBytes = size_t{1} << 18;
constexpr size_t kLongestName = 200;  // so that the temporary name stays within what file systems take

[[noreturn]] void fail_writing(const fs::path& path, int problem) { fail("cannot write " + path.string(), "", "", std::strerror(problem)); }

/// ".NAME.WORD-PID-N" beside the place; NAME is cut where it is very long.
fs::path name_beside(const fs::path& place, const char* word) {
  static std::atomic<uint64_t> count{0};
  const std::string name = place.filename().string().substr(0, kLongestName);
  return place.parent_path() / ("." + name + "." + word + "-" + std::to_string(::getpid()) + "-" + std::to_string(count++));
}

struct BesideName {
  std::string name, word;
  pid_t process = 0;
};

/// Reads what name_beside() wrote; false for any other name.
bool split_name_beside(const std::string& text, BesideName& out) {
  const size_t second = text.rfind('-');
  if (second == std::string::npos || second == 0) return false;
  const size_t first = text.rfind('-', second - 1);
  const size_t dot = first == std::string::npos ? first : text.rfind('.', first);
  if (dot == std::string::npos || dot < 2 || text[0] != '.') return false;
  const std::string process = text.substr(first + 1, second - first - 1), number = text.substr(second + 1);
  const auto all_digits = [](const std::string& digits) {
    return !digits.empty() && digits.size() < 10 && digits.find_first_not_of("0123456789") == std::string::npos;
  };
  if (!all_digits(process) || !all_digits(number)) return false;
  out = {text.substr(1, dot - 1), text.substr(dot + 1, first - dot - 1), static_cast<pid_t>(std::stol(process))};
  return out.word == "tmp" || out.word == "old";
}

/// An absolute place with a name, links followed, its parent made.
fs::path place_to_write(fs::path place) {
  if (!place.has_filename()) place = place.parent_path();
  const std::string name = place.filename().string();
  if (name.empty() || name == "." || name == "..") fail("cannot write " + place.string(), "a name for what is written", "'" + name + "'");
  std::error_code problem;
  if (fs::is_symlink(place, problem)) {
    if (const fs::path real = fs::canonical(place, problem); !problem) place = real;
  }
  place = fs::absolute(place);
  fs::create_directories(place.parent_path(), problem);
  if (!fs::is_directory(place.parent_path()))
    fail("cannot write " + place.string(), "", "", problem ? problem.message() : "its parent is no folder");
  return place;
}

/// The lock that a living writer holds on its temporary; true also where the file system knows no locks.
bool lock_temporary(int descriptor) { return ::flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK; }

void sync_file(const fs::path& path, int flags) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags);
  if (descriptor < 0) fail_writing(path, errno);
  // Some file systems cannot sync folders and say so; that is theirs to answer for.
  const int problem = ::fsync(descriptor) == 0 || errno == EINVAL || errno == ENOTSUP ? 0 : errno;
  ::close(descriptor);
  if (problem) fail_writing(path, problem);
}

void sync_folder(const fs::path& folder) { sync_file(folder, O_DIRECTORY); }

void write_all(int descriptor, const void* data, size_t size, const fs::path& place) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t wrote = ::write(descriptor, bytes, size);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) fail_writing(place, errno);
    bytes += wrote;
    size -= static_cast<size_t>(wrote);
  }
}

void remove_quietly(const fs::path& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

}  // namespace

AtomicFile::AtomicFile(fs::path place) : place_(place_to_write(std::move(place))) {
  std::error_code ignored;
  if (fs::exists(place_, ignored) && !fs::is_regular_file(place_, ignored))
    fail("cannot write " + place_.string(), "the name of a file", fs::is_directory(place_, ignored) ? "a folder" : "a device or pipe");
  temporary_ = name_beside(place_, "tmp");
  descriptor_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0 && errno == EEXIST) {  // left by a process that had this number before
    remove_quietly(temporary_);
    descriptor_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  }
  if (descriptor_ < 0) fail_writing(place_, errno);
  lock_temporary(descriptor_);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::unlink(temporary_.c_str());
  ::close(descriptor_);
}

void AtomicFile::flush() {
  if (waiting_.empty()) return;
  write_all(descriptor_, waiting_.data(), waiting_.size(), place_);
  waiting_.clear();
}

void AtomicFile::write(const void* data, size_t size) {
  if (descriptor_ < 0) fail("cannot write " + place_.string(), "a file still open", "one already committed");
  if (size == 0) return;
  if (waiting_.size() + size > kWaitingBytes) flush();
  if (size >= kWaitingBytes)
    write_all(descriptor_, data, size, place_);
  else
    waiting_.append(static_cast<const char*>(data), size);
  position_ += size;
}

void AtomicFile::extend(uint64_t size) {
  if (descriptor_ < 0) fail("cannot write " + place_.string(), "a file still open", "one already committed");
  if (size < position_) fail("cannot write " + place_.string(), "a size not below what is written", std::to_string(size));
  flush();
  const auto end = static_cast<off_t>(size);
  if (size > position_ && ::fallocate(descriptor_, 0, 0, end) != 0) {
    if (errno == ENOSPC || errno == EFBIG || errno == EDQUOT) fail_writing(place_, errno);
    if (::ftruncate(descriptor_, end) != 0) fail_writing(place_, errno);  // a file system that cannot take room beforehand
  }
  if (::lseek(descriptor_, end, SEEK_SET) < 0) fail_writing(place_, errno);
  position_ = size;
}

void AtomicFile::write_at(uint64_t offset, const void* data, size_t size) {
  if (descriptor_ < 0) fail("cannot write " + place_.string(), "a file still open", "one already committed");
  if (offset > position_ || size > position_ - offset)
    fail("cannot write " + place_.string(), "an offset already passed", std::to_string(offset) + " of " + std::to_string(position_));
  flush();
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t wrote = ::pwrite(descriptor_, bytes, size, static_cast<off_t>(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) fail_writing(place_, errno);
    bytes += wrote;
    offset += static_cast<uint64_t>(wrote);
    size -= static_cast<size_t>(wrote);
  }
}

void AtomicFile::commit() {
  if (descriptor_ < 0) fail("cannot write " + place_.string(), "a file still open", "one already committed");
  flush();
  if (::fsync(descriptor_) != 0) fail_writing(place_, errno);
  if (::rename(temporary_.c_str(), place_.c_str()) != 0) fail_writing(place_, errno);
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  if (closed != 0 && errno != EINTR) fail_writing(place_, errno);
  sync_folder(place_.parent_path());
}

void write_file(const fs::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

AtomicFolder::AtomicFolder(fs::path place) : place_(place_to_write(std::move(place))) {
  std::error_code ignored;
  if (fs::exists(place_, ignored) && !fs::is_directory(place_, ignored)) fail("cannot write " + place_.string(), "the name of a folder", "a file");
  if (place_.filename().string().size() > kLongestName)
    fail("cannot write " + place_.string(), "a name of at most " + std::to_string(kLongestName) + " bytes", "a longer one");
  temporary_ = name_beside(place_, "tmp");
  remove_quietly(temporary_);
  if (::mkdir(temporary_.c_str(), 0777) != 0) fail_writing(place_, errno);
  descriptor_ = ::open(temporary_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor_ >= 0) lock_temporary(descriptor_);
}

AtomicFolder::~AtomicFolder() {
  if (!committed_) remove_quietly(temporary_);
  if (descriptor_ >= 0) ::close(descriptor_);
}

void AtomicFolder::commit() {
  if (committed_) fail("cannot write " + place_.string(), "a folder not yet committed", "one already committed");
  try {
    std::vector<fs::path> folders{temporary_};
    for (const auto& entry : fs::recursive_directory_iterator(temporary_)) {
      if (entry.is_symlink()) continue;
      if (entry.is_directory())
        folders.push_back(entry.path());
      else if (entry.is_regular_file())
        sync_file(entry.path(), 0);
    }
    for (const fs::path& folder : folders) sync_folder(folder);
  } catch (const fs::filesystem_error& problem) {
    fail("cannot write " + place_.string(), "", "", problem.code().message());
  }
  const bool replaces = fs::exists(place_);
  if (!replaces) {
    if (::rename(temporary_.c_str(), place_.c_str()) != 0) fail_writing(place_, errno);
    committed_ = true;
  } else if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, place_.c_str(), RENAME_EXCHANGE) == 0) {
    // Both changed places at once; what was there now has the temporary name, which a killed process may leave safely.
    committed_ = true;
    sync_folder(place_.parent_path());
    remove_quietly(temporary_);
  } else {
    const fs::path aside = name_beside(place_, "old");
    const int old = ::open(place_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (old >= 0) lock_temporary(old);
    int problem = ::rename(place_.c_str(), aside.c_str()) == 0 ? 0 : errno;
    if (!problem && ::rename(temporary_.c_str(), place_.c_str()) != 0) {
      problem = errno;
      if (::rename(aside.c_str(), place_.c_str()) != 0) log_error("what was at " + place_.string() + " is now at " + aside.string());
    }
    if (!problem) {
      committed_ = true;
      sync_folder(place_.parent_path());
      remove_quietly(aside);
    }
    if (old >= 0) ::close(old);
    if (problem) fail_writing(place_, problem);
  }
  sync_folder(place_.parent_path());
}

void remove_leftovers(const fs::path& folder) {
  std::error_code problem;
  std::vector<fs::path> found;
  for (fs::directory_iterator entry(folder, problem), end; !problem && entry != end; entry.increment(problem)) found.push_back(entry->path());
  for (const fs::path& path : found) {
    BesideName parts;
    if (!split_name_beside(path.filename().string(), parts)) continue;
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (descriptor < 0) continue;
    const bool locked = ::flock(descriptor, LOCK_EX | LOCK_NB) == 0;
    // Where there are no locks, the process's number has to do.
    const bool left = locked || (errno != EWOULDBLOCK && parts.process != ::getpid() && ::kill(parts.process, 0) != 0 && errno == ESRCH);
    if (left) {
      const fs::path place = path.parent_path() / parts.name;
      if (parts.word == "old" && !fs::exists(fs::symlink_status(place))) {
        if (::rename(path.c_str(), place.c_str()) == 0) log_warn("put back " + place.string() + ", which a stopped run had set aside");
      } else {
        remove_quietly(path);
      }
    }
    ::close(descriptor);
  }
}

FolderLock::FolderLock(const fs::path& folder) {
  make_folder(folder);
  const fs::path path = folder / ".lock";
  for (;;) {
    descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (descriptor_ < 0) fail_writing(path, errno);
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) {
        log_warn("this file system knows no locks: nothing keeps a second run out of " + folder.string());
        return;
      }
      char holder[256] = {};
      const ssize_t got = ::pread(descriptor_, holder, sizeof holder - 1, 0);
      ::close(descriptor_);
      descriptor_ = -1;
      std::string who(holder, got > 0 ? static_cast<size_t>(got) : 0);
      while (!who.empty() && std::isspace(static_cast<unsigned char>(who.back()))) who.pop_back();
      fail("folder " + folder.string() + " is used by another run", "", "", who.empty() ? "" : who);
    }
    // The holder before may have removed the file between our opening and locking it: then the lock is on nothing.
    struct stat ours, there;
    if (::fstat(descriptor_, &ours) == 0 && ::stat(path.c_str(), &there) == 0 && ours.st_ino == there.st_ino && ours.st_dev == there.st_dev) break;
    ::close(descriptor_);
    descriptor_ = -1;
  }
  char host[256] = {};
  if (::gethostname(host, sizeof host - 1) != 0) std::snprintf(host, sizeof host, "unknown");
  const std::string holder = "process " + std::to_string(::getpid()) + " on " + host + "\n";
  // The words only help a person; the lock holds without them, on a full disk too.
  if (::ftruncate(descriptor_, 0) != 0 || ::pwrite(descriptor_, holder.data(), holder.size(), 0) < 0) log_debug("no name in " + path.string());
  path_ = path;
}

FolderLock::~FolderLock() {
  if (descriptor_ < 0) return;
  if (!path_.empty()) ::unlink(path_.c_str());  // before the lock goes, so that nobody can hold a file that is about to vanish unseen
  ::close(descriptor_);
}

}  // namespace attar
