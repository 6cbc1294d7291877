// An importance matrix, both of llama.cpp's forms.
#include "formats/imatrix.h"
#include "fuzz.h"

using namespace attar;

ATTAR_FUZZ_TARGET {
  return fuzz_input(size, 64, [&] {
    const Imatrix matrix = read_imatrix(fuzz_file("imatrix.dat", fuzz_text(data, size)));
    for (const auto& [name, means] : matrix.means)
      for (const float mean : means) expect(mean >= 0 && mean <= 3.4e38f, "a mean square that is none");
  });
}
