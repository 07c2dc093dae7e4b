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

// All lanes of a warp call each function, with `first` the index in the row of the chunk's first
// element, a multiple of 32·W.
template <class T>
class Ragged {
 public:
  static constexpr int W = pack_size<T>, size = static_cast<int>(sizeof(T)), chunk = 32 * W;
  using Code = CodeOf<T>;

  __device__ Ragged(const T* row, int n)
      : row_(reinterpret_cast<Code*>(const_cast<T*>(row))),
        n_(n),
        s_(static_cast<int>(reinterpret_cast<std::uintptr_t>(row) % 16 / sizeof(T))) {}

  // Element i of the chunk in its window.
  __device__ Code* in(uint4* window, int i) const {
    return reinterpret_cast<Code*>(window) + s_ + i;
  }

  // The lane's pack of the chunk: elements first + W·lane … + W − 1, zeros beyond the row.
  __device__ Raw pack(const uint4* window, int first, int lane) const {
    const auto* const granules = reinterpret_cast<const Raw*>(window);
    Raw raw = granules[lane];
    if (s_ != 0) raw = part_of_two(raw, granules[lane + 1], s_);
    const int count = n_ - first - lane * W;
    if (first + chunk > n_) keep_first(raw, count);
    return raw;
  }

  // Begins to fetch the chunk, but for the granule in which the row begins: put_begin puts there
  // what `begin` has read.
  __device__ void fetch(uint4* window, int first, int lane) const {
    const Code* const at = row_ - s_ + lane * W + first;
    if (first != 0 && first + chunk <= n_) {
      fetch_whole(window + lane, at);
      if (lane == 0 && s_ != 0) fetch_part(window + 32, at + chunk, s_ * size);
      return;
    }
    const int left = (min(n_ - first, chunk) + s_ - lane * W) * size;
    if (left > 0 && (first != 0 || lane != 0 || s_ == 0))
      fetch_part(window + lane, at, min(left, 16));
    if (lane == 0 && left > 512) fetch_part(window + 32, at + chunk, left - 512);
  }
  __device__ unsigned begin(int lane) const {
    const int at = lane - s_;
    return s_ != 0 && lane < W && at >= 0 && at < n_ ? row_[at] : 0;
  }
  __device__ void put_begin(uint4* window, unsigned value, int lane) const {
    if (s_ != 0 && lane < W) reinterpret_cast<Code*>(window)[lane] = static_cast<Code>(value);
  }

  // Writes a chunk of packs to the row, one of results, by way of a window that no lane reads
  // before.
  __device__ void store_packs(uint4* window, const Raw& raw, int first, int lane) const {
    auto* const packs = reinterpret_cast<Raw*>(window);
    packs[lane + 1] = raw;  // granule i is a part of places i and i + 1
    __syncwarp();
    const int end = min(n_ - first, chunk) + s_, last = end / W;
    Code* const at = row_ - s_ + lane * W + first;
    if ((lane != 0 || s_ == 0) && lane < last)
      *reinterpret_cast<Raw*>(at) = s_ == 0 ? raw : part_of_two(packs[lane], raw, W - s_);
    // As in flush, from the place of the first pack.
    const auto* const codes = reinterpret_cast<const Code*>(window + 1) - s_;
    const int edge = lane >= s_ ? lane : chunk + lane;
    if (s_ != 0 && lane < W && edge < end) row_[first - s_ + edge] = codes[edge];
    if (lane < W && last < 32 && (last != 0 || s_ == 0) && last * W + lane < end)
      row_[first - s_ + last * W + lane] = codes[last * W + lane];
  }

  // Writes the chunk's window to the row, one of results.
  __device__ void flush(const uint4* window, int first, int lane) const {
    Code* const at = row_ - s_ + lane * W + first;
    const auto* const codes = reinterpret_cast<const Code*>(window);
    const bool is_own = lane != 0 || s_ == 0;  // no other chunk has a part of the lane's granule
    // What lanes 0 … W − 1 write of granules 0 and 32.
    const int edge = lane >= s_ ? lane : chunk + lane;
    if (first + chunk <= n_) {
      if (is_own) __stcs(reinterpret_cast<uint4*>(at), window[lane]);
      if (s_ != 0 && lane < W) row_[first - s_ + edge] = codes[edge];
      return;
    }
    const int end = n_ - first + s_, last = end / W;
    if (is_own && lane < last) __stcs(reinterpret_cast<uint4*>(at), window[lane]);
    if (s_ != 0 && lane < W && edge < end) row_[first - s_ + edge] = codes[edge];
    // The granule in which the row ends; were it 32, all of it is an edge.
    if (lane < W && last < 32 && (last != 0 || s_ == 0) && last * W + lane < end)
      row_[first - s_ + last * W + lane] = codes[last * W + lane];
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
