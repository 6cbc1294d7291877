#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace attar {

namespace fs = std::filesystem;

/// A file mapped for reading; empty files map to an empty span. Error if it is missing or unreadable.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const fs::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  const fs::path& path() const { return path_; }
  /// Tells the system that these bytes will not be needed soon.
  void release(size_t begin, size_t length) const;

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  fs::path path_;
};

/// Whole content; Error if the file is missing, a folder, or larger than `limit`.
std::string read_file(const fs::path& path, uint64_t limit = uint64_t{1} << 32);

/// A file written under a temporary name beside its place; commit() syncs and renames. Without commit nothing is left.
/// A write that fails (full disk) throws Error naming the file.
class AtomicFile {
 public:
  explicit AtomicFile(fs::path place);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Makes the file `size` bytes long, the new ones zeros until they are written; the disk's room for them is taken now where it can be.
  void extend(uint64_t size);
  /// Writes at an offset already passed (to fill in a header, or what extend() made room for); the position for write() stays at the end. After
  /// extend() several threads may write at once.
  void write_at(uint64_t offset, const void* data, size_t size);
  uint64_t position() const { return position_; }
  const fs::path& temporary() const { return temporary_; }  ///< locked (flock) while this lives: HDF5 would refuse to open it
  const fs::path& place() const { return place_; }
  void commit();

 private:
  void flush();
  fs::path place_, temporary_;
  int descriptor_ = -1;
  uint64_t position_ = 0;
  std::string waiting_;  ///< written here, not yet in the file
};

void write_file(const fs::path& path, std::string_view content);  ///< AtomicFile, whole.

/// A folder filled under a temporary name beside its place; commit() syncs every file and renames, replacing what was there.
class AtomicFolder {
 public:
  explicit AtomicFolder(fs::path place);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  const fs::path& path() const { return temporary_; }  ///< where to write
  void commit();

 private:
  fs::path place_, temporary_;
  int descriptor_ = -1;  ///< holds the lock that tells others that this one lives
  bool committed_ = false;
};

/// Removes temporary files and folders that a killed process left in `folder` (not below); those of living processes stay.
/// A folder that was put aside and not yet replaced goes back to its place.
void remove_leftovers(const fs::path& folder);

/// An exclusive lock held while this lives; Error naming the holder if another process has it.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_ = -1;
  fs::path path_;
};

/// Creates the folder with its parents; Error if it cannot be written into.
void make_folder(const fs::path& folder);
uint64_t folder_bytes(const fs::path& folder);  ///< sum of regular files, recursively
/// Error unless `name` is a plain relative path that stays inside its folder.
void check_inside(const std::string& name, const std::string& where);

/// A path of a recipe: absolute, else relative to the working directory, else to `base`. Error with both places if missing.
fs::path find_path(const std::string& path, const fs::path& base);
/// Replaces ${NAME} and ${NAME:-default} from the environment.
std::string expand_environment(const std::string& text);

}  // namespace attar
