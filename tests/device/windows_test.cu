// kernels/cuda/windows.cuh: rows copied by a warp each, from any place within 16 bytes to any
// other, as elements beside each other and as packs, where they are beyond the row zeros. Rows lie
// among others, outputs are poisoned. On a processor nothing but the rows may be fetched.
//
// Exit codes: 0 passed, 1 failed, 77 no device.
#include <cstring>

#include "kernels/cuda/windows.cuh"
#include "tests/device/device.cuh"

namespace {

using namespace halfulp;
using namespace halfulp::kernels::cuda;

// One warp to a block, P chunks at a time. packs: what the lanes hold goes to `held` too, 32·W
// elements of each chunk.
template <class T, bool packs, int P>
__global__ void copy_rows(const T* x, T* y, CodeOf<T>* held, int n, int chunks) {
  constexpr int W = pack_size<T>, chunk = 32 * W, size = static_cast<int>(sizeof(T));
  __shared__ uint4 windows[P * window_granules];
  const int lane = static_cast<int>(threadIdx.x), row = static_cast<int>(blockIdx.x);
  const Ragged<T> from(x + row * n, n), to(y + row * n, n);
  for (int first = 0; first < n; first += P * chunk) {
    const WindowedChunks c{windows, first, chunk, window_granules};
    from.template fetch<P>(c, lane);
    commit_fetches();
    if (first == 0) from.put_begin(c.window(0), from.begin(lane), lane);
    wait_for_fetches();
    __syncwarp();
    Raw raw[P];
    CodeOf<T> v[P][W];
    for (int k = 0; k < P; ++k) {
      if (packs) raw[k] = from.pack(c.window(k), first + k * chunk, lane);
      for (int j = 0; j < W && !packs; ++j) v[k][j] = from.in(c.window(k), lane)[32 * j];
    }
    __syncwarp();
    for (int k = 0; k < P; ++k) {
      const int at = first + k * chunk;
      for (int j = 0; j < W && packs && at < chunks * chunk; ++j)
        held[row * chunks * chunk + at + lane * W + j] =
            static_cast<CodeOf<T>>(raw[k].words[j * size / 4] >> (j * size % 4 * 8));
      if (packs) to.place_of_pack(c.window(k), lane) = raw[k];
      for (int j = 0; j < W && !packs; ++j) to.in(c.window(k), lane)[32 * j] = v[k][j];
    }
    __syncwarp();
    to.template flush<P, packs>(c, lane);
    __syncwarp();
  }
}

struct Counts {
  u64 elements = 0, wrong = 0;
};

template <class T, bool packs, int P>
void check(bool small, Counts& counts) {
  using Code = CodeOf<T>;
  constexpr int W = pack_size<T>, rows = 3, margin = 64;
  Code *x, *y, *held;
  constexpr std::size_t most = 8192;
  for (Code** p : {&x, &y, &held}) CHECK(cudaMalloc(p, most * sizeof(Code)));
  std::vector<Code> in(most), out(most), kept(most);
  for (std::size_t i = 0; i < most; ++i) in[i] = static_cast<Code>(halfulp_test::mix(i));
  std::vector<int> lengths{32 * W - W, 32 * W - 1, 32 * W,     32 * W + 1,
                           33 * W - 1, 33 * W,     64 * W - 1, 70 * W + 3};
  for (int n = 1; n < (small ? W : 2 * W) + 2; ++n) lengths.push_back(n);
  for (const int n : lengths) {
    const int chunks = (n + 32 * W - 1) / (32 * W);
    for (int place = 0; place < W; ++place) {
      for (int other = 0; other < W; other += small && n > W ? 3 : 1) {
        CHECK(cudaMemcpy(x, in.data(), most * sizeof(Code), cudaMemcpyHostToDevice));
        CHECK(cudaMemset(y, 0xA5, most * sizeof(Code)));
#ifndef __CUDACC__
        const auto* const row = reinterpret_cast<const std::byte*>(x + margin + place);
        on_processor::readable = {row, row + rows * n * sizeof(Code)};
#endif
        copy_rows<T, packs, P><<<rows, 32>>>(reinterpret_cast<const T*>(x + margin + place),
                                             reinterpret_cast<T*>(y + margin + other), held, n,
                                             chunks);
        CHECK(cudaGetLastError());
        CHECK(cudaMemcpy(out.data(), y, most * sizeof(Code), cudaMemcpyDeviceToHost));
        CHECK(cudaMemcpy(kept.data(), held, most * sizeof(Code), cudaMemcpyDeviceToHost));
        Code poison;
        std::memset(&poison, 0xA5, sizeof poison);
        u64 wrong = 0;
#ifndef __CUDACC__
        wrong += on_processor::readable.strays;
#endif
        for (int i = 0; i < static_cast<int>(most); ++i) {
          const int k = i - margin - other;
          const bool inside = k >= 0 && k < rows * n;
          wrong += out[static_cast<std::size_t>(i)] !=
                   (inside ? in[static_cast<std::size_t>(margin + place + k)] : poison);
        }
        for (int k = 0; packs && k < rows * chunks * 32 * W; ++k) {
          const int row = k / (chunks * 32 * W), at = k % (chunks * 32 * W);
          wrong += kept[static_cast<std::size_t>(k)] !=
                   (at < n ? in[static_cast<std::size_t>(margin + place + row * n + at)] : Code{0});
        }
        counts.elements += static_cast<u64>(rows * n);
        counts.wrong += wrong;
        if (wrong != 0 && counts.wrong < 10000)
          std::printf("MISMATCH %llu: %d-byte elements, rows of %d, from place %d to %d%s\n",
                      static_cast<unsigned long long>(wrong), static_cast<int>(sizeof(T)), n, place,
                      other, packs ? ", packs" : "");
      }
    }
  }
  for (Code* p : {x, y, held}) CHECK(cudaFree(p));
}

}  // namespace

int main(int argc, char** argv) {
  const cudaDeviceProp properties = halfulp_test::device_or_skip("device/windows");
  const std::string where = halfulp_test::provenance(properties);
  const bool small = argc > 1 && std::strcmp(argv[1], "--small") == 0;
  Counts counts;
  check<float, false, 1>(small, counts);
  check<float, true, 2>(small, counts);
  check<float, false, 8>(small, counts);
  check<__half, true, 1>(small, counts);
  check<__half, false, 2>(small, counts);
  check<__half, true, 8>(small, counts);
  std::printf("device/windows on %s: %llu elements compared, %llu mismatches\n", where.c_str(),
              static_cast<unsigned long long>(counts.elements),
              static_cast<unsigned long long>(counts.wrong));
  return counts.wrong == 0 ? 0 : 1;
}
