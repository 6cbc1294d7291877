#include "export/pieces.h"

#include <atomic>
#include <exception>

#include "base/signals.h"

namespace attar {

void for_all_pieces(int64_t count, const std::function<void(int64_t)>& work) {
  std::atomic<int64_t> failed{count};
  std::exception_ptr error;
#pragma omp parallel for schedule(dynamic)
  for (int64_t i = 0; i < count; ++i) {
    if (i > failed.load()) continue;  // nothing before a failure is left out, so that the first one is found
    try {
      stop_if_asked();
      work(i);
    } catch (...) {
#pragma omp critical(attar_pieces)
      if (i < failed.load()) {
        failed = i;
        error = std::current_exception();
      }
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace attar
