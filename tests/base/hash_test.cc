#include "base/hash.h"

#include <gtest/gtest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <thread>

#include "base/check.h"
#include "base/files.h"
#include "base/json.h"
#include "data_path.h"

namespace attar {

namespace {

/// The cache of hashes in a folder of the test's own while this lives.
class HashHome {
 public:
  explicit HashHome(const fs::path& folder) : before_(std::getenv("ATTAR_HOME") ? std::getenv("ATTAR_HOME") : "") {
    ::setenv("ATTAR_HOME", folder.c_str(), 1);
  }
  ~HashHome() { before_.empty() ? ::unsetenv("ATTAR_HOME") : ::setenv("ATTAR_HOME", before_.c_str(), 1); }

 private:
  std::string before_;
};

/// Overwrites in place, so that size and inode stay.
void overwrite(const fs::path& path, const std::string& content) {
  std::fstream out(path, std::ios::in | std::ios::out | std::ios::binary);
  out << content;
}

void wait_until_settled() { std::this_thread::sleep_for(std::chrono::milliseconds(2100)); }

}  // namespace

TEST(Hash, GivesThePublishedDigests) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 pieces;
  const std::string text = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  for (char c : text) pieces.add(&c, 1);
  EXPECT_EQ(pieces.hex(), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(Hash, OfAFileIsThatOfItsBytes) {
  const TestFolder folder;
  const HashHome home(folder / "home");
  const std::string big(3 << 20, 'x');
  write_file(folder / "small", "abc");
  write_file(folder / "big", big);
  EXPECT_EQ(sha256_file(folder / "small"), sha256("abc"));
  EXPECT_EQ(sha256_file(folder / "big"), sha256(big));
  EXPECT_EQ(sha256_file_now(folder / "big"), sha256(big));
  EXPECT_FALSE(fs::exists(folder / "home" / "hashes.json")) << "files written just now may change again and are not remembered";
  EXPECT_THROW(sha256_file(folder / "none"), Error);
  EXPECT_THROW(sha256_file(folder.path()), Error);
}

TEST(Hash, RemembersLargeFilesUntilTheyChange) {
  const TestFolder folder;
  const HashHome home(folder / "home");
  const fs::path store = folder / "home" / "hashes.json", file = folder / "big";
  write_file(file, std::string(2 << 20, 'x'));
  write_file(folder / "small", std::string(1000, 'x'));
  wait_until_settled();
  const std::string hash = sha256_file(file);
  sha256_file(folder / "small");
  Json kept = read_json(store);
  ASSERT_EQ(kept["files"].size(), 1u) << "small files are not worth it";
  // A marked entry shows that the store is what answers.
  kept["files"][0][5] = std::string(64, '0');
  write_json(store, kept);
  EXPECT_EQ(sha256_file(file), std::string(64, '0'));
  EXPECT_EQ(sha256_file_now(file), hash);
  // Same size, inode and modification time: the time of the change itself still tells.
  struct stat info;
  ASSERT_EQ(::stat(file.c_str(), &info), 0);
  overwrite(file, "y");
  const timespec times[2] = {info.st_atim, info.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, file.c_str(), times, 0), 0);
  EXPECT_EQ(sha256_file(file), sha256("y" + std::string((2 << 20) - 1, 'x')));
}

TEST(Hash, ABrokenOrForbiddenStoreCostsOnlyTime) {
  const TestFolder folder;
  const HashHome home(folder / "home");
  const std::string content(1 << 20, 'x');
  write_file(folder / "big", content);
  wait_until_settled();
  for (const char* broken : {"", "{", "[]", "{\"kind\": \"attar.hashes\", \"version\": 1, \"files\": [[1]]}", "{\"kind\": 3}", "\xff"}) {
    write_file(folder / "home" / "hashes.json", broken);
    EXPECT_EQ(sha256_file(folder / "big"), sha256(content)) << broken;
    EXPECT_EQ(read_json(folder / "home" / "hashes.json")["files"].size(), 1u) << broken;
  }
  write_file(folder / "file", "");
  const HashHome nowhere(folder / "file" / "below");
  EXPECT_EQ(sha256_file(folder / "big"), sha256(content));
}

TEST(Hash, ManyProcessesAtOnceLeaveAWholeStore) {
  const TestFolder folder;
  const HashHome home(folder / "home");
  constexpr int kProcesses = 4;
  for (int i = 0; i < kProcesses; ++i) write_file(folder / ("f" + std::to_string(i)), std::string(1 << 20, static_cast<char>('a' + i)));
  wait_until_settled();
  std::vector<pid_t> children;
  for (int i = 0; i < kProcesses; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      const std::string expected = sha256(std::string(1 << 20, static_cast<char>('a' + i)));
      bool same = true;
      for (int round = 0; round < 5; ++round) same = same && sha256_file(folder / ("f" + std::to_string(i))) == expected;
      ::_exit(same ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  const Json kept = read_json(folder / "home" / "hashes.json");
  EXPECT_GE(kept["files"].size(), 1u);
  EXPECT_LE(kept["files"].size(), static_cast<size_t>(kProcesses));
}

}  // namespace attar
