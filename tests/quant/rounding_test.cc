#include "quant/rounding.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <barrier>
#include <cmath>
#include <thread>

#include "base/check.h"
#include "data_path.h"
#include "kernels/block_grid.h"
#include "quant/gptq.h"
#include "quant/kept_scales.h"
#include "quant/learned_rounding.h"
#include "quant/type_plan.h"
#include "stopping_group.h"

namespace attar {
namespace {

at::Tensor normal_numbers(std::vector<int64_t> shape, uint64_t seed, double deviation = 1) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return deviation * at::randn(shape, generator, at::kFloat);
}

constexpr GgmlType kEvenTypes[] = {GgmlType::q4_0, GgmlType::q4_1, GgmlType::q5_0, GgmlType::q5_1, GgmlType::q8_0, GgmlType::q2_k, GgmlType::q3_k,
                                   GgmlType::q4_k, GgmlType::q5_k, GgmlType::q6_k, GgmlType::tq1_0, GgmlType::tq2_0};

TEST(LearnedRounding, BeginsWithTheSolutionsCodes) {
  const at::Tensor weight = normal_numbers({6, 512}, 3, 0.05), inputs = normal_numbers({900, 512}, 4);
  const InverseFactor factor = inverse_factor(at::mm(inputs.t(), inputs), 900, 0.01);
  for (const GgmlType type : kEvenTypes) {
    ASSERT_TRUE(rounding_can_learn(type));
    for (const QuantizedTensor& start : {quantize_tensor(weight, type), quantize_tensor(weight, type, nullptr, Rounding::search),
                                         gptq_tensor(weight, factor, type)})
      for (const bool scales : {false, true}) {
        LearnedRounding learned(weight, start, scales);
        EXPECT_TRUE(at::equal(learned.values(), dequantize_tensor(start))) << ggml_type_info(type).name;
        EXPECT_EQ(learned.factors().defined(), scales && scales_can_learn(type)) << ggml_type_info(type).name;
      }
  }
  for (const GgmlType type : {GgmlType::iq4_nl, GgmlType::mxfp4, GgmlType::i8, GgmlType::f16, GgmlType::bf16, GgmlType::f32})
    EXPECT_FALSE(rounding_can_learn(type)) << ggml_type_info(type).name;
  EXPECT_THROW(LearnedRounding(at::full_like(weight, std::nan("")), quantize_tensor(weight, GgmlType::q4_0), false), Error);
}

/// Wherever steps lead, values are what a reader sees of the codes, codes lie beside the scales that were asked for, and a code is at most one
/// level from the nearest; a weight of zero stays zero where the grid has one.
TEST(LearnedRounding, ValuesAreTheCodes) {
  at::Tensor weight = normal_numbers({6, 512}, 3, 0.05);
  weight.slice(1, 40, 60).zero_();
  for (const GgmlType type : kEvenTypes)
    for (const bool scales : {false, true}) {
      const QuantizedTensor start = quantize_tensor(weight, type, nullptr, Rounding::search);
      LearnedRounding learned(weight, start, scales);
      const at::Tensor first = learned.values(), slopes = normal_numbers({6, 512}, 5);
      for (int step = 0; step < 40; ++step) learned.descend(learned.slopes(slopes), 0.02), learned.values();
      const at::Tensor values = learned.values();
      EXPECT_TRUE(at::equal(values, dequantize_tensor(learned.codes()))) << ggml_type_info(type).name;
      EXPECT_FALSE(at::equal(values, first)) << ggml_type_info(type).name;
      EXPECT_LE(learned.offsets().abs().max().item<float>(), 0.5f);
      const bool zero = grid_shape(type).lowest < 0;
      if (zero) { EXPECT_EQ(values.slice(1, 40, 60).abs().max().item<float>(), 0) << ggml_type_info(type).name; }
      if (!learned.factors().defined()) {
        // The scales' bytes are those of the start: its nearest codes lie beside them as beside the start's.
        EXPECT_TRUE(at::equal(round_beside_scales(weight, learned.codes()), round_beside_scales(weight, start))) << ggml_type_info(type).name;
      } else {
        const at::Tensor stored = (read_scales(start) * learned.factors()).to(at::kHalf).to(at::kFloat);
        EXPECT_TRUE(at::equal(read_scales(learned.codes()), stored)) << ggml_type_info(type).name;
        EXPECT_LE((learned.factors() - 1).abs().max().item<float>(), 0.5f);
      }
      GridScales grid;
      read_grid_scales(type, learned.codes().blocks.const_data_ptr<uint8_t>(), grid);
      const float away = (values - round_beside_scales(weight, learned.codes()))[0].slice(0, 0, 16).abs().max().item<float>();
      EXPECT_LE(away, 1.001f * std::fabs(grid.step[0]) + 1e-6f * std::fabs(grid.low[0])) << ggml_type_info(type).name;
    }
}

/// A weighted sum of the values as they would be if each weight's rounding stayed what it is: smooth, with the slopes that go straight through.
double smooth_sum(const at::Tensor& weight, const QuantizedTensor& start, const at::Tensor& shares, const at::Tensor& offsets,
                  const at::Tensor& factors, const at::Tensor& offsets_now, const at::Tensor& factors_now) {
  const GridShape shape = grid_shape(start.type);
  const int64_t rows = weight.size(0), columns = weight.size(1), bytes = ggml_type_info(start.type).bytes;
  double sum = 0;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t b = c / shape.block;
      GridScales grid;
      read_grid_scales(start.type, start.blocks[row].const_data_ptr<uint8_t>() + b * bytes, grid);
      const auto part = static_cast<size_t>(c % shape.block / shape.width);
      const auto at = [&](const at::Tensor& f, int64_t which) { return f.defined() && f.size(2) > which ? f[row][b][which].item<double>() : 1.0; };
      const double w = weight[row][c].item<double>(), step0 = grid.step[part], low0 = grid.low[part];
      const auto number = [&](double step, double low, double offset) { return (w + low) / step + offset; };
      const double before = number(step0 * at(factors_now, 0), low0 * at(factors_now, 1), offsets_now[row][c].item<double>());
      const double nearest = std::nearbyint(before), step = step0 * at(factors, 0), low = low0 * at(factors, 1);
      const bool inside = nearest >= shape.lowest && nearest <= shape.highest;
      const double end = nearest < shape.lowest ? shape.lowest : shape.highest;
      const double moved = inside ? number(step, low, offsets[row][c].item<double>()) + nearest - before : end;
      sum += shares[row][c].item<double>() * (step * moved - low);
    }
  return sum;
}

