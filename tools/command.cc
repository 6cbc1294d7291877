#include "command.h"

#include <boost/program_options.hpp>
#include <cstdio>
#include <iostream>
#include <new>

#include "base/log.h"
#include "base/signals.h"

namespace po = boost::program_options;

namespace attar {

std::string Words::get(const std::string& name) const {
  const auto found = values.find(name);
  return found == values.end() || found->second.empty() ? "" : found->second.back();
}
std::vector<std::string> Words::all(const std::string& name) const {
  const auto found = values.find(name);
  return found == values.end() ? std::vector<std::string>{} : found->second;
}
int64_t Words::integer(const std::string& name) const {
  int64_t value = 0;
  if (!read_scalar(Node::scalar(get(name)), value)) throw UsageError("--" + name + ", expected a whole number, received " + get(name));
  return value;
}
std::vector<int64_t> Words::integers(const std::string& name, std::vector<int64_t> otherwise) const {
  if (!has(name)) return otherwise;
  std::vector<int64_t> out;
  for (const std::string& given : all(name))
    for (size_t begin = 0; begin <= given.size();) {
      const size_t end = std::min(given.find(',', begin), given.size());
      if (!read_scalar(Node::scalar(given.substr(begin, end - begin)), out.emplace_back()))
        throw UsageError("--" + name + ", expected whole numbers with commas between, received " + given);
      begin = end + 1;
    }
  return out;
}
double Words::number(const std::string& name) const {
  double value = 0;
  if (!read_scalar(Node::scalar(get(name)), value)) throw UsageError("--" + name + ", expected a number, received " + get(name));
  return value;
}

const Command& find_command(int argc, char** argv) {
  const std::string one = argc > 1 ? argv[1] : "", two = argc > 2 ? one + " " + argv[2] : "";
  const Command* found = nullptr;
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    names.push_back(command.name);
    if (command.name == two || (command.name == one && !found)) found = &command;
  }
  if (found) return *found;
  for (const std::string& name : names)
    if (name.rfind(one + " ", 0) == 0)
      throw UsageError("attar " + one + ", expected one of its tools, received " + (argc > 2 ? argv[2] : "nothing") + ", try: attar " + name);
  throw UsageError("unknown tool '" + one + "', " + nearest_hint(one, names));
}

Words parse_words(const Command& command, int argc, char** argv) {
  po::options_description options;
  po::positional_options_description positional;
  std::vector<std::string> known;
  for (const Flag& flag : command.flags) {
    known.push_back(flag.name);
    if (flag.is_switch) {
      options.add_options()(flag.name.c_str(), "");
    } else {
      options.add_options()(flag.name.c_str(), po::value<std::vector<std::string>>()->composing(), "");
    }
    if (flag.positional) positional.add(flag.name.c_str(), flag.many ? -1 : 1);
  }
  const int skip = 1 + static_cast<int>(std::count(command.name.begin(), command.name.end(), ' '));
  std::vector<std::string> words(argv + std::min(argc, 1 + skip), argv + argc);
  po::variables_map map;
  try {
    using style = po::command_line_style::style_t;
    const int look = style::allow_long | style::long_allow_adjacent | style::long_allow_next;
    po::store(po::command_line_parser(words).options(options).positional(positional).style(look).run(), map);
  } catch (const po::unknown_option& error) {
    std::string name = error.get_option_name();
    name.erase(0, name.find_first_not_of('-'));
    const std::string near = nearest(name, known);
    throw UsageError("unknown option '--" + name + "', " +
                     (near.empty() ? "see attar " + command.name + " --help" : "did you mean '--" + near + "'?"));
  } catch (const po::error& error) {
    throw UsageError(std::string(error.what()) + ", see attar " + command.name + " --help");
  }
  Words out;
  for (const Flag& flag : command.flags) {
    if (map.count(flag.name)) {
      if (flag.is_switch) out.values[flag.name] = {"true"};
      else out.values[flag.name] = map[flag.name].as<std::vector<std::string>>();
      if (!flag.many && out.values[flag.name].size() > 1 && flag.key.empty())
        throw UsageError("option '--" + flag.name + "', expected once, received " + std::to_string(out.values[flag.name].size()) + " times");
    } else if (!flag.fallback.empty() && flag.key.empty()) {
      out.values[flag.name] = {flag.fallback};
    }
    if (flag.required && !out.has(flag.name) && !map.count("help"))
      throw UsageError((flag.positional ? "" : "option '--") + flag.name + (flag.positional ? "" : "'") +
                       ", expected, received nothing, usage: " + command.synopsis);
  }
  return out;
}

