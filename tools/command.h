#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/fields.h"

namespace attar {

/// One option of a tool. `key`: the configuration key it sets, where it sets one.
struct Flag {
  std::string name, help, fallback, key;
  bool is_switch = false;   ///< takes no value
  bool positional = false, many = false, required = false;
};

/// One tool: its words, its options, and whether it computes (attar-engine) or only reads (the front door).
struct Command {
  std::string name, summary, synopsis;
  bool engine = false;
  std::vector<Flag> flags;
};

/// What a command line said.
struct Words {
  std::map<std::string, std::vector<std::string>> values;
  bool has(const std::string& name) const { return values.count(name) > 0; }
  std::string get(const std::string& name) const;             ///< given or default, "" if neither
  std::vector<std::string> all(const std::string& name) const;
  int64_t integer(const std::string& name) const;             ///< UsageError if it is none
  std::vector<int64_t> integers(const std::string& name, std::vector<int64_t> otherwise) const;   ///< given "1,2" or again and again; likewise
  double number(const std::string& name) const;
};

/// Every tool, in the order of the help.
const std::vector<Command>& commands();
/// The command that argv[1] (and argv[2], for names of two words) names; UsageError with the nearest name.
const Command& find_command(int argc, char** argv);
/// Boost.Program_options over the command's flags; UsageError naming the option.
Words parse_words(const Command& command, int argc, char** argv);
std::string help_of(const Command& command);
std::string overall_help();
/// The configuration that a stage tool's flags describe, as overrides on a JSON object.
Json stage_configuration(const Command& command, const Words& words);

/// Runs a tool, turns what it throws into words on stderr and an exit code (0, 1, 2, 3, 130, 143).
int guarded(const std::function<int()>& tool);

using Tool = std::function<int(const Words&)>;
/// Applies --log-level, then runs.
int run_tool(const std::map<std::string, Tool>& tools, int argc, char** argv);

}  // namespace attar
