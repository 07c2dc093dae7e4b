// kernels/cuda/warp_integers.cuh on a processor, which has the words; written from the PTX ISA's
// pictures of fragments. An address of shared memory is an offset.
#pragma once

#include "warp_s8.h"

namespace halfulp::kernels::cuda {

using Word = std::uint32_t;

inline std::byte* launched_memory() {
  return on_processor::launched_memory();
}
inline Word launched_address() {
  return 0;
}

template <std::size_t bytes>
void copy_some_ahead(Word to, const void* from, bool inside) {
  std::byte* const place = launched_memory() + to;
  on_processor::require_multiple(place, bytes, "cp.async to");
  on_processor::require_multiple(from, bytes, "cp.async from");
  on_processor::Copies::of_thread().add({place, inside ? from : nullptr, bytes});
}
inline void copy_ahead(Word to, const void* from, bool inside) {
  copy_some_ahead<16>(to, from, inside);
}
inline void copy_word_ahead(Word to, const void* from, bool inside) {
  copy_some_ahead<4>(to, from, inside);
}
inline void copies_close() {
  on_processor::Copies::of_thread().close();
}
template <int N>
void copies_wait() {
  on_processor::Copies::of_thread().wait(N);
}

using Line = std::array<std::uint8_t, 16>;

// Every lane reads its line when it comes: nobody can have gone on to overwrite it.
inline std::array<Line, 32> shown_lines(Word line) {
  const std::byte* const place = launched_memory() + line;
  on_processor::require_multiple(place, 16, "ldmatrix");
  Line mine;
  std::memcpy(mine.data(), place, 16);
  return on_processor::Block::current()->exchange(mine);
}
inline void load_matrices(Word (&r)[4], Word line) {
  const auto lines = shown_lines(line);
  const unsigned lane = threadIdx.x % 32;
  for (unsigned i = 0; i < 4; ++i)
    std::memcpy(&r[i], lines[8 * i + lane / 4].data() + lane % 4 * 4, 4);
}
inline void load_matrices_transposed(Word (&r)[4], Word line) {
  const auto lines = shown_lines(line);
  const unsigned lane = threadIdx.x % 32;
  for (unsigned i = 0; i < 4; ++i) {
    std::uint16_t pair[2];
    for (unsigned j = 0; j < 2; ++j)
      std::memcpy(&pair[j], lines[8 * i + 2 * (lane % 4) + j].data() + lane / 4 * 2, 2);
    r[i] = pair[0] | Word{pair[1]} << 16;
  }
}

inline void multiply_bytes(Word (&d)[4], const Word (&a)[4], const Word (&b)[2]) {
  struct Operands {
    Word a[4], b[2];
  };
  const auto lanes =
      on_processor::Block::current()->exchange(Operands{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
  const unsigned lane = threadIdx.x % 32;
  const auto byte = [](Word w, unsigned i) {
    return static_cast<std::int8_t>(static_cast<std::uint8_t>(w >> (8 * i)));
  };
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    for (unsigned k = 0; k < 32; ++k) {
      const unsigned owner = k % 16 / 4, high = k / 16;
      const Word x = lanes[row % 8 * 4 + owner].a[row / 8 + 2 * high];
      const Word y = lanes[column * 4 + owner].b[high];
      d[i] += static_cast<Word>(byte(x, k % 4) * byte(y, k % 4));
    }
  }
}

}  // namespace halfulp::kernels::cuda
