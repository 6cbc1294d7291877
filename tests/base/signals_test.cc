#include "base/signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace attar {

namespace {

/// Exit code of a child that does `work`, or minus the signal that ended it.
template <class Work>
int signal_child(Work&& work) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(work());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

TEST(Signals, TheFirstAsksToStop) {
  for (const int signal : {SIGINT, SIGTERM})
    EXPECT_EQ(signal_child([&] {
                catch_signals();
                if (stop_signal() != 0) return 1;
                stop_if_asked();
                ::raise(signal);
                if (stop_signal() != signal) return 2;
                try {
                  stop_if_asked();
                } catch (const Stopped& stopped) {
                  return stopped.signal == signal ? 0 : 3;
                }
                return 4;
              }),
              0);
}

TEST(Signals, ASecondOfTheSameKindEndsAtOnce) {
  for (const int signal : {SIGINT, SIGTERM})
    EXPECT_EQ(signal_child([&] {
                catch_signals();
                ::raise(signal);
                ::raise(signal);
                return 0;
              }),
              -signal);
}

TEST(Signals, OneOfEachKindKeepsTheFirst) {
  EXPECT_EQ(signal_child([] {
              catch_signals();
              ::raise(SIGTERM);
              ::raise(SIGINT);
              return stop_signal() == SIGTERM ? 0 : 1;
            }),
            0);
}

}  // namespace attar
