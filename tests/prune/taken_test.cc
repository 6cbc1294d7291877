#include "prune/taken.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "data_path.h"
#include "model/decoder.h"
#include "prune/surgery.h"

namespace attar {
namespace {

at::Tensor every_third(int64_t size) { return at::arange(0, size, 3, at::kLong); }

/// One pass gives what two selections and a product in float64 give, bit for bit, whatever is selected.
TEST(Taken, EqualsSelectionsAndAProduct) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(4);
  for (const at::ScalarType type : {at::kFloat, at::kHalf, at::kDouble})
    for (const bool by_row : {false, true})
      for (const bool by_column : {false, true})
        for (const double factor : {1.0, 0.37}) {
          const at::Tensor matrix = at::randn({301, 260}, generator, at::kFloat).to(type);
          const at::Tensor rows = by_row ? every_third(301) : at::Tensor(), columns = by_column ? every_third(260) : at::arange(260, at::kLong);
          at::Tensor expected = by_row ? matrix.index_select(0, rows) : matrix;
          expected = expected.index_select(1, columns);
          if (factor != 1) expected = (expected.to(at::kDouble) * factor).to(type);
          EXPECT_TRUE(at::equal(taken(matrix, rows, columns, factor), expected)) << by_row << by_column << factor;
        }
  const at::Tensor vector = at::randn({50}, generator, at::kFloat);
  EXPECT_TRUE(at::equal(taken(vector, every_third(50), {}), vector.index_select(0, every_third(50))));
  EXPECT_TRUE(at::equal(taken(vector, {}, {}, 2.5), vector * 2.5));
}

TEST(Taken, WholeIsTheTensorItself) {
  const at::Tensor matrix = at::ones({8, 4});
  EXPECT_TRUE(taken(matrix, at::arange(8, at::kLong), at::arange(4, at::kLong)).is_same(matrix));
}

/// A cut of what lies in the file is a cut of what was loaded, from float32 and from half floats; the file stays as it was.
TEST(LoadToCut, GivesWhatLoadingGives) {
  Checkpoint model;
  model.spec.vocab = 50, model.spec.hidden = 32, model.spec.head_size = 8, model.spec.context = 32;
  model.spec.layers.assign(2, LayerSpec{.ffn = 64, .heads = 4, .kv_heads = 2});
  model.weights = Decoder::random(model.spec, 5).weights();
  for (const at::ScalarType type : {at::kFloat, at::kHalf, at::kBFloat16}) {
    const TestFolder folder;
    save_checkpoint(model, folder.path(), type);
    Kept kept = kept_whole(model.spec);
    kept.hidden = every_third(32);
    kept.layers[1].ffn = every_third(64);
    const Checkpoint expected = cut(load_checkpoint(folder.path()), kept), got = cut(load_to_cut(folder.path()), kept);
    ASSERT_EQ(got.weights.size(), expected.weights.size());
    for (const auto& [name, tensor] : expected.weights) {
      EXPECT_EQ(got.weights.at(name).scalar_type(), at::kFloat);
      EXPECT_TRUE(at::equal(got.weights.at(name), tensor)) << name;
    }
  }
}

}  // namespace
}  // namespace attar
