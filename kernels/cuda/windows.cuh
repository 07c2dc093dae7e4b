// Rows that begin at any element, moved by accesses of 16 bytes that are aligned in memory, through
// shared memory.
//
// A warp works on chunks of 32·W neighbouring elements of the row, W elements being 16 bytes. A
// chunk lies in 33 granules of 16 aligned bytes at most; its window is an image of these in shared
// memory, where any element can be had.
//
//   granules   |....abcd|efghijkl|mnop....|      W = 8; the row begins at element s = 4 of a
//   granule window      ....abcd efghijkl mnop....
//
// Nothing is read or written but the row. In: the granule in which the row begins comes element by
// element, as it may have something else before it; every other one by a copy that takes as many of
// its bytes as the row has (cp.async's src-size). Out: whole granules of one chunk by 16 bytes;
// what chunks or rows share, element by element.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cuda/packs.cuh"

namespace halfulp::kernels::cuda {

constexpr int window_granules = 33;

#ifdef __CUDACC__
// 16 bytes from global to shared memory; not waited for.
__device__ inline void fetch_whole(void* shared, const void* global) {
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global));
}
// At most `bytes` of 16 from global to shared memory, zeros for the rest; not waited for.
__device__ inline void fetch_part(void* shared, const void* global, int bytes) {
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes));
}
__device__ inline void commit_fetches() {
  asm volatile("cp.async.commit_group;");
}
__device__ inline void wait_for_fetches() {
  asm volatile("cp.async.wait_group 0;" ::: "memory");
}
#else  // tests/device/on_processor: at once
inline void fetch_part(void* shared, const void* global, int bytes) {
  on_processor::readable.look(global, bytes);
  std::memset(shared, 0, 16);
  std::memcpy(shared, global, static_cast<std::size_t>(bytes));
}
inline void fetch_whole(void* shared, const void* global) {
  fetch_part(shared, global, 16);
}
inline void commit_fetches() {}
inline void wait_for_fetches() {}
#endif

// The chunks of a warp: chunk k begins at element first + k·step of the row, multiples of 32·W, and
// its window is `apart` granules beyond that of chunk k − 1.
struct WindowedChunks {
  uint4* windows;
  int first, step, apart;

  __device__ uint4* window(int k) const { return windows + k * apart; }
};

// All lanes of a warp call each function. P: chunks, at most 32.
template <class T>
class Ragged {
 public:
  static constexpr int W = pack_size<T>, size = static_cast<int>(sizeof(T)), chunk = 32 * W;
  using Code = CodeOf<T>;

  __device__ Ragged(const T* row, int n)
      : row_(reinterpret_cast<Code*>(const_cast<T*>(row))),
        n_(n),
        s_(static_cast<int>(reinterpret_cast<std::uintptr_t>(row) % 16 / sizeof(T))) {}

  // Begins to fetch the chunks, but for the granule in which the row begins: put_begin puts there
  // what `begin` has read.
  template <int P>
  __device__ void fetch(const WindowedChunks& c, int lane) const {
    const Code* const at = row_ - s_ + c.first + lane * W;
    const int left = n_ + s_ - c.first - lane * W;
#pragma unroll
    for (int k = 0; k < P; ++k) {
      if (k == 0 && c.first == 0 && lane == 0 && s_ != 0) continue;
      if (left - k * c.step >= W)
        fetch_whole(c.window(k) + lane, at + k * c.step);
      else if (left > k * c.step)
        fetch_part(c.window(k) + lane, at + k * c.step, (left - k * c.step) * size);
    }
    // Granule 32 of chunk k by lane k, as far as it is that chunk's.
    const int begin = c.first + lane * c.step + chunk, rest = min(n_ + s_ - begin, s_);
    if (lane < P && rest > 0) fetch_part(c.window(lane) + 32, row_ - s_ + begin, rest * size);
  }
  __device__ unsigned begin(int lane) const {
    const int at = lane - s_;
    return s_ != 0 && lane < W && at >= 0 && at < n_ ? row_[at] : 0;
  }
  __device__ void put_begin(uint4* window, unsigned value, int lane) const {
    if (s_ != 0 && lane < W) reinterpret_cast<Code*>(window)[lane] = static_cast<Code>(value);
  }

