#pragma once
// Stages that put a model on its grid, write it and judge it.
#include "spec/data_config.h"
#include "spec/train_config.h"

namespace attar {

struct QuantConfig {
  std::string model;
  std::string scheme = "q4_0", method = "ptq";
  bool embeddings = true;
  std::string teacher;
  DataConfig data;
  LossConfig loss;
  TrainConfig train;
  QuantConfig() { train.lr = 2e-4; train.steps = 200; train.weight_decay = 0; train.warmup = 10; }
  template <class Visitor> void fields(Visitor&& field) {
    field("model", model, "a stage or a checkpoint");
    field("scheme", scheme, "grid of the file to be written: q4_0 or q8_0");
    field("method", method, "ptq (round once) or qat (fine-tune through the grid, then keep those very codes)");
    field("embeddings", embeddings, "quantize the embedding and the output matrix too");
    field("teacher", teacher, "qat: a stage, a checkpoint or a cache; empty: the model itself before quantization");
    field("data", data, "qat: text to learn from");
    field("loss", loss, "qat: terms and weights");
    field("train", train, "qat: optimizer and schedule");
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
    field("imatrix", imatrix, "importance matrix, llama.cpp's file (gguf)");
    field("shard_bytes", shard_bytes, "largest safetensors file; a bigger model is sharded, with an index (hf)");
    field("genai", genai, "write the onnxruntime-genai folder too (onnx)");
    field("allow_deviation", allow_deviation, "export a tokenizer whose ids GGUF readers cannot reproduce; says where they differ");
  }
};

struct EvaluateConfig {
  std::vector<std::string> of;
  std::string base;
  std::string text;
  int64_t ctx = 512, stride = 0, text_tokens = 0, task_rows = 0;
  bool latency = true;
  template <class Visitor> void fields(Visitor&& field) {
    field("of", of, "stages or checkpoints to evaluate");
    field("base", base, "stage or checkpoint that KL and agreement are measured against");
    field("text", text, "text for perplexity and KL: .txt, or rows with a field text; empty: the task's held-out rows as text");
    field("ctx", ctx, "tokens a chunk; the second half is scored (llama.cpp's protocol)");
    field("stride", stride, "instead: windows of ctx tokens that move on by so many, every token scored once; 0: llama.cpp's protocol");
    field("text_tokens", text_tokens, "use only the first so many tokens; 0: all");
    field("task_rows", task_rows, "use only the first so many test rows of the task; 0: all");
    field("latency", latency, "measure tokens/s and time to first token");
  }
};

/// What a gate demands of one number of the report.
struct GateConfig {
  std::optional<double> at_least, at_most;
  template <class Visitor> void fields(Visitor&& field) {
    field("at_least", at_least, "the number must be this or more");
    field("at_most", at_most, "the number must be this or less");
  }
};

}  // namespace attar
