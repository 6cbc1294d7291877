#include "base/files.h"

#include <gtest/gtest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <vector>

#include "base/check.h"
#include "data_path.h"

namespace attar {

namespace {

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(folder)) out.push_back(entry.path().filename().string());
  std::sort(out.begin(), out.end());
  return out;
}

std::string problem_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// Runs `work` in a child; its exit status, or minus the signal that ended it.
int in_child(const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 99;
    try {
      code = work();
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

TEST(Files, ReadsAndMapsWhatIsThere) {
  const TestFolder folder;
  const std::string text = std::string("a\0b\n", 4) + std::string(10000, 'x');
  write_file(folder / "f", text);
  EXPECT_EQ(read_file(folder / "f"), text);
  const MappedFile mapped(folder / "f");
  EXPECT_EQ(std::string(mapped.bytes().begin(), mapped.bytes().end()), text);
  mapped.release(0, SIZE_MAX);
  mapped.release(5000, 100);
  mapped.release(1 << 20, 1);
  EXPECT_EQ(std::string(mapped.bytes().begin(), mapped.bytes().end()), text) << "released bytes are read again";
  write_file(folder / "empty", "");
  EXPECT_TRUE(MappedFile(folder / "empty").bytes().empty());
  EXPECT_EQ(read_file(folder / "empty"), "");
  EXPECT_EQ(read_file("/proc/self/comm").empty(), false) << "files of the system say they are empty";
}

TEST(Files, MovedMappingsKeepTheirBytes) {
  const TestFolder folder;
  write_file(folder / "a", "aaaa");
  write_file(folder / "b", "bb");
  MappedFile first(folder / "a");
  MappedFile second(std::move(first));
  EXPECT_TRUE(first.bytes().empty());
  MappedFile third(folder / "b");
  third = std::move(second);
  EXPECT_EQ(third.bytes().size(), 4u);
  EXPECT_EQ(third.bytes()[3], 'a');
  EXPECT_EQ(third.path(), folder / "a");
}

TEST(Files, WhatCannotBeReadIsNamed) {
  const TestFolder folder;
  write_file(folder / "tokenizer.json", "x");
  const std::string missing = problem_of([&] { read_file(folder / "tokeniser.json"); });
  EXPECT_NE(missing.find((folder / "tokeniser.json").string()), std::string::npos);
  EXPECT_NE(missing.find("did you mean 'tokenizer.json'?"), std::string::npos);
  EXPECT_NE(problem_of([&] { read_file(folder.path()); }).find("a folder"), std::string::npos);
  EXPECT_NE(problem_of([&] { MappedFile file(folder.path()); }).find("a folder"), std::string::npos);
  EXPECT_NE(problem_of([&] { MappedFile file(folder / "none"); }), "");
  EXPECT_NE(problem_of([&] { read_file("/dev/zero"); }), "");
  write_file(folder / "big", std::string(100, 'x'));
  EXPECT_EQ(problem_of([&] { read_file(folder / "big", 100); }), "");
  EXPECT_NE(problem_of([&] { read_file(folder / "big", 99); }).find("at most 99 B"), std::string::npos);
  EXPECT_NE(problem_of([&] { read_file("/proc/self/status", 5); }), "");
}

TEST(AtomicFile, AppearsWholeOrNotAtAll) {
  const TestFolder folder;
  write_file(folder / "f", "old");
  {
    AtomicFile file(folder / "f");
    file.write("new content");
    EXPECT_EQ(read_file(folder / "f"), "old");
    EXPECT_EQ(names_in(folder.path()).size(), 2u);
    EXPECT_EQ(file.temporary().parent_path(), folder.path());
    EXPECT_EQ(file.temporary().filename().string().find(".f.tmp-"), 0u);
  }
  EXPECT_EQ(read_file(folder / "f"), "old");
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"f"});
  AtomicFile file(folder / "f");
  file.write("new");
  file.commit();
  EXPECT_EQ(read_file(folder / "f"), "new");
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"f"});
  EXPECT_THROW(file.commit(), Error);
  EXPECT_THROW(file.write("x"), Error);
}

TEST(AtomicFile, PiecesAndHeadersLandInTheirPlaces) {
  const TestFolder folder;
  AtomicFile file(folder / "new" / "f");
  std::string expected;
  for (const size_t size : {0u, 3u, 100000u, 262144u, 262143u, 1u, 1000000u, 7u}) {
    const std::string piece(size, static_cast<char>('a' + size % 26));
    file.write(piece);
    expected += piece;
    EXPECT_EQ(file.position(), expected.size());
  }
  file.write_at(1, "HEAD", 4);
  expected.replace(1, 4, "HEAD");
  file.write("tail");
  expected += "tail";
  file.write_at(expected.size() - 1, "L", 1);
  expected.back() = 'L';
  EXPECT_THROW(file.write_at(expected.size(), "x", 1), Error);
  EXPECT_THROW(file.write_at(UINT64_MAX, "x", 1), Error);
  file.commit();
  EXPECT_EQ(read_file(folder / "new" / "f"), expected);
}

