// attar completion: what a shell needs to complete tools and options, from the table of tools.
#include <iostream>

#include "base/check.h"
#include "front/front.h"

namespace attar {
namespace {

std::string options_of(const Command& command) {
  std::string out;
  for (const Flag& flag : command.flags)
    if (!flag.positional) out += (out.empty() ? "--" : " --") + flag.name;
  return out;
}

/// First words of all tools, each once; of the tools of two words, those that follow `first`.
std::string words_of(const std::string& first) {
  std::string out;
  std::vector<std::string> seen;
  for (const Command& command : commands()) {
    const size_t space = command.name.find(' ');
    const std::string head = command.name.substr(0, space), tail = space == std::string::npos ? "" : command.name.substr(space + 1);
    if (!first.empty() && (head != first || tail.empty())) continue;
    const std::string& word = first.empty() ? head : tail;
    if (std::find(seen.begin(), seen.end(), word) != seen.end()) continue;
    seen.push_back(word);
    out += (out.empty() ? "" : " ") + word;
  }
  return out;
}

std::string bash_completion() {
  std::string pairs, options;
  std::vector<std::string> heads;
  for (const Command& command : commands()) {
    options += "    '" + command.name + "') options='" + options_of(command) + "' ;;\n";
    const size_t space = command.name.find(' ');
    if (space == std::string::npos) continue;
    const std::string head = command.name.substr(0, space);
    if (std::find(heads.begin(), heads.end(), head) != heads.end()) continue;
    heads.push_back(head);
    pairs += "    " + head + ") seconds='" + words_of(head) + "' ;;\n";
  }
  return "# bash completion of attar; `source <(attar completion bash)` takes it into a shell.\n"
         "_attar() {\n"
         "  local word=\"${COMP_WORDS[COMP_CWORD]}\" tool=\"${COMP_WORDS[1]}\" seconds='' options=''\n"
         "  COMPREPLY=()\n"
         "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
         "    COMPREPLY=($(compgen -W '" + words_of("") + " help --help --version' -- \"$word\"))\n"
         "    return\n"
         "  fi\n"
         "  case \"$tool\" in\n" + pairs +
         "  esac\n"
         "  if [ -n \"$seconds\" ]; then\n"
         "    if [ \"$COMP_CWORD\" -eq 2 ] && [[ \"$word\" != -* ]]; then\n"
         "      COMPREPLY=($(compgen -W \"$seconds\" -- \"$word\"))\n"
         "      return\n"
         "    fi\n"
         "    # A tool of one word may have others of two beside it.\n"
         "    [[ \" $seconds \" == *\" ${COMP_WORDS[2]} \"* ]] && tool=\"$tool ${COMP_WORDS[2]}\"\n"
         "  fi\n"
         "  case \"$tool\" in\n" + options +
         "  esac\n"
         "  case \"$word\" in\n"
         "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;\n"
         "  esac\n"
         "}\n"
         "complete -o bashdefault -o default -F _attar attar\n";
}

}  // namespace

int tool_completion(const Words& words) {
  const std::string shell = words.get("shell");
  check(shell == "bash", "the shell to complete in", "bash", shell);
  std::cout << bash_completion();
  return 0;
}

}  // namespace attar
