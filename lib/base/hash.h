#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace attar {

/// SHA-256, fed in pieces (OpenSSL's).
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void add(const void* data, size_t size);
  void add(std::string_view text) { add(text.data(), text.size()); }
  std::string hex();  ///< 64 lower-case digits; ends the hash

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256(std::string_view text);
/// Of a file's bytes. Remembered by path, size, time and inode in the user's cache folder, so that large unchanged files are read once.
std::string sha256_file(const std::filesystem::path& file);
/// Same, always read from the bytes.
std::string sha256_file_now(const std::filesystem::path& file);

}  // namespace attar
