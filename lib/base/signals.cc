#include "base/signals.h"

#include <signal.h>

#include <atomic>

namespace attar {

namespace {

std::atomic<int> asked_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

void note_signal(int signal) {
  int none = 0;
  asked_signal.compare_exchange_strong(none, signal);
}

}  // namespace

void catch_signals() {
  struct sigaction action = {};
  action.sa_handler = note_signal;
  sigemptyset(&action.sa_mask);
  // RESETHAND: the next one of this kind meets the system's own way of ending. RESTART: reads and writes go on.
  action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int stop_signal() { return asked_signal.load(); }

void stop_if_asked() {
  if (const int signal = stop_signal()) throw Stopped{signal};
}

}  // namespace attar