TEST(LearnedRounding, SlopesAreThoseOfTheSmoothObjective) {
  for (const GgmlType type : {GgmlType::q4_0, GgmlType::q4_1, GgmlType::q8_0, GgmlType::tq2_0, GgmlType::q2_k, GgmlType::q6_k}) {
    const int64_t columns = grid_shape(type).block * (grid_shape(type).block == 32 ? 3 : 1);
    const at::Tensor weight = normal_numbers({2, columns}, 7, 0.05), shares = normal_numbers({2, columns}, 8);
    QuantizedTensor start;
    round_beside_scales(weight, quantize_tensor(weight, type), &start);  // every weight at its nearest level: the base is the weight
    LearnedRounding learned(weight, start, true);
    learned.values();
    // Somewhere on the way, by offsets alone: factors other than 1 would be rounded by fp16.
    for (int step = 0; step < 4; ++step) {
      const at::Tensor still = learned.factors().defined() ? at::zeros_like(learned.factors()) : at::Tensor();
      learned.descend({normal_numbers({2, columns}, uint64_t(20 + step)), still}, 0.11);
    }
    learned.values();
    const LearnedRounding::Slopes slopes = learned.slopes(shares);
    const at::Tensor offsets = learned.offsets(), factors = learned.factors();
    const auto objective = [&](const at::Tensor& o, const at::Tensor& f) { return smooth_sum(weight, start, shares, o, f, offsets, factors); };
    const double h = 1e-3;
    for (const int64_t c : {int64_t{0}, int64_t{5}, columns / 2, columns - 1}) {
      at::Tensor up = offsets.clone(), down = offsets.clone();
      up[1][c] += h, down[1][c] -= h;
      const double wanted = (objective(up, factors) - objective(down, factors)) / (2 * h);
      EXPECT_NEAR(slopes.offsets[1][c].item<double>(), wanted, 1e-3 * std::fabs(wanted) + 1e-6) << ggml_type_info(type).name << " " << c;
    }
    if (!factors.defined()) continue;
    for (int64_t b = 0; b < factors.size(1); ++b)
      for (int64_t which = 0; which < factors.size(2); ++which) {
        at::Tensor up = factors.clone(), down = factors.clone();
        up[1][b][which] += h, down[1][b][which] -= h;
        const double wanted = (objective(offsets, up) - objective(offsets, down)) / (2 * h);
        EXPECT_NEAR(slopes.factors[1][b][which].item<double>(), wanted, 2e-3 * std::fabs(wanted) + 1e-5) << ggml_type_info(type).name << " " << b;
      }
  }
}

