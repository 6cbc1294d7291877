// The front door: help, and every tool that needs no LibTorch. What computes is handed to attar-engine, which lies beside this program.
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <sstream>

#include "front_tools.h"
#include "base/check.h"
#include "base/files.h"

namespace {

using namespace attar;

bool holds_libtorch(const fs::path& folder) { return fs::exists(folder / "libtorch_cpu.so"); }

/// Where LibTorch's libraries lie: ATTAR_LIBTORCH, what LD_LIBRARY_PATH names (""), or where they were when attar was built. Error if nowhere.
std::string libtorch_folder() {
  const char* told = std::getenv("ATTAR_LIBTORCH");
  if (told && *told) {
    check(holds_libtorch(fs::path(told) / "lib"), "LibTorch, expected in ATTAR_LIBTORCH", "a torch folder with lib/libtorch_cpu.so", told,
          "set it to the folder 'torch' of an installed torch wheel");
    return std::string(told) + "/lib";
  }
  if (const char* path = std::getenv("LD_LIBRARY_PATH"); path && *path) {
    std::istringstream folders(path);
    for (std::string folder; std::getline(folders, folder, ':');)
      if (!folder.empty() && holds_libtorch(folder)) return "";
  }
  check(holds_libtorch(ATTAR_LIBTORCH_AT_BUILD "/lib"), "LibTorch, expected its folder in ATTAR_LIBTORCH",
        "the folder 'torch' of an installed torch wheel", "nothing", "pip install torch, then export ATTAR_LIBTORCH=.../site-packages/torch");
  return ATTAR_LIBTORCH_AT_BUILD "/lib";
}

/// Becomes attar-engine with the same words.
int become_engine(char** argv) {
  const fs::path engine = fs::read_symlink("/proc/self/exe").parent_path() / "attar-engine";
  check(fs::exists(engine), engine.string(), "to lie beside attar", "nothing", "install or build attar whole");
  if (const std::string torch = libtorch_folder(); !torch.empty()) {
    const char* old = std::getenv("LD_LIBRARY_PATH");
    setenv("LD_LIBRARY_PATH", (torch + (old && *old ? ":" + std::string(old) : "")).c_str(), 1);
  }
  execv(engine.c_str(), argv);
  fail(engine.string(), "to start", std::strerror(errno));
}

/// Words that only the engine can answer.
bool for_engine(int argc, char** argv) {
  bool schema = false;
  for (int i = 2; i < argc; ++i) {
    const std::string given = argv[i];
    if (given == "--help" || given == "-h") return false;
    schema = schema || given == "--schema";
  }
  const Command& command = find_command(argc, argv);
  if (command.name == "export") return !exports_here(parse_words(command, argc, argv));
  return command.engine && !schema;
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
