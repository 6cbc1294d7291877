#pragma once
#include "model/decoder.h"
#include "spec/latency_table.h"
#include "base/files.h"

namespace attar {

/// Measures this machine with as many threads as are set: linears of every pair of widths on one token, weights read as in a model larger than the
/// caches; and what a small decoder's layers and tokens cost besides. float32 on the CPU, attar's own decoder. A few seconds.
LatencyTable measure_latency(const std::vector<int64_t>& widths = {64, 128, 256, 512, 1024, 2048});

/// Milliseconds of a token after 64 others, undisturbed: the lower quartile.
double measure_token(const Decoder& model, int64_t repeats);

/// The table in `given`; empty: this machine's own (latency.json in attar's folder of the user), measured and kept if it is not there or another
/// machine's. A given table of another machine is used, with a warning.
LatencyTable latency_table(const fs::path& given);
fs::path own_latency_file();

}  // namespace attar
