#include "emu/arrays/look_up.hpp"

#include <algorithm>

#if defined(__x86_64__)
  #include <immintrin.h>
#endif

namespace halfulp {
namespace {

template <class In, class Out>
void plain_loop(const void* x, void* y, std::size_t n, const void* table) {
  const auto* from = static_cast<const In*>(x);
  const auto* results = static_cast<const Out*>(table);
  auto* to = static_cast<Out*>(y);
  for (std::size_t i = 0; i < n; ++i) to[i] = results[from[i]];
}

template <class In>
void by_output(const void* x, void* y, std::size_t bytes_out, std::size_t n, const void* table) {
  switch (bytes_out) {
    case 1: return plain_loop<In, std::uint8_t>(x, y, n, table);
    case 2: return plain_loop<In, std::uint16_t>(x, y, n, table);
    case 4: return plain_loop<In, std::uint32_t>(x, y, n, table);
    default: return plain_loop<In, std::uint64_t>(x, y, n, table);
  }
}

#if defined(__x86_64__)
// 8-bit codes to binary32, the most frequent case, by gathering from a table of 1 KiB.
template <bool streamed>
HALFULP_AVX512 void gather_loop(const std::uint8_t* x, std::uint32_t* y, std::size_t n,
                                const void* table) {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m512i at =
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i)));
    const __m512i v = _mm512_i32gather_epi32(at, table, 4);
    if constexpr (streamed)
      _mm512_stream_si512(reinterpret_cast<__m512i*>(y + i), v);
    else
      _mm512_storeu_si512(y + i, v);
  }
  if constexpr (streamed) _mm_sfence();  // other threads see these stores before what follows
  plain_loop<std::uint8_t, std::uint32_t>(x + i, y + i, n - i, table);
}
#endif

}  // namespace

void look_up(const void* x, std::size_t bytes_in, void* y, std::size_t bytes_out, std::size_t n,
             const void* table, const LoopOptions& how) {
#if defined(__x86_64__)
  if (how.level == VectorLevel::avx512 && bytes_in == 1 && bytes_out == 4) {
    const auto* from = static_cast<const std::uint8_t*>(x);
    auto* to = static_cast<std::uint32_t*>(y);
    if (4 * n < how.stream_from) return gather_loop<false>(from, to, n, table);
    const std::size_t head = std::min(n, elements_to_line(y, 4));
    gather_loop<false>(from, to, head, table);
    gather_loop<true>(from + head, to + head, n - head, table);
    return;
  }
#endif
  if (bytes_in == 1)
    by_output<std::uint8_t>(x, y, bytes_out, n, table);
  else
    by_output<std::uint16_t>(x, y, bytes_out, n, table);
}

}  // namespace halfulp
