// What pruning costs beside the work it cannot do without. Interleaved pairs, medians of processor time (surgery: of wall time too).
//   prune_speed calibrate [PAIRS]        the diagonal calibration pass against the bare forward of the same rows: share of its speed
//   prune_speed walk [PAIRS]             the layer-wise walk that sums every linear's Hessian against the bare forward: times its time
//   prune_speed surgery FOLDER [PAIRS]   load, cut and save a model of FOLDER's making (1 GB) against copying its files: times its time
#include <c10/core/GradMode.h>
#include <ATen/ATen.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <iostream>

#include "base/check.h"
#include "calibrate/activations.h"
#include "calibrate/gram.h"
#include "calibrate/layer_walk.h"
#include "data/source.h"
#include "device/device.h"
#include "prune/prune.h"
#include "prune/surgery.h"

namespace {

using namespace attar;

struct Times {
  double wall = 0, processor = 0;
};

Times timed(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  const std::clock_t ticks = std::clock();
  work();
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(),
          static_cast<double>(std::clock() - ticks) / CLOCKS_PER_SEC};
}

double middle(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double least(const std::vector<double>& values) { return *std::min_element(values.begin(), values.end()); }

/// Runs both in turns and prints the medians and the ratio of the second to the first; of the least times too, because what a page of memory costs
/// varies several-fold on shared machines.
void compare(const char* first_name, const std::function<void()>& first, const char* second_name, const std::function<void()>& second, int pairs) {
  std::vector<double> wall[2], processor[2], ratios, wall_ratios;
  for (int pair = -1; pair < pairs; ++pair) {
    const Times a = timed(first), b = timed(second);
    if (pair < 0) continue;
    wall[0].push_back(a.wall), wall[1].push_back(b.wall), processor[0].push_back(a.processor), processor[1].push_back(b.processor);
    ratios.push_back(b.processor / a.processor), wall_ratios.push_back(b.wall / a.wall);
  }
  std::cout << first_name << " " << middle(wall[0]) << " s wall, " << middle(processor[0]) << " s processor; " << second_name << " "
            << middle(wall[1]) << " s wall, " << middle(processor[1]) << " s processor; ratio of processor time " << middle(ratios)
            << ", of wall time " << middle(wall_ratios) << ", of the least processor times " << least(processor[1]) / least(processor[0])
            << std::endl;
}

ModelSpec bench_spec(int64_t hidden, size_t layers) {
  ModelSpec spec;
  spec.vocab = 4096, spec.hidden = hidden, spec.head_size = 64, spec.context = 256, spec.tied = true;
  spec.layers.assign(layers, LayerSpec{.ffn = hidden * 8 / 3 / 32 * 32, .heads = hidden / 64, .kv_heads = std::max<int64_t>(1, hidden / 128)});
  return spec;
}

TokenRows bench_rows(int64_t rows, int64_t seq, int64_t vocab) {
  TokenRows out;
  out.ids = at::randint(0, vocab, {rows, seq}, at::kInt);
  out.learn = at::ones({rows, seq}, at::kByte);
  out.segments = at::zeros({rows, seq}, at::kInt);
  out.lengths = at::full({rows}, seq, at::kInt);
  out.fingerprint = "bench";
  return out;
}

void forward(const Decoder& model, const TokenRows& rows, int64_t batch) {
  at::NoGradGuard no_grad;
  for (int64_t first = 0; first < rows.rows(); first += batch) {
    std::vector<int64_t> numbers;
    for (int64_t r = first; r < std::min(first + batch, rows.rows()); ++r) numbers.push_back(r);
    const Batch part = make_batch(rows, numbers);
    model.hidden({part.at("ids"), part.at("segments"), {}, {}});
  }
}

void calibrate(int pairs) {
  Decoder model = Decoder::random(bench_spec(512, 6), 1);
  const TokenRows rows = bench_rows(32, 256, 4096);
  const auto group = single_process();
  compare("forward", [&] { forward(model, rows, 16); }, "calibration", [&] { collect_activations(model, rows, {.rows = 32}, *group); }, pairs);
  std::cout << "speed of the calibration pass as a share of the forward's is 1 / ratio" << std::endl;
}

void walk(int pairs) {
  Decoder model = Decoder::random(bench_spec(512, 6), 1);
  const TokenRows rows = bench_rows(32, 256, 4096);
  const auto group = single_process();
  const auto hessians = [&] {
    LayerWalk walk(model, rows, {.rows = 32}, *group);
    for (; walk.layer() < walk.layers(); walk.advance())
      for (const std::vector<std::string>& names : input_groups(walk.layer())) {
        const int64_t in = model.weights().at(names[0]).size(1);
        GramSum hessian(in);
        walk.show(names[0], [&](const at::Tensor& x) { hessian.add(x); });
        hessian.take(*group);
      }
  };
  compare("forward", [&] { forward(model, rows, 4); }, "Hessian walk", hessians, pairs);
}

/// Into a new file, as the surgery writes one: pages of a file that was just cut short are cheaper to get than others.
void copy_file_bytes(const fs::path& from, const fs::path& to) {
  fs::remove(to);
  fs::copy_file(from, to);
  const int descriptor = ::open(to.c_str(), O_RDONLY);
  ::fsync(descriptor);
  ::close(descriptor);
}

void surgery(const fs::path& folder, int pairs) {
  const fs::path whole = folder / "whole", copy = folder / "copy", small = folder / "small";
  for (const fs::path& path : {whole, copy, small}) make_folder(path);
  Checkpoint model;
  model.spec = bench_spec(1536, 10);
  model.weights = Decoder::random(model.spec, 1).weights();
  save_checkpoint(model, whole);
  std::cout << human_bytes(static_cast<double>(fs::file_size(whole / "model.safetensors"))) << std::endl;
  model = {};
  PruneConfig config;
  config.criterion = "magnitude", config.ffn = 0.75, config.hidden = 0.75;
  const auto group = single_process();
  const Saliency saliency = magnitude_saliency(load_checkpoint(whole));
  const auto cut = [&] {
    fs::remove(small / "model.safetensors");
    Json report;
    save_checkpoint(prune(load_to_cut(whole), config, {}, saliency, *group, report), small);
  };
  compare("copy", [&] { copy_file_bytes(whole / "model.safetensors", copy / "model.safetensors"); }, "surgery", cut, pairs);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const auto pairs = [&](int place) { return argc > place ? std::atoi(argv[place]) : 5; };
  try {
    set_up_machine(0);
    if (what == "calibrate") calibrate(pairs(2));
    else if (what == "walk") walk(pairs(2));
    else if (what == "surgery" && argc > 2) surgery(argv[2], pairs(3));
    else return std::cerr << "prune_speed calibrate|walk [PAIRS], or surgery FOLDER [PAIRS]\n", 2;
  } catch (const std::exception& error) {
    return std::cerr << "error: " << error.what() << "\n", 1;
  }
}
