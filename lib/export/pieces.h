#pragma once
#include <cstdint>
#include <functional>

namespace attar {

/// work(i) for every i in [0, count), on all threads, roughly in order. Where pieces fail, the error of the first of them is thrown, the same with
/// any number of threads. Stops with Stopped where a signal asks for it.
void for_all_pieces(int64_t count, const std::function<void(int64_t)>& work);

}  // namespace attar
