#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace attar {

/// Turns lines into text on `threads` threads (0: one for each core) and writes the results in the lines' order: the same bytes for any number of
/// threads. Memory: a few hundred KiB of lines and their results for each thread, however long the input.
/// `next` gives a line or false at the end; `work(line, number, out)` appends the result of line `number` (from 1); neither `next` nor `write` is
/// called by two threads at once. The first line whose work throws ends it: what came before is written, then the exception goes on.
void work_lines(const std::function<bool(std::string&)>& next, int64_t threads,
                const std::function<void(const std::string&, int64_t, std::string&)>& work, const std::function<void(std::string_view)>& write);

}  // namespace attar
