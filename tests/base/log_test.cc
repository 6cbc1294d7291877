#include "base/log.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <regex>
#include <thread>
#include <vector>

#include "base/check.h"

namespace attar {

namespace {

/// What `work` writes to stderr.
template <class Work>
std::string words_of(Work&& work) {
  testing::internal::CaptureStderr();
  work();
  return testing::internal::GetCapturedStderr();
}

/// What a terminal of `columns` receives from `work`, done in a child whose stderr it is.
template <class Work>
std::string terminal_words(unsigned short columns, Work&& work) {
  int terminal = -1;
  const winsize size{24, columns, 0, 0};
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, &size);
  if (child == 0) {
    work();
    ::_exit(0);
  }
  std::string out;
  char buffer[4096];
  for (ssize_t got; (got = ::read(terminal, buffer, sizeof buffer)) > 0;) out.append(buffer, static_cast<size_t>(got));
  ::close(terminal);
  int status = 1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  return out;
}

/// The lines a person sees in the end: a return begins the line anew, erasing empties it.
std::vector<std::string> seen_lines(const std::string& words) {
  std::vector<std::string> lines(1);
  size_t column = 0;
  for (size_t i = 0; i < words.size(); ++i) {
    std::string& line = lines.back();
    if (words.compare(i, 3, "\x1b[K") == 0) {
      line.resize(column);
      i += 2;
    } else if (words[i] == '\r') {
      column = 0;
    } else if (words[i] == '\n') {
      lines.emplace_back();
      column = 0;
    } else {
      line.resize(std::max(line.size(), column + 1));
      line[column++] = words[i];
    }
  }
  return lines;
}

}  // namespace

TEST(Log, LevelsAndPrefixes) {
  const auto all = [] {
    log_debug("d");
    log_info("i");
    log_warn("w");
    log_error("e");
  };
  EXPECT_EQ(words_of(all), "i\nwarning: w\nerror: e\n");
  set_log_level("debug");
  EXPECT_EQ(words_of(all), "debug: d\ni\nwarning: w\nerror: e\n");
  set_log_level("error");
  EXPECT_EQ(words_of(all), "error: e\n");
  set_log_level("info");
  EXPECT_THROW(set_log_level("loud"), UsageError);
}

TEST(Log, ForeignTextDoesNotSteerTheTerminal) {
  EXPECT_EQ(words_of([] { log_info("a\x1b[2J\rb\tc"); }), "a?[2J?b\tc\n");
}

TEST(Progress, WritesPlainLinesWhereThereIsNoTerminal) {
  const std::string words = words_of([] {
    Progress progress("student", 800, "steps");
    for (int i = 1; i <= 800; ++i) progress.update(i, "loss 1.5");
    progress.finish("loss 1.25");
    progress.finish("twice");
  });
  EXPECT_TRUE(std::regex_match(words, std::regex("student: 800/800 steps, [0-9.]+( [KMB])? steps/s, [0-9.]+s, loss 1.25\n"))) << words;
  EXPECT_EQ(words.find('\r'), std::string::npos);
}

TEST(Progress, CountsOnlyWhatThisProcessDid) {
  const std::string words = words_of([] {
    Progress progress("student", 0, "steps");
    progress.start_at(500);
    progress.finish();
  });
  EXPECT_EQ(words.find("student: 500 steps, "), 0u) << words;
  EXPECT_EQ(words.find("steps/s"), std::string::npos) << words;
  EXPECT_EQ(words_of([] { Progress unfinished("x", 3, "steps"); unfinished.update(1); }), "");
}

TEST(Progress, ABarAndLogLinesDoNotGarbleEachOther) {
  const std::string words = terminal_words(60, [] {
    Progress progress("student", 10, "steps");
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    progress.update(5, "loss 2 and a note much longer than the terminal is wide");
    log_info("saved");
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back([&] { log_warn("from a thread"); });
    for (auto& thread : threads) thread.join();
    progress.update(10);
    progress.finish("done");
    log_info("after");
  });
  EXPECT_NE(words.find("student [##########..........] 5/10 steps, "), std::string::npos) << words;
  const auto lines = seen_lines(words);
  ASSERT_EQ(lines.size(), 8u) << words;
  EXPECT_EQ(lines[0], "saved");
  for (size_t i = 1; i <= 4; ++i) EXPECT_EQ(lines[i], "warning: from a thread");
  EXPECT_EQ(lines[5].find("student: 10/10 steps, "), 0u) << lines[5];
  EXPECT_EQ(lines[6], "after");
  for (const auto& line : lines) EXPECT_LT(line.size(), 60u);
}

TEST(Progress, AnUnfinishedBarKeepsItsLine) {
  const auto lines = seen_lines(terminal_words(80, [] {
    {
      Progress progress("student", 10, "steps");
      std::this_thread::sleep_for(std::chrono::milliseconds(150));
      progress.update(5);
    }
    log_error("stopped");
  }));
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].find("student ["), 0u);
  EXPECT_EQ(lines[1], "error: stopped");
}

TEST(Progress, IsSilentAboveInfo) {
  set_log_level("warn");
  EXPECT_EQ(words_of([] { Progress("x", 3, "steps").finish(); }), "");
  set_log_level("info");
}

}  // namespace attar
