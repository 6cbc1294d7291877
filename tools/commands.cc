// The table of tools. Options of stage tools come from the stages' configuration structs; short names beside the dotted ones are the contract's.
#include "command.h"
#include "spec/configs.h"

namespace attar {
namespace {

std::vector<Flag> common() {
  return {{"device", "cpu, cuda, cuda:N or auto", "auto", ""},
          {"threads", "threads to compute with; 0: as many as cores", "0", ""},
          {"seed", "of every random choice", "0", ""},
          {"log-level", "debug, info, warn or error", "info", ""},
          {"help", "this text", "", "", true}};
}

Flag flag(std::string name, std::string help, std::string fallback = "") { return {std::move(name), std::move(help), std::move(fallback), ""}; }
Flag needed(std::string name, std::string help) { Flag f = flag(std::move(name), std::move(help)); f.required = true; return f; }
Flag toggle(std::string name, std::string help) { Flag f = flag(std::move(name), std::move(help)); f.is_switch = true; return f; }
Flag several(std::string name, std::string help) { Flag f = flag(std::move(name), std::move(help)); f.many = true; return f; }
Flag word(std::string name, std::string help, bool many = false) {
  Flag f = flag(std::move(name), std::move(help));
  f.positional = true, f.many = many, f.required = !many;
  return f;
}

Command command(std::string name, std::string synopsis, std::string summary, bool engine, std::vector<Flag> flags) {
  for (Flag& f : common()) flags.push_back(std::move(f));
  return {std::move(name), std::move(summary), std::move(synopsis), engine, std::move(flags)};
}

/// A tool that runs one stage: every key of its configuration is an option, some under a short name.
template <HasFields Config>
Command stage_tool(std::string name, std::string synopsis, std::string summary, const std::map<std::string, std::string>& short_names,
                   const std::vector<std::string>& required) {
  std::vector<Flag> flags;
  for (const FieldInfo& info : list_fields<Config>()) {
    const auto found = short_names.find(info.name);
    Flag f{found == short_names.end() ? info.name : found->second, info.help, info.fallback, info.name};
    f.is_switch = info.type == "boolean" && info.fallback == "false";
    f.many = info.type == "list";
    f.required = std::find(required.begin(), required.end(), f.name) != required.end();
    flags.push_back(std::move(f));
  }
  flags.push_back(flag("task", "task file whose training rows and template are the data"));
  flags.push_back(needed("out", name == "export" ? "file (gguf) or folder (onnx, hf) to write" : "folder for the result"));
  return command(std::move(name), std::move(synopsis), std::move(summary), true, std::move(flags));
}

std::vector<Command> table() {
  const Flag json = toggle("json", "one JSON object on standard output");
  std::vector<Command> all;
  all.push_back(command("run", "attar run RECIPE [key=value ...] [--out DIR]", "runs every stage of a recipe that is not done, then the gates", true,
                        {[] {
                           Flag f = word("recipe", "recipe file");
                           f.required = false;
                           return f;
                         }(),
                         word("overrides", "key=value: dotted path into the recipe and a YAML value", true),
                         flag("out", "folder of the run; runs/<name> if absent"), toggle("schema", "print the recipe's JSON Schema instead")}));
  all.push_back(
      command("plan", "attar plan RECIPE [key=value ...] [--out DIR] [--json]", "says what run would do, and what it would take", false,
              {word("recipe", "recipe file"), word("overrides", "key=value", true), flag("out", "folder of the run; runs/<name> if absent"), json}));
  all.push_back(command("init", "attar init DIR --from FILE.csv|FILE.jsonl", "a task file and a recipe to start from", false,
                        {word("dir", "folder to make"), needed("from", "examples, .csv or .jsonl"),
                         flag("text", "field of the input; guessed if absent"), flag("label", "field of the right answer; guessed if absent")}));
  all.push_back(command("doctor", "attar doctor [--json]", "what this machine has, what is missing, how fast it is", true, {json}));
  all.push_back(command(
      "tokenizer train", "attar tokenizer train --data F --vocab-size N --model bpe|unigram --out DIR", "trains a SentencePiece tokenizer", false,
      {needed("data", "text: .txt, .jsonl, .csv, .zst of them, or a folder"), needed("vocab-size", "number of tokens"),
       flag("model", "bpe or unigram", "bpe"), flag("text", "field that holds the text", "text"), needed("out", "folder for tokenizer.model")}));
  all.push_back(
      command("tokenizer inspect", "attar tokenizer inspect T [--json]", "what a tokenizer is", false, {word("tokenizer", "folder or file"), json}));
  all.push_back(command(
      "tokenize", "attar tokenize --tokenizer T [--input FILE] [--whole] [--specials] [--decode] [--chat [--text]]",
      "text to ids, a JSON array a line, or back", false,
      {needed("tokenizer", "folder, tokenizer.json, tokenizer.model or .gguf"), flag("input", "file; standard input if absent"),
       toggle("whole", "the input is one text"), toggle("specials", "read special tokens' text as those tokens, add BOS/EOS as the model does"),
       toggle("decode", "ids to text"), toggle("chat", "lines are conversations (JSON lists of {role, content}), read by the chat template"),
       toggle("text", "with --chat: the rendered text as JSON instead of its ids")}));
  const Flag rows = needed("in", "rows: .jsonl or .csv, each also .zst, or a folder of them");
  const Flag text = flag("text", "field to compare by; every text of a row if absent");
  all.push_back(command("data dedup", "attar data dedup --in F --out F.jsonl [--text FIELD] [--threshold 0.8 | --exact] [--json]",
                        "drops rows that came before, equal or nearly so (MinHash)", true,
                        {rows, needed("out", "file of JSON lines to write"), text,
                         flag("threshold", "share of common runs of words (Jaccard) from which rows are near duplicates", "0.8"),
                         flag("words", "words of a run", "5"), toggle("exact", "only rows of the same words"), json}));
  all.push_back(command("data split", "attar data split --in F --out DIR [--text FIELD] [--test 0.1] [--json]",
                        "train.jsonl and test.jsonl; equal texts never part", true,
                        {rows, needed("out", "folder for both"), text, flag("test", "share of the rows for the test", "0.1"), json}));
  all.push_back(command("data decontaminate", "attar data decontaminate --in F --against TEST --out F.jsonl [--text FIELD] [--json]",
                        "drops rows that hold a run of words of the test rows", true,
                        {rows, needed("against", "rows that must stay unseen"), needed("out", "file of JSON lines to write"), text,
                         flag("words", "words of a run", "13"), json}));
  Flag files = rows;
  files.many = true;
  Flag weights = flag("weight", "share of the rows that are written, over the sum of all; one for each --in, or none: by --temperature");
  weights.many = true;
  all.push_back(command("data mix",
                        "attar data mix --in A.jsonl --in B.jsonl [--weight 3 --weight 1 | --temperature 2] [--rows N] --out F.jsonl [--json]",
                        "one file of several, each by its share", true,
                        {files, weights, flag("temperature", "without weights: shares are rows^(1/this); 1: as they are, higher evens them out", "1"),
                         flag("rows", "to write: files that end before begin again; 0: until the first file ends", "0"),
                         needed("out", "file of JSON lines to write"), json}));
  all.push_back(command("data pack", "attar data pack --in F --tokenizer T --out DIR [--seq 256] [--json]",
                        "text into shards of token ids that capture and distill take as data", true,
                        {needed("in", "text: .jsonl, .csv or .txt, each also .zst, or a folder of them"),
                         needed("tokenizer", "folder, tokenizer.json, tokenizer.model or .gguf"), needed("out", "folder for the shards"),
                         flag("seq", "longest row in tokens", "256"), toggle("one-a-row", "one document a row, not several"),
                         flag("kind", "text, answers, chat or auto", "auto"), flag("text", "field of a document's text", "text"),
                         flag("prompt", "field of the prompt", "prompt"), flag("answer", "field of the answer", "answer"),
                         flag("messages", "field of a chat", "messages"), flag("learn", "answer, or all: prompts too", "answer"),
                         flag("chat", "auto: the tokenizer's template; or chatml", "auto"),
                         flag("limit", "only the first so many documents; 0: all", "0"), flag("shard-rows", "rows a shard", "8192"), json}));
  all.push_back(stage_tool<CaptureConfig>("capture", "attar capture --teacher M|http://HOST:PORT --data F --codec sampled|top_k|full --out DIR",
                                          "a teacher's logits into a cache",
                                          {{"data.path", "data"},
                                           {"tokens", "tokenizer"},
                                           {"codec.kind", "codec"},
                                           {"codec.samples", "samples"},
                                           {"codec.draws", "draws"},
                                           {"codec.k", "k"},
                                           {"codec.hidden_layers", "hidden-layers"},
                                           {"data.seq", "seq"},
                                           {"server.model", "model-name"},
                                           {"server.api", "api"},
                                           {"server.key_env", "api-key-env"},
                                           {"server.concurrency", "concurrency"}},
                                          {}));
  all.push_back(stage_tool<DistillConfig>(
      "distill", "attar distill --model M [--teacher M|CACHE] --data F --out DIR", "trains a student",
      {{"data.path", "data"}, {"tokens", "tokenizer"}, {"data.seq", "seq"}, {"train.steps", "steps"}, {"train.lr", "lr"}, {"train.batch", "batch"}},
      {"model"}));
  all.push_back(stage_tool<SynthesizeConfig>(
      "synthesize", "attar synthesize --teacher M|http://HOST:PORT --data PROMPTS [--max-tokens N] [--temperature 1] --out DIR",
      "a teacher writes answers to prompts, or goes on with texts, for a student to learn from",
      {{"data.path", "data"},
       {"data.kind", "kind"},
       {"data.limit", "limit"},
       {"max_tokens", "max-tokens"},
       {"top_p", "top-p"},
       {"tokens", "tokenizer"},
       {"server.model", "model-name"},
       {"server.api", "api"},
       {"server.key_env", "api-key-env"},
       {"server.concurrency", "concurrency"}},
      {"teacher"}));
  all.push_back(stage_tool<PruneConfig>(
      "prune", "attar prune --model M --ffn 0.5 [--method wanda --pattern 2:4] [--search.bytes N] --data F --out DIR", "removes what matters least",
      {{"data.path", "data"},
       {"data.seq", "seq"},
       {"kv_heads", "kv-heads"},
       {"per_layer", "per-layer"},
       {"merge_heads", "merge-heads"},
       {"depth_by", "depth-by"},
       {"calibration_rows", "calibration-rows"}},
      {"model"}));
  all.push_back(stage_tool<CalibrateConfig>("calibrate", "attar calibrate --model M --data F --out DIR", "a model's input statistics and importance matrix",
                                            {{"data.path", "data"}, {"data.seq", "seq"}, {"calibration_rows", "calibration-rows"}}, {"model"}));
  all.push_back(stage_tool<QuantConfig>("quantize",
                                        "attar quantize --model M --scheme q4_k_m [--method search|gptq|rounding|qat] [--imatrix I] [--data F] --out DIR",
                                        "puts weights on the grid of the file",
                                        {{"data.path", "data"},
                                         {"data.seq", "seq"},
                                         {"calibration_rows", "calibration-rows"},
                                         {"train.steps", "steps"},
                                         {"train.lr", "lr"},
                                         {"train.batch", "batch"}},
                                        {"model"}));
  all.push_back(stage_tool<ExportConfig>(
      "export", "attar export --model M --format gguf|onnx|hf [--type T] --out PATH", "writes GGUF, ONNX or a folder, and proves it",
      {{"tensor_type", "tensor-type"}, {"allow_deviation", "allow-deviation"}, {"shard_bytes", "shard-bytes"}}, {"model", "format"}));
  all.push_back(command(
      "eval", "attar eval --model M [--base B] [--text FILE] [--task FILE] [--ctx 512] [--runtime URL] [--json]",
      "perplexity, KL, agreement, a task's metrics; of a file, of a running server, or of both", true,
      {flag("model", "model to judge; may be left out with --runtime"),
       flag("runtime", "running server (llama.cpp's or OpenAI-compatible) that the task's questions go to"),
       flag("model-name", "the server's model; its only one if absent"),
       flag("api", "llama, echo, completions, chat or auto (recipes' runtime.api)", "auto"),
       flag("api-key-env", "environment variable that holds the server's key"),
       flag("concurrency", "requests at once", "4"),
       flag("attempts", "tries of one request", "6"),
       flag("timeout", "seconds for one answer", "300"),
       flag("answers", "file that keeps the server's answers: a stopped run goes on from it"),
       flag("long-prompts", "task prompts that the context does not hold: refuse, or shorten", "refuse"),
       flag("base", "model to compare with"),
       flag("text", "text to read"),
       flag("task", "task file"),
       flag("ctx", "tokens a chunk; the second half is scored", "512"),
       flag("text-tokens", "only the first so many tokens; 0: all", "0"),
       flag("kv-cache", "f16, q8_0 or q4_0: what a cache of keys and values in it costs too; f32: not measured", "f32"),
       flag("stride", "instead: windows of --ctx tokens that move on by so many, every token scored once; 0: chunks", "0"),
       flag("memorization-rows", "training rows of the task that are tried for coming back word for word; 0: none", "0"),
       flag("memorization-prefix", "tokens of such a row that are given", "16"),
       flag("memorization-length", "tokens that must then come", "16"),
       flag("task-rows", "only the first so many test rows; 0: all", "0"),
       toggle("latency", "measure tokens/s, times to the first and each further token and the time to load too"),
       several("prompt-tokens", "with --latency: tokens of a prompt, one length or several: 32,128 (32)"),
       several("new-tokens", "with --latency: tokens written after it, one length or several (16)"),
       several("at-threads", "with --latency: threads while that is timed, one number or several (--threads)"),
       flag("runs", "with --latency: generations that count", "5"), flag("warm-up", "with --latency: generations before them", "1"),
       flag("load-runs", "with --latency: loads that are timed", "3"),
       toggle("not-pinned", "with --latency: threads may move between cores while they are timed"),
       flag("scores", "folder that takes the scores of each example, for attar route"),
       flag("learned-score",
            "with --scores: one learned from hidden states too, on a quarter of the rows: last or mean, or a router.json that has one", "none"),
       json}));
  all.push_back(command(
      "drift", "attar drift --reference STAGE_DIR --artifact A --data F [--model M] [--task T] [--level 0.01] [--threshold 0.1] [--json]",
      "new inputs against those a model was judged on; exit 3 if they differ", true,
      {needed("reference", "folder of an evaluate stage (report.json, scores, drift)"), needed("artifact", "whose kept scores are held against"),
       needed("data", "new rows, .jsonl or .csv; labels are used where they are there"),
       flag("model", "the artifact's model; where the report says if absent"),
       flag("task", "task file with other fields or another prompt; the one that was kept if absent"),
       flag("level", "largest p-value, after Holm, that counts", "0.01"),
       flag("threshold", "smallest effect that counts: distance of distributions, or how much worse a metric became", "0.1"), json}));
  all.push_back(command("logits", "attar logits --model M --ids FILE --out FILE.npy", "float32 logits of given ids, for comparison", true,
                        {needed("model", "model"), needed("ids", "JSON array of arrays of ids"), needed("out", ".npy to write: (sum of lengths, V)"),
                         toggle("stepwise", "token by token through the KV cache")}));
  all.push_back(command(
      "generate", "attar generate --model M --prompt TEXT [--chat] [--max-tokens N] [--temperature 0] [--ids]", "text, for a look", true,
      {needed("model", "model"), flag("prompt", "text to go on from; empty: BOS"),
       toggle("chat", "the prompt is a user's message: the model's chat template is put around it"),
       flag("system", "with --chat: a system message before it"), flag("max-tokens", "most new tokens", "128"),
       flag("temperature", "0: always the likeliest", "0"), toggle("ids", "print token ids"), toggle("ignore-eos", "do not stop at the end token")}));
  all.push_back(command("bench generate", "attar bench generate --model M [--prompt-tokens 64] [--max-tokens 64] [--at-threads N] [--json]",
                        "time to first token, tokens/s, memory; over several lengths and numbers of threads", true,
                        {needed("model", "model"), several("prompt-tokens", "tokens read, one length or several: 64,256 (64)"),
                         several("max-tokens", "tokens written, one length or several (64)"),
                         several("at-threads", "threads while it is timed, one number or several (--threads)"),
                         flag("repeats", "measured runs", "5"), flag("warm-up", "runs before them that do not count", "1"),
                         toggle("pinned", "each thread stays on a core of its own while it is timed"), json}));
  all.push_back(command("bench train", "attar bench train --student M [--teacher M | --cache C] --batch B --seq T [--steps N] [--json]",
                        "real distillation steps on random ids", true,
                        {needed("student", "model folder or configs/models/*.yaml"), flag("teacher", "live teacher"),
                         flag("cache", "cache of a teacher's logits"), flag("batch", "rows", "16"), flag("seq", "tokens a row", "256"),
                         flag("steps", "measured steps", "20"), flag("vocab", "vocabulary, for a student from a YAML file", "4096"),
                         toggle("deterministic", "on a GPU: kernels that give the same bytes on every run"),
                         toggle("cuda-graph", "on a GPU: forward and backward pass recorded and replayed"), json}));
  all.push_back(command("bench latency", "attar bench latency [--out FILE] [--model M] [--json]",
                        "what a token costs here by shape, for searches under a limit", true,
                        {flag("out", "table to write; this machine's own if absent"),
                         flag("model", "model whose token is predicted from the table and measured"), json}));
  all.push_back(
      command("route", "attar route --small SCORES [--large SCORES] [--error 0.05] [--router router.json] [--out router.json] [--json]",
              "which requests the small model may answer alone, with a guarantee", false,
              {needed("small", "score file of the small model (an evaluate stage's scores/TASK/ARTIFACT.jsonl)"),
               flag("large", "score file of the large model"),
               flag("score", "max_probability, margin, entropy, or learned where the scores have one", "max_probability"),
               flag("error", "largest share of wrong answers among the small model's", "0.05"),
               flag("confidence", "how surely it stays below --error", "0.95"),
               flag("small-cost", "cost of the small model's answer as a share of the large one's; 0: unknown", "0"),
               flag("router", "a router made before, held against these scores instead of making one"), flag("out", "router.json to write"), json}));
  all.push_back(command("route tokens",
                        "attar route tokens --cache C --model M [--data F | --task T] [--draft 8] [--cost-ratio R] [--out FILE] [--json]",
                        "what routing token by token, or drafting for the large model, would give, from its cache", true,
                        {needed("cache", "the large model's cache (attar capture); full or top_k; a sampled one gives KL only"),
                         needed("model", "the student"), flag("data", "what the cache was captured over; where its manifest says if absent"),
                         flag("task", "task file, if it was captured over a task's rows"),
                         flag("draft", "longest draft, in tokens, that the large model checks in one call", "8"),
                         flag("cost-ratio", "a token of the student as a share of a call of the large model; 0: not known, no speed-up is said", "0"),
                         flag("rows", "only the first so many rows; 0: all", "0"), flag("out", "file of JSON to write"), json}));
  const Flag registry = flag("registry", "the portfolio's file", "registry.db");
  all.push_back(command("registry add", "attar registry add RUN_DIR [--artifact A] [--name N]", "adds a finished run's model to the portfolio", false,
                        {word("run", "folder of a run"), flag("artifact", "artifact of the report; its choice if absent"),
                         flag("name", "job that the model does; the recipe's name if absent"), registry, json}));
  all.push_back(command("registry list", "attar registry list [--name N] [--history] [--json]", "the portfolio's models, and which is in use", false,
                        {flag("name", "only this job's"), toggle("history", "who was in use when, instead"), registry, json}));
  all.push_back(command("registry compare", "attar registry compare NAME@1 NAME@2 [--json]", "two models' numbers side by side", false,
                        {word("first", "NAME@VERSION, NAME or a number"), word("second", "the other"), registry, json}));
  all.push_back(command("registry promote", "attar registry promote NAME@VERSION [--anyway]", "makes a model the one in use", false,
                        {word("model", "NAME@VERSION, NAME or a number"), toggle("anyway", "also one that missed a gate"), registry}));
  all.push_back(command("registry rollback", "attar registry rollback NAME", "back to the model that was in use before", false,
                        {word("name", "job"), registry}));
  all.push_back(command("registry lineage", "attar registry lineage NAME@VERSION [--json]", "from the data's hashes to the file's", false,
                        {word("model", "NAME@VERSION, NAME or a number"), registry, json}));
  all.push_back(command("registry recheck", "attar registry recheck --task FILE [--all] [--margin 0.01] [--json]",
                        "judges the models in use on new data; exit 3 if one has become worse", false,
                        {needed("task", "task file with the new rows"), toggle("all", "every model, not only those in use"),
                         flag("margin", "how much worse is still well, in the metric's own unit", "0"),
                         flag("task-rows", "only the first so many rows; 0: all", "0"), registry, json}));
  all.push_back(command("report", "attar report RUN_DIR", "report.html, report.md and report.json from what the stages recorded", false, {word("run", "folder of a run")}));
  all.push_back(command("inspect", "attar inspect PATH [--json]", "what a file or folder is", false, {word("path", "file or folder"), json}));
  all.push_back(command("verify", "attar verify PATH [--against M]", "whether it is whole, matches its manifest, equals a model", false,
                        {word("path", "file or folder"), flag("against", "model it must equal, element for element")}));
  all.push_back(command("clean", "attar clean RUN_DIR", "removes snapshots and intermediate artifacts", false, {word("run", "folder of a run"), toggle("dry-run", "only say what would go")}));
  all.push_back(command("completion", "attar completion bash", "what bash needs to complete tools and options: source <(attar completion bash)",
                        false, {word("shell", "bash")}));
  return all;
}

}  // namespace

const std::vector<Command>& commands() {
  static const std::vector<Command> all = table();
  return all;
}

}  // namespace attar
