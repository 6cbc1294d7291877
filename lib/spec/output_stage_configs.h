#pragma once
// Stages that put a model on its grid, write it and judge it.
#include <map>

#include "spec/data_config.h"
#include "spec/decide_configs.h"
#include "spec/quant_config.h"

namespace attar {

/// Statistics of a model's inputs, for pruning and quantization.
struct CalibrateConfig {
  std::string model;
  DataConfig data;
  int64_t calibration_rows = 512;
  template <class Visitor> void fields(Visitor&& field) {
    field("model", model, "a stage or a checkpoint");
    field("data", data, "calibration text");
    field("calibration_rows", calibration_rows, "rows of it");
  }
};

struct ExportConfig {
  std::string model;
  std::string format = "gguf", type;
  bool pure = false, allow_deviation = false, genai = false;
  std::vector<std::string> tensor_type;
  std::string imatrix;
  int64_t shard_bytes = int64_t{5} << 30;
  template <class Visitor> void fields(Visitor&& field) {
    field("model", model, "a stage or a checkpoint");
    field("format", format, "gguf, onnx or hf");
    field("type", type, "gguf: f32, f16, bf16 or llama-quantize's names; onnx: fp32, fp16, int8, int4; empty: the model's own codes");
    field("pure", pure, "one type throughout (gguf)");
    field("tensor_type", tensor_type, "REGEX=TYPE for tensors by name (gguf)");
    field("imatrix", imatrix, "importance matrix: a calibrate stage, or llama.cpp's file (gguf)");
    field("shard_bytes", shard_bytes, "largest safetensors file; a bigger model is sharded, with an index (hf)");
    field("genai", genai, "write the onnxruntime-genai folder too (onnx)");
    field("allow_deviation", allow_deviation, "export a tokenizer whose ids GGUF readers cannot reproduce; says where they differ");
  }
};

/// Whether a model says texts that it learned from word for word.
struct MemorizationConfig {
  int64_t rows = 0, prefix = 16, length = 16;
  template <class Visitor> void fields(Visitor&& field) {
    field("rows", rows, "training rows of the task that are tried, and as many held-out ones; 0: not measured");
    field("prefix", prefix, "tokens of a row that are given");
    field("length", length, "tokens that must then come word for word");
  }
};

/// The lengths and numbers of threads that a model's speed is measured at. Every prompt length with every answer length and every number of threads is
/// a point; the first of each list is the point whose numbers stand for the artifact.
struct RunningConfig {
  std::vector<int64_t> prompt_tokens = {32}, new_tokens = {16}, threads;
  int64_t runs = 5, warm_up = 1, load_runs = 3;
  bool pinned = true;
  template <class Visitor> void fields(Visitor&& field) {
    field("prompt_tokens", prompt_tokens, "tokens of a prompt: one number or several");
    field("new_tokens", new_tokens, "tokens that are written after it: one number or several, 2 or more");
    field("threads", threads, "numbers of threads; empty: those of the process");
    field("runs", runs, "generations of a point that count; each has a prompt of its own");
    field("warm_up", warm_up, "generations of a point before them that do not count");
    field("load_runs", load_runs, "times that the artifact is loaded again to time it; 0: not measured");
    field("pinned", pinned, "each thread stays on a core of its own while it is timed; not where there are more threads than cores to use");
  }
};

/// A running server that is asked the task's questions.
struct RuntimeConfig {
  std::string url, model, api = "auto", key_env, of;
  int64_t concurrency = 4, attempts = 6;
  double timeout = 300;
  template <class Visitor> void fields(Visitor&& field) {
    field("url", url, "the server's address (http://host:port)");
    field("model", model, "name of the model as the server lists it; empty: the only one that it has");
    field("api", api,
          "llama (llama.cpp's server, grammars), echo (completions with echo and logprobs: vLLM, llama-cpp-python), completions, chat, or auto");
    field("key_env", key_env, "name of the environment variable that holds the server's key");
    field("of", of, "artifact of this stage whose file the server runs: how often both give the same answer is measured");
    field("concurrency", concurrency, "requests at once");
    field("attempts", attempts, "tries of one request, with growing waits between them");
    field("timeout", timeout, "seconds for one answer");
  }
};

struct EvaluateConfig {
  std::vector<std::string> of;
  std::string base;
  std::map<std::string, RuntimeConfig> runtime;
  std::string long_prompts = "refuse";
  std::string text, prices;
  int64_t ctx = 512, stride = 0, text_tokens = 0, task_rows = 0;
  bool latency = true;
  RunningConfig running;
  MemorizationConfig memorization;
  std::string kv_cache = "f32", learned_score = "none";
  template <class Visitor> void fields(Visitor&& field) {
    field("of", of, "stages or checkpoints to evaluate");
    field("base", base, "stage or checkpoint that KL and agreement are measured against");
    field("runtime", runtime,
          "running servers that the task's questions go to, by name: {llama: {url: http://localhost:8080}}; each is an artifact of the report");
    field("long_prompts", long_prompts,
          "task prompts that a model's context does not hold: refuse, or shorten (their beginning is dropped, and they are counted)");
    field("text", text, "text for perplexity and KL: .txt, or rows with a field text; empty: the task's held-out rows as text");
    field("ctx", ctx, "tokens a chunk; the second half is scored (llama.cpp's protocol)");
    field("stride", stride, "instead: windows of ctx tokens that move on by so many, every token scored once; 0: llama.cpp's protocol");
    field("text_tokens", text_tokens, "use only the first so many tokens; 0: all");
    field("task_rows", task_rows, "use only the first so many test rows of the task; 0: all");
    field("latency", latency, "measure tokens/s, times to the first and to each further token and the time to load");
    field("running", running, "at which lengths of prompts and answers and numbers of threads latency is measured, and how often");
    field("memorization", memorization, "training rows that come back word for word, against held-out ones");
    field("kv_cache", kv_cache,
          "what a cache of keys and values in f16, q8_0 or q4_0 costs is measured too (KL to the same model without); f32: not");
    field(
        "learned_score", learned_score,
        "a score for routing learned from the model's hidden states on a quarter of the test rows: of the prompt's last position, mean over all; none: not learned");
    field("prices", prices, "price file (configs/prices/*.yaml): what running each artifact costs; needs latency");
  }
};

}  // namespace attar
