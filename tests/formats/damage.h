#pragma once
#include <gtest/gtest.h>

#include <cstdio>
#include <functional>
#include <string>

#include "base/check.h"
#include "base/files.h"

/// Puts these bytes where they are wanted, without the sync of an atomic write: thousands of damaged files are made here.
inline void put_bytes(const attar::fs::path& path, std::string_view bytes) {
  std::remove(path.c_str());  // some file systems sync a file that is cut to nothing and written again
  std::FILE* file = std::fopen(path.c_str(), "wb");
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
  std::fclose(file);
}

/// Every beginning of a valid file but the whole must be refused with an Error, and nothing else.
inline void expect_every_cut_refused(const attar::fs::path& path, const std::string& whole, const std::function<void()>& read) {
  for (size_t size = 0; size < whole.size(); ++size) {
    put_bytes(path, std::string_view(whole).substr(0, size));
    EXPECT_THROW(read(), attar::Error) << "cut to " << size << " of " << whole.size() << " bytes";
  }
  put_bytes(path, whole);
  EXPECT_NO_THROW(read());
}

/// Every byte in turn is changed in several ways; reading either succeeds or throws Error. Gives the number of refusals.
inline int expect_no_crash_when_changed(const attar::fs::path& path, const std::string& whole, const std::function<void()>& read) {
  int refused = 0;
  for (size_t at = 0; at < whole.size(); ++at) {
    for (unsigned change : {0x01u, 0x80u, 0xffu, 0x20u}) {
      std::string changed = whole;
      changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ change);
      put_bytes(path, changed);
      try {
        read();
      } catch (const attar::Error& error) {
        ++refused;
        EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << "an error is one line";
      }
    }
  }
  return refused;
}

/// The Error's sentence, or "" if nothing was thrown.
inline std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const attar::Error& error) {
    return error.what();
  }
  return "";
}

#define EXPECT_ERROR(expression, part) \
  EXPECT_NE(error_of([&] { (void)(expression); }).find(part), std::string::npos) << "got: " << error_of([&] { (void)(expression); })
