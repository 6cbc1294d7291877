#include <algorithm>
#include <cctype>

#include "report/facts.h"
#include "report/html.h"

namespace attar {
namespace {

/// A name that model servers take: lower case, digits, '-' and '_'.
std::string server_name(const std::string& name) {
  std::string out;
  for (const unsigned char c : name) out += std::isalnum(c) && c < 0x80 ? static_cast<char>(std::tolower(c)) : '-';
  return out.empty() ? "model" : out;
}

/// The task's prompt with something else in the place of its text; "" if the report knows no task.
std::string prompt_with(const Json& report, const std::string& text) {
  const std::string prompt = text_of(find_at(report, {"recipe", "task", "prompt"})), field = text_of(find_at(report, {"recipe", "task", "text"}));
  if (prompt.empty()) return text;
  std::string out;
  for (size_t at = 0; at < prompt.size();) {
    const size_t open = prompt.find('{', at), close = prompt.find('}', open == std::string::npos ? at : open);
    if (open == std::string::npos || close == std::string::npos) return out + prompt.substr(at);
    const std::string name = prompt.substr(open + 1, close - open - 1);
    out += prompt.substr(at, open - at) + (name == field ? text : "(" + name + ")");
    at = close + 1;
  }
  return out;
}

std::string python_string(const std::string& text) { return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string onnx_code(const std::string& folder, const std::string& prompt) {
  return "import numpy as np, onnxruntime\n"
         "from transformers import AutoTokenizer\n\n"
         "folder = " + python_string(folder) + "\n"
         "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
         "session = onnxruntime.InferenceSession(folder + \"/model.onnx\")\n"
         "names = [i.name for i in session.get_inputs()]\n"
         "past = {i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32)\n"
         "        for i in session.get_inputs() if i.name.startswith(\"past_key_values\")}\n"
         "step, length, answer = tokenizer(" + python_string(prompt) + ")[\"input_ids\"], 0, []\n"
         "for _ in range(32):\n"
         "    length += len(step)\n"
         "    feed = {\"input_ids\": np.array([step], np.int64), \"attention_mask\": np.ones((1, length), np.int64),\n"
         "            \"position_ids\": np.arange(length - len(step), length)[None].astype(np.int64)}\n"
         "    logits, *present = session.run(None, {k: v for k, v in feed.items() if k in names} | past)\n"
         "    past = dict(zip(past, present))\n"
         "    step = [int(logits[0, -1].argmax())]\n"
         "    if step[0] == tokenizer.eos_token_id:\n"
         "        break\n"
         "    answer += step\n"
         "print(tokenizer.decode(answer))\n";
}

}  // namespace

std::string shell_word(const std::string& word) {
  const bool plain = !word.empty() && word[0] != '-' && std::all_of(word.begin(), word.end(), [](unsigned char c) { return std::isalnum(c)
      || std::string_view("._/-+=:@").find(static_cast<char>(c)) != std::string_view::npos; });
  if (plain) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::vector<UseSnippet> use_snippets(const Json& report) {
  std::vector<UseSnippet> out;
  const std::string name = server_name(text_of(find_at(report, {"name"})));
  const std::string prompt = prompt_with(report, "Where is my order?");
  for (const auto& [id, artifact] : artifacts_of(report).items()) {
    std::string path = text_of(find_at(artifact, {"path"}));
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    const std::string format = text_of(find_at(report, {"lineage", text_of(find_at(artifact, {"stage"})), "facts", "format"}));
    if (path.ends_with(".gguf")) {
      const std::string request = to_line(Json{{"prompt", prompt}, {"n_predict", 32}, {"temperature", 0}});
      out.push_back({id + ": llama.cpp server", "sh",
                     "llama-server -m " + shell_word(path) + " --port 8080\n"
                     "curl -s http://127.0.0.1:8080/completion -H 'Content-Type: application/json' \\\n  -d " + shell_word(request) + "\n"});
      out.push_back({id + ": Ollama", "sh",
                     "cat > Modelfile <<'END'\nFROM ./" + path + "\nTEMPLATE \"\"\"" + prompt_with(report, "{{ .Prompt }}")
                         + "\"\"\"\nPARAMETER temperature 0\nEND\n"
                     "ollama create " + name + " -f Modelfile\nollama run " + name + " 'Where is my order?'\n"});
    } else if (format == "onnx" || path.ends_with(".onnx")) {
      if (path.ends_with("/model.onnx")) path.resize(path.size() - 11);
      out.push_back({id + ": ONNX Runtime (Python)", "python", onnx_code(path, prompt)});
    } else if (format == "hf") {
      out.push_back({id + ": transformers (Python)", "python",
                     "from transformers import pipeline\n\ngenerate = pipeline(\"text-generation\", " + python_string(path) + ")\nprint(generate("
                         + python_string(prompt) +
                         ", max_new_tokens=32, do_sample=False, return_full_text=False)[0][\"generated_text\"])\n"});
    }
  }
  return out;
}

}  // namespace attar