std::string help_of(const Command& command) {
  std::ostringstream out;
  out << command.summary << "\n\n  " << command.synopsis << "\n\n";
  size_t width = 0;
  const auto left = [](const Flag& f) { return (f.positional ? "  " + f.name : "  --" + f.name) + (f.is_switch || f.positional ? "" : " X"); };
  for (const Flag& flag : command.flags) width = std::max(width, std::min<size_t>(left(flag).size(), 32));
  for (const Flag& flag : command.flags) {
    const std::string name = left(flag);
    out << name << (name.size() > width ? "\n" + std::string(width, ' ') : std::string(width - name.size(), ' ')) << "  " << flag.help;
    if (!flag.fallback.empty()) out << " (" << flag.fallback << ")";
    out << "\n";
  }
  return out.str();
}

std::string overall_help() {
  std::ostringstream out;
  out << "attar turns a large language model into the smallest one that still does a given job, and proves it.\n\n"
         "  attar run recipes/support_triage.yaml     a first result, in a few minutes\n"
         "  attar init DIR --from FILE.csv            a recipe for your own task\n"
         "  attar TOOL --help                         a tool's options\n\n";
  for (const Command& command : commands()) {
    out << "  " << command.name << std::string(command.name.size() < 18 ? 18 - command.name.size() : 1, ' ') << command.summary << "\n";
  }
  return out.str();
}

Json stage_configuration(const Command& command, const Words& words) {
  Node root;
  root.kind = Node::Kind::map;
  for (const Flag& flag : command.flags) {
    if (flag.key.empty() || !words.has(flag.name)) continue;
    const std::vector<std::string> values = words.all(flag.name);
    if (flag.many) {
      Node list;
      list.kind = Node::Kind::list;
      // Quoted, so that text stays text; whole numbers stay numbers, {key: value} a map.
      for (const std::string& value : values)
        if (value.starts_with("{")) list.items.push_back(parse_yaml(value, "--" + flag.name));
        else list.items.push_back(Node::scalar(value, value.empty() || value.find_first_not_of("0123456789") != std::string::npos));
      set_override(root, flag.key + "=" + to_yaml(list));
    } else {
      // Quoted, so that text stays text; numbers and switches are read by their field's type.
      set_override(root, flag.key + "=" + (values.back().empty() ? "\"\"" : values.back()));
    }
  }
  return to_json(root);
}

int guarded(const std::function<int()>& tool) {
  const auto one_line = [](std::string text) {
    text = text.substr(0, text.find('\n'));
    std::cerr << "error: " << text << std::endl;
  };
  try {
    return tool();
  } catch (const UsageError& error) {
    one_line(error.what());
    return 2;
  } catch (const Error& error) {
    for (const Fault& fault : error.faults()) one_line(fault.line());
    return 1;
  } catch (const Stopped& stopped) {
    std::cerr << "stopped; the same command goes on from here" << std::endl;
    return 128 + stopped.signal;
  } catch (const std::bad_alloc&) {
    one_line("memory, expected enough for this model, received none, use a smaller batch or model");
    return 1;
  } catch (const std::exception& error) {
    one_line(error.what());
    return 1;
  }
}

int run_tool(const std::map<std::string, Tool>& tools, int argc, char** argv) {
  return guarded([&] {
    const Command& command = find_command(argc, argv);
    for (int i = 2; i < argc; ++i)
      if (std::string(argv[i]) == "--help" || std::string(argv[i]) == "-h") {
        std::cout << help_of(command);
        return 0;
      }
    const Words words = parse_words(command, argc, argv);
    set_log_level(words.get("log-level"));
    const int code = tools.at(command.name)(words);
    std::cout.flush();
    check(std::cout.good(), "standard output", "to take the result", "an error", "is the disk full, or the pipe closed?");
    return code;
  });
}

}  // namespace attar
