#include "base/hash.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <vector>

#include "base/check.h"
#include "base/files.h"
#include "base/json.h"

namespace attar {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  if (!state_->context || EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) != 1) fail("SHA-256 could not be started");
}
Sha256::~Sha256() = default;

void Sha256::add(const void* data, size_t size) {
  assert(state_);
  if (size > 0 && EVP_DigestUpdate(state_->context, data, size) != 1) fail("SHA-256 could not go on");
}

std::string Sha256::hex() {
  assert(state_);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  if (EVP_DigestFinal_ex(state_->context, digest, &length) != 1) fail("SHA-256 could not be ended");
  state_.reset();
  std::string out;
  for (unsigned i = 0; i < length; ++i) {
    out += "0123456789abcdef"[digest[i] >> 4];
    out += "0123456789abcdef"[digest[i] & 15];
  }
  return out;
}

std::string sha256(std::string_view text) {
  Sha256 hash;
  hash.add(text);
  return hash.hex();
}

std::string sha256_file_now(const fs::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail("cannot read " + file.string(), "", "", std::strerror(errno));
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL);
  Sha256 hash;
  std::vector<char> buffer(size_t{1} << 20);
  int problem = 0;
  for (;;) {
    const ssize_t got = ::read(descriptor, buffer.data(), buffer.size());
    if (got == 0) break;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      problem = errno;
      break;
    }
    hash.add(buffer.data(), static_cast<size_t>(got));
  }
  ::close(descriptor);
  if (problem) fail("cannot read " + file.string(), "", "", std::strerror(problem));
  return hash.hex();
}

namespace {

constexpr uint64_t kSmallestRemembered = uint64_t{1} << 20;  // below it, reading costs less than looking up
constexpr size_t kMostRemembered = 2000;
constexpr int64_t kSettled = 2'000'000'000;  // ns: a file younger than this may change again within its time stamp's step
constexpr const char* kHashStoreKind = "attar.hashes";

/// What tells that a file is still the one that was read: place, size, both times and inode.
struct FileIdentity {
  std::string path;
  uint64_t size = 0, inode = 0;
  int64_t modified = 0, changed = 0;
  bool operator==(const FileIdentity&) const = default;
};

std::optional<FileIdentity> identity_of(const fs::path& file) {
  std::error_code problem;
  const fs::path real = fs::canonical(file, problem);
  struct stat info;
  if (problem || ::stat(real.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  const auto nanoseconds = [](const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; };
  return FileIdentity{real.string(), static_cast<uint64_t>(info.st_size), static_cast<uint64_t>(info.st_ino), nanoseconds(info.st_mtim),
                      nanoseconds(info.st_ctim)};
}

/// Beside the other things that are kept for this user; empty if there is no such place.
fs::path hash_store() {
  const auto folder = [](const char* name) { const char* value = std::getenv(name); return std::string(value ? value : ""); };
  if (const std::string own = folder("ATTAR_HOME"); !own.empty()) return fs::path(own) / "hashes.json";
  if (const std::string cache = folder("XDG_CACHE_HOME"); !cache.empty()) return fs::path(cache) / "attar" / "hashes.json";
  if (const std::string home = folder("HOME"); !home.empty()) return fs::path(home) / ".cache" / "attar" / "hashes.json";
  return {};
}

struct RememberedHash {
  FileIdentity file;
  std::string hash;
};

/// Anything unexpected in the store means that nothing is known: it only saves time.
std::vector<RememberedHash> read_hash_store(const fs::path& store) {
  std::vector<RememberedHash> out;
  try {
    if (!fs::exists(store)) return out;
    const Json content = parse_json(read_file(store, uint64_t{64} << 20), store.string());
    if (!content.is_object() || content.value("kind", "") != kHashStoreKind || content.value("version", 0) != 1) return out;
    for (const Json& row : content.at("files")) {
      RememberedHash entry{{row.at(0), row.at(1), row.at(2), row.at(3), row.at(4)}, row.at(5)};
      if (entry.hash.size() == 64) out.push_back(std::move(entry));
    }
  } catch (const std::exception&) {
    out.clear();
  }
  return out;
}

void write_hash_store(const fs::path& store, const std::vector<RememberedHash>& entries) {
  try {
    Json rows = Json::array();
    const size_t first = entries.size() > kMostRemembered ? entries.size() - kMostRemembered : 0;
    for (size_t i = first; i < entries.size(); ++i) {
      const FileIdentity& file = entries[i].file;
      rows.push_back(Json::array({file.path, file.size, file.inode, file.modified, file.changed, entries[i].hash}));
    }
    fs::create_directories(store.parent_path());
    write_file(store, to_line(Json{{"kind", kHashStoreKind}, {"version", 1}, {"files", std::move(rows)}}) + "\n");
  } catch (const std::exception&) {
    // A home that cannot be written to costs time later, nothing else.
  }
}

std::mutex hash_store_mutex;

}  // namespace

std::string sha256_file(const fs::path& file) {
  const auto before = identity_of(file);
  const fs::path store = hash_store();
  if (!before || before->size < kSmallestRemembered || store.empty()) return sha256_file_now(file);
  {
    const std::lock_guard lock(hash_store_mutex);
    for (const RememberedHash& entry : read_hash_store(store))
      if (entry.file == *before) return entry.hash;
  }
  std::string hash = sha256_file_now(file);
  const int64_t now = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  const auto after = identity_of(file);
  if (after != before || now - std::max(before->modified, before->changed) < kSettled) return hash;
  const std::lock_guard lock(hash_store_mutex);
  auto entries = read_hash_store(store);
  std::erase_if(entries, [&](const RememberedHash& entry) { return entry.file.path == before->path; });
  entries.push_back({*before, hash});
  write_hash_store(store, entries);
  return hash;
}

}  // namespace attar