TEST(AtomicFile, RoomIsTakenFirstAndFilledInAnyOrder) {
  TestFolder folder;
  AtomicFile file(folder / "f");
  file.write("head");
  file.extend(10);
  EXPECT_EQ(file.position(), 10u);
  file.write_at(8, "yz", 2);
  file.write_at(4, "ab", 2);
  file.write("end");
  EXPECT_THROW(file.extend(5), Error);
  file.commit();
  EXPECT_EQ(read_file(folder / "f"), std::string("headab\0\0yzend", 13));
}

TEST(AtomicFile, RefusesPlacesThatAreNoFile) {
  const TestFolder folder;
  fs::create_directories(folder / "d");
  write_file(folder / "f", "x");
  EXPECT_NE(problem_of([&] { AtomicFile file(folder / "d"); }).find("a folder"), std::string::npos);
  EXPECT_NE(problem_of([&] { AtomicFile file(folder / "f" / "g"); }).find("cannot write"), std::string::npos);
  EXPECT_NE(problem_of([&] { AtomicFile file("/dev/null"); }).find("a device"), std::string::npos);
  EXPECT_NE(problem_of([&] { AtomicFile file(".."); }), "");
  EXPECT_NE(problem_of([&] { AtomicFile file(""); }), "");
  EXPECT_NE(problem_of([&] { AtomicFile file("/proc/x"); }).find("cannot write /proc/x"), std::string::npos);
  write_file(folder / std::string(250, 'n'), "long");
  EXPECT_EQ(read_file(folder / std::string(250, 'n')), "long");
  fs::create_symlink(folder / "f", folder / "link");
  write_file(folder / "link", "through");
  EXPECT_EQ(read_file(folder / "f"), "through");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
}

TEST(AtomicFile, AFullDiskNamesTheFileAndLeavesNothing) {
  const TestFolder folder;
  // A limit on file sizes fails a write as a full disk does: part is written, then none.
  const int code = in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100000, 100000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string problem = problem_of([&] { write_file(folder / "f", std::string(1000000, 'x')); });
    if (problem.find("cannot write " + (folder / "f").string() + ", File too large") != 0) return 1;
    const std::string late = problem_of([&] { write_file(folder / "g", std::string(150000, 'x')); });
    if (late.find("cannot write " + (folder / "g").string()) != 0) return 2;
    return names_in(folder.path()).empty() ? 0 : 3;
  });
  EXPECT_EQ(code, 0);
}

TEST(AtomicFolder, AppearsWholeOrNotAtAll) {
  const TestFolder folder;
  {
    AtomicFolder work(folder / "model/");
    write_file(work.path() / "a", "1");
    EXPECT_FALSE(fs::exists(folder / "model"));
  }
  EXPECT_TRUE(names_in(folder.path()).empty());
  for (const char* content : {"1", "2"}) {
    AtomicFolder work(folder / "model");
    write_file(work.path() / "sub" / content, content);
    work.commit();
    EXPECT_EQ(read_file(folder / "model" / "sub" / content), content);
    EXPECT_THROW(work.commit(), Error);
  }
  EXPECT_EQ(names_in(folder / "model" / "sub"), std::vector<std::string>{"2"}) << "what was there is replaced, not mixed";
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"model"});
  write_file(folder / "file", "x");
  EXPECT_THROW(AtomicFolder(folder / "file"), Error);
  EXPECT_THROW(AtomicFolder("/"), Error);
}

TEST(Leftovers, OfKilledProcessesGoAndOfLivingOnesStay) {
  const TestFolder folder;
  const int code = in_child([&] {
    auto* file = new AtomicFile(folder / "f");
    file->write("half");
    auto* work = new AtomicFolder(folder / "model");
    write_file(work->path() / "x", "half");
    ::raise(SIGKILL);
    return 0;
  });
  EXPECT_EQ(code, -SIGKILL);
  EXPECT_EQ(names_in(folder.path()).size(), 2u);
  AtomicFile living(folder / "g");
  living.write("alive");
  AtomicFolder working(folder / "h");
  write_file(folder / ".mine.tmp", "of someone else");
  write_file(folder / "x.tmp-1-2", "of someone else");
  write_file(folder / ".z.tmp-a-2", "of someone else");
  remove_leftovers(folder.path());
  EXPECT_EQ(names_in(folder.path()).size(), 5u);
  living.commit();
  working.commit();
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{".mine.tmp", ".z.tmp-a-2", "g", "h", "x.tmp-1-2"}));
  remove_leftovers(folder / "no such folder");
}

TEST(Leftovers, AFolderSetAsideComesBackUnlessItWasReplaced) {
  const TestFolder folder;
  write_file(folder / ".model.old-123-0" / "a", "kept");
  write_file(folder / ".other.old-123-1" / "a", "old");
  write_file(folder / "other" / "a", "new");
  remove_leftovers(folder.path());
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"model", "other"}));
  EXPECT_EQ(read_file(folder / "model" / "a"), "kept");
  EXPECT_EQ(read_file(folder / "other" / "a"), "new");
}

