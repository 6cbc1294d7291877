#pragma once
#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

/// Folder of the tests' real data: ATTAR_TEST_DATA, else ../shared/data beside the checkout.
inline std::filesystem::path test_data() {
  const char* given = std::getenv("ATTAR_TEST_DATA");
  return given && *given ? std::filesystem::path(given) : std::filesystem::path(ATTAR_SOURCE_DIR) / ".." / "shared" / "data";
}

/// Skips the running test, loudly, when the data is not there.
#define ATTAR_NEED_DATA(name)                                                                                    \
  if (!std::filesystem::exists(test_data() / (name)))                                                            \
  GTEST_SKIP() << "SKIPPED LOUDLY: " << (test_data() / (name)).string() << " is missing; set ATTAR_TEST_DATA"

/// A folder of the running test's own, empty at the start and removed at the end.
class TestFolder {
 public:
  TestFolder() {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::temp_directory_path() /
            ("attar_test_" + std::string(info->test_suite_name()) + "_" + info->name() + "_" + std::to_string(::getpid()));
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};
