#pragma once
// Quantization: the grid, and how weights come to it.
#include "spec/data_config.h"
#include "spec/train_config.h"

namespace attar {

/// A type for each tensor, so that the weights fit and the model changes least.
struct BudgetConfig {
  double bits = 0;
  int64_t bytes = 0, rows = 8;
  std::vector<std::string> types = {"q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0"};
  std::string plan;
  template <class Visitor> void fields(Visitor&& field) {
    field("bits", bits, "largest mean number of bits per weight, over all tensors of the file; 0: no budget");
    field("bytes", bytes, "instead: largest number of bytes of the file's tensors; 0: no budget");
    field("types", types, "types to choose from; rows that a type's blocks do not divide get its fallback");
    field("rows", rows, "calibration rows on which the KL of each tensor and type is measured");
    field("plan", plan, "instead: a prune stage whose search chose types and widths together (search.types); nothing is measured again");
  }
};

/// Block reconstruction: offsets of the rounding, learned a decoder layer at a time.
struct RoundingConfig {
  std::string start = "search";
  int64_t steps = 200, rows = 8;
  double lr = 0;
  bool scales = true;
  template <class Visitor> void fields(Visitor&& field) {
    field("start", start, "solution whose codes and scales each layer begins with: round (ggml's), search or gptq");
    field("steps", steps, "steps of sign-gradient descent a layer");
    field("rows", rows, "calibration rows of a step");
    field("lr", lr, "first step of an offset, in levels of the grid; it falls to 0 in a line. 0: 1 / steps, which reaches half a level");
    field("scales", scales, "learn a factor of each block's scale too, where a block has one in fp16; false: scales stay those of start");
  }
};

struct QuantConfig {
  std::string model;
  std::string scheme = "q4_0", method = "ptq";
  bool embeddings = true, mix = false;
  std::string imatrix;
  BudgetConfig budget;
  int64_t calibration_rows = 128;
  double damping = 0.01;
  std::string start = "round", scales = "auto", activations = "none", masters = "none";
  double scale_lr = 0.1;
  RoundingConfig rounding;
  int64_t delay = 0;
  LoraConfig lora;
  std::string teacher;
  DataConfig data;
  LossConfig loss;
  TrainConfig train;
  QuantConfig() { train.lr = 2e-4; train.steps = 200; train.weight_decay = 0; train.warmup = 10; }
  template <class Visitor> void fields(Visitor&& field) {
    field("model", model, "a stage or a checkpoint");
    field(
        "scheme", scheme,
        "grid of the file to be written: a ggml type (q4_0, q4_k, tq2_0), a mix of llama-quantize (q4_k_m), or ONNX's int4 (blocks of 32) and int8 (a scale a row)");
    field("method", method,
          "ptq (round as ggml does), search (scales of least error), gptq (errors go to the columns not yet rounded), rounding (each layer's codes "
          "learned from its outputs) or qat (fine-tune on it)");
    field("embeddings", embeddings, "quantize the embedding and the output matrix too");
    field("mix", mix, "llama-quantize's exceptions (output matrix, first layers) for a plain type's name too; names such as q4_k_m have them anyway");
    field("imatrix", imatrix, "importance matrix: a calibrate stage, or llama.cpp's file");
    field("budget", budget, "instead of scheme: a type for each tensor, chosen by measured KL");
    field("calibration_rows", calibration_rows, "gptq and rounding: rows that go through the model, layer after layer");
    field("damping", damping, "gptq: added to the Hessian's diagonal, as a share of its mean");
    field("rounding", rounding, "rounding: how the codes of a layer are learned");
    field("start", start, "qat: solution whose codes the first forward pass has: round (ggml's), search, gptq or rounding");
    field(
        "scales", scales,
        "qat: recomputed (from the weights at each step), kept (those of start), learned (LSQ; one scale a block) or auto: recomputed after round, else kept");
    field("scale_lr", scale_lr, "qat, scales learned: their learning rate as a share of train.lr");
    field("delay", delay, "qat: steps without the grid before it comes");
    field("activations", activations,
          "qat: inputs of quantized weights rounded too: none, int8 (each token by its range, as ONNX) or q8_0 (ggml's blocks of 32)");
    field("masters", masters,
          "qat: float weights that training moved, kept too as a checkpoint masters/, for another tool to quantize: none, bf16 or f32");
    field("lora", lora, "qat: train low-rank adapters only; they are merged before the codes are written");
    field("teacher", teacher, "qat: a stage, a checkpoint or a cache; empty: the model itself before quantization");
    field("data", data, "qat: text to learn from; gptq, rounding and budget: calibration text");
    field("loss", loss, "qat: terms and weights");
    field("train", train, "qat: optimizer and schedule");
  }
};

}  // namespace attar