TEST(LearnedRounding, SameBitsForAnyThreads) {
  const at::Tensor weight = normal_numbers({33, 512}, 3, 0.05), slopes = normal_numbers({33, 512}, 5);
  const int before = at::get_num_threads();
  for (const GgmlType type : {GgmlType::q4_0, GgmlType::q4_1, GgmlType::q4_k}) {
    std::vector<at::Tensor> blocks;
    for (const int threads : {1, 3}) {
      at::set_num_threads(threads);
      LearnedRounding learned(weight, quantize_tensor(weight, type), true);
      for (int step = 0; step < 9; ++step) learned.values(), learned.descend(learned.slopes(slopes), 0.05);
      learned.values();
      blocks.push_back(learned.codes().blocks);
    }
    EXPECT_TRUE(at::equal(blocks[0], blocks[1])) << ggml_type_info(type).name;
  }
  at::set_num_threads(before);
}

/// A model of three layers, rows for it (the last ones padded) and types.
struct RoundedModel {
  Checkpoint model;
  TokenRows rows;
  std::map<std::string, GgmlType> types;
  std::map<std::string, QuantizedTensor> start(Rounding rounding) const {
    Checkpoint copy = model;  // tensors are replaced, not written to
    quantize_checkpoint(copy, types, {}, rounding);
    return copy.codes;
  }
};
RoundedModel model_to_round(const std::string& scheme = "q4_0", int64_t hidden = 64) {
  RoundedModel out;
  ModelSpec& spec = out.model.spec;
  spec.vocab = 96, spec.hidden = hidden, spec.head_size = 16, spec.context = 64, spec.tied = false;
  spec.layers.assign(3, LayerSpec{.ffn = 2 * hidden, .heads = hidden / 16, .kv_heads = 2});
  out.model.weights = Decoder::random(spec, 3).weights();
  for (auto& [name, tensor] : out.model.weights) tensor = tensor * 4;
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(8);
  out.rows.ids = at::randint(1, 96, {14, 24}, generator, at::kInt);
  out.rows.segments = at::zeros({14, 24}, at::kInt);
  out.rows.segments.slice(0, 10).slice(1, 15).fill_(-1);
  out.rows.learn = at::ones({14, 24}, at::kByte);
  out.rows.lengths = at::full({14}, 24, at::kInt);
  out.rows.lengths.slice(0, 10).fill_(15);
  out.rows.fingerprint = "rows";
  out.types = plan_types(spec, scheme, false, true, false).types;
  return out;
}

const LayerWalkOptions kRoundedRows{.rows = 14, .batch = 4};

/// Small layers are rounded sooner by one thread than by several that wait for each other.
struct OneThread {
  OneThread() { at::set_num_threads(1); }
  ~OneThread() { at::set_num_threads(before); }
  int before = at::get_num_threads();
};

