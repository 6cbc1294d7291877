#include "kernels/matvec.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <tuple>

namespace attar {
namespace {

at::Tensor few_rows(const at::Tensor& x, const at::Tensor& w, int threads, FewRowsVersion version) {
  at::Tensor y = at::full({x.size(0), w.size(0)}, -7.0f);
  few_rows_product(x.size(0), w.size(0), w.size(1), x.const_data_ptr<float>(), w.const_data_ptr<float>(), w.stride(0), y.data_ptr<float>(), threads,
                   version);
  return y;
}

std::vector<FewRowsVersion> versions_here() {
  std::vector<FewRowsVersion> versions{FewRowsVersion::plain};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) versions.push_back(FewRowsVersion::avx2);
  if (__builtin_cpu_supports("avx512f")) versions.push_back(FewRowsVersion::avx512);
  return versions;
}

struct MatvecShape : testing::TestWithParam<std::tuple<int64_t, int64_t>> {};

TEST_P(MatvecShape, SameBitsForEveryVersionNumberOfThreadsAndRows) {
  at::manual_seed(8);
  const auto [N, K] = GetParam();
  const at::Tensor w = at::randn({N, K + 3}).narrow(1, 0, K);  // rows apart, not aligned
  const at::Tensor x = at::randn({kFewRows, K});
  const at::Tensor all = few_rows(x, w, 1, FewRowsVersion::plain);
  const at::Tensor exact = x.to(at::kDouble).mm(w.to(at::kDouble).t());
  EXPECT_LT((all - exact).abs().max().item<double>(), 4e-7 * static_cast<double>(8 + K));
  for (const FewRowsVersion version : versions_here())
    for (int64_t M = 1; M <= kFewRows; ++M)
      for (const int threads : {1, 2, 3})
        EXPECT_TRUE(few_rows(x.narrow(0, 0, M), w, threads, version).equal(all.narrow(0, 0, M)))
            << static_cast<int>(version) << " " << M << " " << threads;
}
INSTANTIATE_TEST_SUITE_P(Shapes, MatvecShape,
                         testing::Values(std::tuple{1, 1}, std::tuple{3, 16}, std::tuple{37, 33}, std::tuple{130, 257}, std::tuple{64, 15},
                                         std::tuple{5, 2048}));

TEST(Matvec, PicksAVersionThatRunsHere) {
  EXPECT_EQ(best_few_rows_version(), versions_here().back());
}

}  // namespace
}  // namespace attar
