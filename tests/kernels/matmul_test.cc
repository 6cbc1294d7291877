#include "kernels/matmul.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <tuple>

#include "kernels/matmul_tiles.h"

namespace attar {
namespace {

MatrixView matrix_view(const at::Tensor& t) { return {t.const_data_ptr<float>(), t.stride(0), t.stride(1)}; }

at::Tensor random_matrix(int64_t rows, int64_t columns, bool transposed) {
  return transposed ? at::randn({columns, rows}).t() : at::randn({rows, columns});
}

at::Tensor tiles_product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& before, bool add, int threads) {
  at::Tensor out = before.clone();
  matrix_product(a.size(0), b.size(1), a.size(1), matrix_view(a), matrix_view(b), out.data_ptr<float>(), out.stride(0), add, threads);
  return out;
}

struct MatmulShape : testing::TestWithParam<std::tuple<int64_t, int64_t, int64_t>> {};

TEST_P(MatmulShape, EqualsFloat64WithAnyLayout) {
  if (!matrix_product_runs()) GTEST_SKIP() << "needs AVX-512";
  at::manual_seed(5);
  const auto [M, N, K] = GetParam();
  for (const bool left : {false, true})
    for (const bool right : {false, true})
      for (const bool add : {false, true}) {
        const at::Tensor a = random_matrix(M, K, left), b = random_matrix(K, N, right), before = at::randn({M, N});
        const at::Tensor exact = a.to(at::kDouble).mm(b.to(at::kDouble)) + (add ? before.to(at::kDouble) : at::zeros({M, N}, at::kDouble));
        const at::Tensor out = tiles_product(a, b, before, add, 2);
        // Partial sums of K products of size 1 are of size sqrt K, and there are K of them to round.
        EXPECT_LT((out - exact).abs().max().item<double>(), 4e-7 * static_cast<double>(8 + K)) << left << right << add;
        EXPECT_TRUE(out.equal(tiles_product(a, b, before, add, 1))) << "depends on the number of threads";
      }
}
INSTANTIATE_TEST_SUITE_P(Shapes, MatmulShape,
                         testing::Values(std::tuple{1, 1, 1}, std::tuple{12, 32, 16}, std::tuple{13, 33, 17}, std::tuple{100, 70, 300},
                                         std::tuple{37, 4130, 19}, std::tuple{300, 64, 513}, std::tuple{5, 40, 256}));

TEST(Matmul, RowsDoNotDependOnTheirNumber) {
  at::manual_seed(6);
  const at::Tensor a = at::randn({200, 96}), b = at::randn({80, 96}).t();
  at::Tensor all = at::empty({200, 80}), some = at::empty({17, 80});
  matmul_into(all, a, b);
  for (const int64_t first : {0, 1, 7, 183}) {
    matmul_into(some, a.narrow(0, first, 17), b);
    if (matrix_product_is_quickest()) {
      EXPECT_TRUE(some.equal(all.narrow(0, first, 17))) << first;
    }
    EXPECT_TRUE(some.allclose(all.narrow(0, first, 17), 1e-5, 1e-5)) << first;
  }
}

TEST(Matmul, WritesIntoAPartOfAWiderMatrix) {
  at::manual_seed(7);
  const at::Tensor a = at::randn({40, 128}), b = at::randn({128, 48});
  at::Tensor wide = at::full({40, 64}, 3.0f), part = wide.narrow(1, 8, 48);
  matmul_into(part, a, b);
  EXPECT_TRUE(part.allclose(a.mm(b), 1e-5, 1e-4));
  matmul_into(part, a, b, true);
  EXPECT_TRUE(part.allclose(2 * a.mm(b), 1e-5, 1e-4));
  EXPECT_TRUE(wide.narrow(1, 0, 8).eq(3).all().item<bool>() && wide.narrow(1, 56, 8).eq(3).all().item<bool>());
}

TEST(Matmul, NothingToSumIsZero) {
  if (!matrix_product_runs()) GTEST_SKIP() << "needs AVX-512";
  at::Tensor out = at::full({3, 5}, 2.0f);
  matrix_product(3, 5, 0, {nullptr, 1, 1}, {nullptr, 1, 1}, out.data_ptr<float>(), 5, true, 1);
  EXPECT_TRUE(out.eq(2).all().item<bool>());
  matrix_product(3, 5, 0, {nullptr, 1, 1}, {nullptr, 1, 1}, out.data_ptr<float>(), 5, false, 1);
  EXPECT_TRUE(out.eq(0).all().item<bool>());
}

TEST(Matmul, OtherTypesAreLibTorchs) {
  const at::Tensor a = at::randn({20, 90}, at::kDouble), b = at::randn({90, 50}, at::kDouble);
  at::Tensor out = at::empty({20, 50}, at::kDouble);
  matmul_into(out, a, b);
  EXPECT_TRUE(out.equal(a.mm(b)));
}

}  // namespace
}  // namespace attar
