// The front door: help, and every tool that needs no LibTorch. What computes is handed to attar-engine, which lies beside this program.
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <iostream>

#include "front_tools.h"
#include "base/check.h"
#include "base/files.h"

namespace {

using namespace attar;

/// Becomes attar-engine with the same words; its libraries are found through ATTAR_LIBTORCH where the folder was moved.
int become_engine(char** argv) {
  const fs::path engine = fs::read_symlink("/proc/self/exe").parent_path() / "attar-engine";
  check(fs::exists(engine), engine.string(), "to lie beside attar", "nothing", "install or build attar whole");
  if (const char* torch = std::getenv("ATTAR_LIBTORCH"); torch && *torch) {
    const char* old = std::getenv("LD_LIBRARY_PATH");
    setenv("LD_LIBRARY_PATH", (std::string(torch) + "/lib" + (old && *old ? ":" + std::string(old) : "")).c_str(), 1);
  }
  execv(engine.c_str(), argv);
  fail(engine.string(), "to start", std::strerror(errno));
}

/// Words that only the engine can answer, or that only ask for help.
bool for_engine(int argc, char** argv) {
  bool schema = false, against = false;
  for (int i = 2; i < argc; ++i) {
    const std::string given = argv[i];
    if (given == "--help" || given == "-h") return false;
    schema = schema || given == "--schema";
    against = against || given.rfind("--against", 0) == 0;
  }
  const Command& command = find_command(argc, argv);
  return command.name == "verify" ? against : command.engine && !schema;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "--help";
  if (first == "--help" || first == "-h" || first == "help") return guarded([] { std::cout << overall_help(); return 0; });
  return guarded([&] {
    if (first == "--version") return front_tools().at("version")({});
    return for_engine(argc, argv) ? become_engine(argv) : run_tool(front_tools(), argc, argv);
  });
}