RoundingReport rounded_model(const RoundedModel& given, const std::map<std::string, QuantizedTensor>& start, const RoundingOptions& options,
                             Checkpoint& out, ProcessGroup& group, const fs::path& kept = {}) {
  out = given.model;
  return learn_rounding(out, start, given.rows, kRoundedRows, options, group, kept);
}

/// Every layer comes nearer, none falls back, and the whole model's states with them; every weight is its codes' value.
TEST(Rounding, LayersComeNearerAndNeverFallBack) {
  const OneThread one_thread;
  const auto group = single_process();
  for (const char* scheme : {"q4_0", "q2_k"}) {
    const RoundedModel given = model_to_round(scheme, std::string(scheme) == "q2_k" ? 256 : 64);
    for (const Rounding rounding : {Rounding::ggml, Rounding::search}) {
      if (rounding == Rounding::ggml && given.model.spec.hidden > 64) continue;
      const auto start = given.start(rounding);
      Checkpoint rounded;
      const RoundingReport report = rounded_model(given, start, {.steps = 12, .rows = 6, .size = 0.06, .seed = 1}, rounded, *group);
      ASSERT_EQ(report.layers.size(), 3u);
      EXPECT_TRUE(report.not_learned.empty());
      for (const RoundedLayer& layer : report.layers) EXPECT_LT(layer.after, 0.95 * layer.before) << scheme;
      ASSERT_EQ(rounded.codes.size(), given.types.size());
      for (const auto& [name, codes] : rounded.codes) {
        EXPECT_TRUE(at::equal(rounded.weights.at(name), dequantize_tensor(codes))) << name;
        EXPECT_FALSE(rounded.weights.at(name).requires_grad()) << name;
        EXPECT_EQ(at::equal(codes.blocks, start.at(name).blocks), name == "lm_head.weight" || name == "model.embed_tokens.weight") << name;
      }
      const auto states = [&](const StateDict& weights) {
        at::NoGradGuard no_grad;
        return Decoder(given.model.spec, weights).hidden({given.rows.ids.to(at::kLong), given.rows.segments, {}, {}});
      };
      StateDict begun = given.model.weights;
      for (const auto& [name, codes] : start) begun.at(name) = dequantize_tensor(codes);
      const at::Tensor whole = states(given.model.weights);
      const double after = (states(rounded.weights) - whole).square().sum().item<double>();
      EXPECT_LT(after, 0.9 * (states(begun) - whole).square().sum().item<double>()) << scheme;
    }
    // Steps that only harm: every layer keeps the codes that it began with.
    const auto start = given.start(Rounding::search);
    Checkpoint kept;
    const RoundingReport harmed = rounded_model(given, start, {.steps = 1, .rows = 1, .size = 1, .seed = 1}, kept, *group);
    for (const RoundedLayer& layer : harmed.layers) EXPECT_LE(layer.after, layer.before);
    for (const auto& [name, codes] : start) EXPECT_TRUE(at::equal(kept.codes.at(name).blocks, codes.blocks)) << name;
  }
}