TEST(FolderLock, KeepsASecondRunOutAndNamesTheFirst) {
  const TestFolder folder;
  {
    const FolderLock lock(folder / "run");
    const std::string problem = problem_of([&] { FolderLock second(folder / "run"); });
    EXPECT_EQ(problem.find("folder " + (folder / "run").string() + " is used by another run"), 0u) << problem;
    EXPECT_NE(problem.find("process " + std::to_string(::getpid())), std::string::npos) << problem;
    const int code = in_child([&] { return problem_of([&] { FolderLock other(folder / "run"); }).empty() ? 1 : 0; });
    EXPECT_EQ(code, 0);
  }
  EXPECT_TRUE(names_in(folder / "run").empty());
  EXPECT_EQ(problem_of([&] { FolderLock again(folder / "run"); }), "");
}

TEST(FolderLock, OfAKilledProcessHoldsNobody) {
  const TestFolder folder;
  const int code = in_child([&] {
    auto* lock = new FolderLock(folder.path());
    (void)lock;
    ::raise(SIGKILL);
    return 0;
  });
  EXPECT_EQ(code, -SIGKILL);
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{".lock"});
  EXPECT_EQ(problem_of([&] { FolderLock mine(folder.path()); }), "");
}

TEST(Files, NamesFromOutsideStayInside) {
  for (const char* good : {"a", "a/b.bin", "a..b", "..a", ".hidden", "./a", "model-00001-of-00002.safetensors"})
    EXPECT_EQ(problem_of([&] { check_inside(good, "index.json"); }), "") << good;
  for (const char* bad : {"", "/", "/etc/passwd", "..", "../a", "a/../b", "a/..", ".", "a/", "a/.", "a\\b", "..\\a", "C:\\x"})
    EXPECT_EQ(problem_of([&] { check_inside(bad, "index.json"); }).find("index.json, expected a relative path inside its folder"), 0u) << bad;
  EXPECT_NE(problem_of([&] { check_inside(std::string("a\0b", 3), "x"); }), "");
}

TEST(Files, FoldersAreMadeAndMeasured) {
  const TestFolder folder;
  make_folder(folder / "a" / "b");
  make_folder(folder / "a" / "b");
  write_file(folder / "a" / "x", std::string(10, 'x'));
  write_file(folder / "a" / "b" / "y", std::string(5, 'x'));
  EXPECT_EQ(folder_bytes(folder.path()), 15u);
  EXPECT_NE(problem_of([&] { make_folder(folder / "a" / "x"); }).find("cannot make folder"), std::string::npos);
  EXPECT_NE(problem_of([&] { make_folder(folder / "a" / "x" / "z"); }), "");
  EXPECT_NE(problem_of([&] { make_folder("/proc/attar"); }), "");
  EXPECT_NE(problem_of([&] { folder_bytes(folder / "none"); }), "");
}

TEST(Files, PathsOfARecipeAreFoundBesideIt) {
  const TestFolder folder;
  write_file(folder / "data" / "x.csv", "1");
  EXPECT_EQ(find_path("data/x.csv", folder.path()), folder / "data" / "x.csv");
  EXPECT_EQ(find_path((folder / "data").string(), "/nowhere"), folder / "data");
  const std::string problem = problem_of([&] { find_path("data/y.csv", folder.path()); });
  EXPECT_NE(problem.find((fs::current_path() / "data/y.csv").string()), std::string::npos) << problem;
  EXPECT_NE(problem.find((folder / "data" / "y.csv").string()), std::string::npos) << problem;
  EXPECT_THROW(find_path("", folder.path()), Error);
  EXPECT_THROW(find_path("/no/such/file", folder.path()), Error);
}

TEST(Files, EnvironmentVariablesAreFilledIn) {
  ::setenv("ATTAR_TEST_VALUE", "v", 1);
  ::setenv("ATTAR_TEST_EMPTY", "", 1);
  ::unsetenv("ATTAR_TEST_UNSET");
  EXPECT_EQ(expand_environment("a ${ATTAR_TEST_VALUE}/${ATTAR_TEST_VALUE} $x } b"), "a v/v $x } b");
  EXPECT_EQ(expand_environment("${ATTAR_TEST_UNSET:-d:-e}${ATTAR_TEST_UNSET:-}"), "d:-e");
  EXPECT_EQ(expand_environment("${ATTAR_TEST_EMPTY:-d}${ATTAR_TEST_EMPTY}"), "d");
  EXPECT_EQ(expand_environment("${ATTAR_TEST_VALUE:-d}"), "v");
  EXPECT_EQ(expand_environment(""), "");
  EXPECT_NE(problem_of([] { expand_environment("${ATTAR_TEST_UNSET}"); }).find("ATTAR_TEST_UNSET"), std::string::npos);
  for (const char* bad : {"${ATTAR_TEST_VALUE", "${}", "${1a}", "${a b}", "${:-x}"})
    EXPECT_NE(problem_of([&] { expand_environment(bad); }), "") << bad;
}

}  // namespace attar
