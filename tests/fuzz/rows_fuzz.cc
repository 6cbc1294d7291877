// Rows of data: .jsonl and .csv, plain and zstd (by the first byte).
#include "data/row_reader.h"
#include "fuzz.h"

using namespace attar;

ATTAR_FUZZ_TARGET {
  if (size == 0) return 0;
  // zstd makes 10^4 times as much of a byte; a line, a buffer and the window that a frame declares (128 MiB at most, RFC 8878 3.1.1.1.2) are held.
  const bool packed = (data[0] & 2) != 0;
  const char* name = packed ? (data[0] & 1 ? "rows.csv.zst" : "rows.jsonl.zst") : data[0] & 1 ? "rows.csv" : "rows.jsonl";
  return fuzz_input(size, packed ? 1 << 20 : 512, [&] {
    RecordReader reader(fuzz_file(name, fuzz_text(data + 1, size - 1)));
    Json record;
    for (int64_t rows = 0; rows < 10000 && reader.next(record); ++rows)
      for (const auto& [field, text] : reader.texts(record)) expect(reader.text(record, field) == text, "two texts of one field");
  }, int64_t{packed ? 160 : 16} << 20);
}