/// Grids whose levels are not even, or that have no levels, stay as they began and are named; the rest of the layer makes up for them.
TEST(Rounding, TypesThatDoNotFitAreNamed) {
  const OneThread one_thread;
  RoundedModel given = model_to_round();
  const std::map<std::string, GgmlType> odd = {{"model.layers.0.self_attn.v_proj.weight", GgmlType::iq4_nl},
                                               {"model.layers.1.mlp.up_proj.weight", GgmlType::f16},
                                               {"model.layers.2.self_attn.k_proj.weight", GgmlType::i8}};
  for (const auto& [name, type] : odd) given.types.at(name) = type;
  given.types.erase("model.layers.2.self_attn.q_proj.weight");
  const auto start = given.start(Rounding::search);
  const auto group = single_process();
  Checkpoint rounded;
  const RoundingReport report = rounded_model(given, start, {.steps = 12, .rows = 8, .size = 0.04, .seed = 1}, rounded, *group);
  ASSERT_EQ(report.not_learned.size(), odd.size());
  for (const auto& [name, type] : odd) {
    EXPECT_EQ(std::count(report.not_learned.begin(), report.not_learned.end(), name), 1) << name;
    EXPECT_TRUE(at::equal(rounded.codes.at(name).blocks, start.at(name).blocks)) << name;
  }
  for (const RoundedLayer& layer : report.layers) EXPECT_LT(layer.after, layer.before);
  const std::string free = "model.layers.2.self_attn.q_proj.weight";
  EXPECT_TRUE(at::equal(rounded.weights.at(free), given.model.weights.at(free)));
  EXPECT_FALSE(rounded.codes.count(free));
  for (const auto& [name, codes] : rounded.codes) EXPECT_TRUE(at::equal(rounded.weights.at(name), dequantize_tensor(codes))) << name;
  // Nothing to learn at all: the start.
  for (auto& [name, type] : given.types) type = GgmlType::mxfp4;
  const auto tables = given.start(Rounding::search);
  const RoundingReport none = rounded_model(given, tables, {.steps = 4}, rounded, *group);
  EXPECT_EQ(none.not_learned.size(), 3 * 7 - 1u);
  for (const RoundedLayer& layer : none.layers) EXPECT_EQ(layer.after, layer.before);
  for (const auto& [name, codes] : tables) EXPECT_TRUE(at::equal(rounded.codes.at(name).blocks, codes.blocks)) << name;
}

/// Killed in the second layer, it goes on after the first, to the same bytes; with another seed or start it begins anew.
TEST(Rounding, GoesOnAfterAKillToTheSameBytes) {
  const OneThread one_thread;
  const RoundedModel given = model_to_round();
  const auto start = given.start(Rounding::search), other_start = given.start(Rounding::ggml);
  const RoundingOptions options{.steps = 8, .rows = 6, .size = 0.05, .seed = 1};
  const TestFolder folder;
  Checkpoint expected, resumed, other;
  StoppingGroup whole, again;
  const RoundingReport wanted = rounded_model(given, start, options, expected, whole);
  StoppingGroup killed(whole.sums() / 2);
  EXPECT_THROW(rounded_model(given, start, options, other, killed, folder / "layers"), StoppingGroup::Killed);
  EXPECT_TRUE(fs::exists(folder / "layers" / "layer-0.safetensors"));
  EXPECT_FALSE(fs::exists(folder / "layers" / "layer-1.safetensors"));
  const RoundingReport report = rounded_model(given, start, options, resumed, again, folder / "layers");
  EXPECT_LT(again.sums(), whole.sums() * 3 / 4);
  ASSERT_EQ(report.layers.size(), wanted.layers.size());
  for (size_t i = 0; i < report.layers.size(); ++i) {
    EXPECT_EQ(report.layers[i].before, wanted.layers[i].before);
    EXPECT_EQ(report.layers[i].after, wanted.layers[i].after);
  }
  for (const auto& [name, codes] : expected.codes) {
    EXPECT_TRUE(at::equal(resumed.codes.at(name).blocks, codes.blocks)) << name;
    EXPECT_TRUE(at::equal(resumed.weights.at(name), expected.weights.at(name))) << name;
  }
  RoundingOptions changed = options;
  changed.seed = 2;
  StoppingGroup anew, from_another;
  rounded_model(given, start, changed, other, anew, folder / "layers");
  EXPECT_EQ(anew.sums(), whole.sums());
  EXPECT_FALSE(at::equal(other.codes.at("model.layers.0.mlp.up_proj.weight").blocks, expected.codes.at("model.layers.0.mlp.up_proj.weight").blocks));
  rounded_model(given, other_start, changed, other, from_another, folder / "layers");
  EXPECT_EQ(from_another.sums(), whole.sums());
}

