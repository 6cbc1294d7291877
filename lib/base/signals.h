#pragma once

namespace attar {

/// Thrown where work stops after a signal, with everything that can be resumed already saved. Exit code 128 + signal.
struct Stopped {
  int signal;
};

/// SIGINT and SIGTERM only set a flag from now on (a second one of the same kind ends the process at once).
void catch_signals();
/// The signal that asked to stop, 0 if none.
int stop_signal();
/// Throws Stopped if a signal came: called between steps, after what was done is saved.
void stop_if_asked();

}  // namespace attar
