#include "report/html.h"

// The file's bytes go into the read-only data as they are: no compiler has to read 200 KB of array.
asm(R"(
.pushsection .rodata
.hidden attar_chart_library_begin
.hidden attar_chart_library_end
.global attar_chart_library_begin
.global attar_chart_library_end
attar_chart_library_begin:
.incbin ")" ATTAR_CHART_LIBRARY R"("
attar_chart_library_end:
.popsection
)");

extern "C" {
extern const char attar_chart_library_begin[], attar_chart_library_end[];
}

namespace attar {

std::string_view chart_library() {
  return {attar_chart_library_begin, static_cast<size_t>(attar_chart_library_end - attar_chart_library_begin)};
}

}  // namespace attar