/// The same seed gives the same bits, in one thread or several; what decides the order of rows is the seed alone.
TEST(Rounding, SameBitsForAnyThreads) {
  const RoundedModel given = model_to_round();
  const auto start = given.start(Rounding::search);
  const auto group = single_process();
  const int before = at::get_num_threads();
  Checkpoint one, again, more;
  at::set_num_threads(1);
  rounded_model(given, start, {.steps = 6, .seed = 4}, one, *group);
  rounded_model(given, start, {.steps = 6, .seed = 4}, again, *group);
  at::set_num_threads(3);
  rounded_model(given, start, {.steps = 6, .seed = 4}, more, *group);
  at::set_num_threads(before);
  for (const auto& [name, codes] : one.codes) {
    EXPECT_TRUE(at::equal(codes.blocks, again.codes.at(name).blocks)) << name;
    EXPECT_TRUE(at::equal(codes.blocks, more.codes.at(name).blocks)) << name;
  }
}

/// Two ranks that are threads of this test.
class PairRank : public ProcessGroup {
 public:
  struct Meeting {
    std::barrier<> gate{2};
    at::Tensor brought[2];
  };
  PairRank(Meeting& meeting, int64_t rank) : meeting_(meeting), rank_(rank) {}
  int64_t rank() const override { return rank_; }
  int64_t size() const override { return 2; }
  void all_reduce_sum(at::Tensor& tensor) override { tensor.copy_(met(tensor, [](const at::Tensor& a, const at::Tensor& b) { return a + b; })); }
  void all_gather(const at::Tensor& output, const at::Tensor& input) override {
    output.copy_(met(input, [](const at::Tensor& a, const at::Tensor& b) { return at::cat({a, b}); }));
  }
  void broadcast(at::Tensor& tensor, int64_t root) override {
    tensor.copy_(met(tensor, [root](const at::Tensor& a, const at::Tensor& b) { return root == 0 ? a : b; }));
  }
  void barrier() override { meeting_.gate.arrive_and_wait(); }
  std::function<void()> start_reduce_scatter_sum(const at::Tensor& /*output*/, const at::Tensor& /*input*/) override {
    ADD_FAILURE() << "not called by a walk";
    return [] {};
  }

 private:
  template <class Join> at::Tensor met(const at::Tensor& tensor, const Join& join) {
    meeting_.brought[rank_] = tensor.clone();
    meeting_.gate.arrive_and_wait();
    at::Tensor out = join(meeting_.brought[0], meeting_.brought[1]);
    meeting_.gate.arrive_and_wait();
    return out;
  }
  Meeting& meeting_;
  int64_t rank_;
};

/// Each rank holds half of the rows; both end with the same codes, and the error that they begin with is that of one process.
TEST(Rounding, TwoRanksEndWithTheSameCodes) {
  const OneThread one_thread;
  const RoundedModel given = model_to_round();
  const auto start = given.start(Rounding::search);
  const RoundingOptions options{.steps = 12, .rows = 6, .size = 0.05, .seed = 3};
  const auto group = single_process();
  Checkpoint alone, pair[2];
  const RoundingReport wanted = rounded_model(given, start, options, alone, *group);
  RoundingReport got[2];
  PairRank::Meeting meeting;
  const auto work = [&](int rank) {
    PairRank own(meeting, rank);
    got[rank] = rounded_model(given, start, options, pair[rank], own);
  };
  std::thread other([&] {
    const OneThread of_its_own;
    work(1);
  });
  work(0);
  other.join();
  EXPECT_NEAR(got[0].layers[0].before, wanted.layers[0].before, 1e-6 * wanted.layers[0].before);
  for (size_t i = 0; i < wanted.layers.size(); ++i) {
    EXPECT_EQ(got[0].layers[i].after, got[1].layers[i].after);
    EXPECT_LT(got[0].layers[i].after, got[0].layers[i].before);
  }
  for (const auto& [name, codes] : pair[0].codes) EXPECT_TRUE(at::equal(codes.blocks, pair[1].codes.at(name).blocks)) << name;
}

}  // namespace
}  // namespace attar