  // Element i of a chunk in its window.
  __device__ Code* in(uint4* window, int i) const {
    return reinterpret_cast<Code*>(window) + s_ + i;
  }
  // The lane's pack of a chunk: elements first + W·lane … + W − 1, zeros beyond the row.
  __device__ Raw pack(const uint4* window, int first, int lane) const {
    const auto* const granules = reinterpret_cast<const Raw*>(window);
    Raw raw = granules[lane];
    if (s_ != 0) raw = part_of_two(raw, granules[lane + 1], s_);
    if (first + chunk > n_) keep_first(raw, n_ - first - lane * W);
    return raw;
  }

  // Where a lane's pack of results goes, for flush with packs: granule i is a part of places i and
  // i + 1.
  __device__ static Raw& place_of_pack(uint4* window, int lane) {
    return reinterpret_cast<Raw*>(window)[lane + 1];
  }

  // Writes what windows hold to the row, one of results: elements at in(…), or packs at their
  // places.
  template <int P, bool packs>
  __device__ void flush(const WindowedChunks& c, int lane) const {
    Code* const at = row_ - s_ + c.first + lane * W;
    const int left = n_ + s_ - c.first - lane * W;
    const bool is_own = lane != 0 || s_ == 0;  // no other chunk has a part of the lane's granule
#pragma unroll
    for (int k = 0; k < P; ++k) {
      const int count = left - k * c.step;
      if (!is_own || count <= 0) continue;
      const auto* const granules = reinterpret_cast<const Raw*>(c.window(k));
      Raw raw;
      if constexpr (packs)
        raw =
            s_ == 0 ? granules[lane + 1] : part_of_two(granules[lane], granules[lane + 1], W - s_);
      else
        raw = granules[lane];
      if (count >= W) {
        __stcs(reinterpret_cast<uint4*>(at + k * c.step),
               uint4{raw.words[0], raw.words[1], raw.words[2], raw.words[3]});
      } else {  // the row's last one
#pragma unroll
        for (int j = 0; j < W; ++j)
          if (j < count)
            at[k * c.step + j] = static_cast<Code>(raw.words[j * size / 4] >> (j * size % 4 * 8));
      }
    }
    // Element j of granule 0 or, where that belongs to the chunk before, of granule 32, of chunk k.
    const int j = lane % W, place = j >= s_ ? j : chunk + j;
#pragma unroll
    for (int base = 0; base < P; base += 32 / W) {
      const int k = base + lane / W, first = c.first + k * c.step;
      if (s_ != 0 && k < P && place < n_ + s_ - first)
        row_[first - s_ + place] =
            reinterpret_cast<const Code*>(c.window(k))[packs ? W + place - s_ : place];
    }
  }

 private:
  // W elements from element `by` on of two packs, 0 < by < W.
  __device__ static Raw part_of_two(const Raw& a, const Raw& b, int by) {
    constexpr int per_word = 4 / size;
    const int words = by / per_word;
    unsigned w[8];
#pragma unroll
    for (int m = 0; m < 4; ++m) w[m] = a.words[m], w[4 + m] = b.words[m];
#pragma unroll
    for (int m = 0; m < 6; ++m) w[m] = (words & 2) != 0 ? w[m + 2] : w[m];
#pragma unroll
    for (int m = 0; m < 5; ++m) w[m] = (words & 1) != 0 ? w[m + 1] : w[m];
    if constexpr (size == 2) {
      const unsigned how = (by & 1) != 0 ? 0x5432 : 0x3210;
#pragma unroll
      for (int m = 0; m < 4; ++m) w[m] = __byte_perm(w[m], w[m + 1], how);
    }
    return {w[0], w[1], w[2], w[3]};
  }
  __device__ static void keep_first(Raw& raw, int count) {
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      if constexpr (size == 4)
        raw.words[m] = m < count ? raw.words[m] : 0;
      else
        raw.words[m] &= 2 * m + 1 < count ? 0xffffffffu : 2 * m < count ? 0xffffu : 0;
    }
  }

  Code* row_;
  int n_, s_;
};

}  // namespace halfulp::kernels::cuda
