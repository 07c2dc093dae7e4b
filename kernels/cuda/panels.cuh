// Products of 64 rows and 64 columns by a block of 256 threads, each result one chain of fused
// multiply-adds along k, as kernels/*.hpp have it. Thread (x, y) = (t mod 16, t / 16) has the
// results of rows y + 16·i and columns x + 16·j, i and j in 0 … 3.
#pragma once

namespace halfulp::kernels::cuda {

constexpr int panel_side = 64, panel_depth = 16, panel_lanes = 16, panel_each = 4,
              panel_threads = 256;

using PanelSums = float[panel_each][panel_each];

// [k][row or column]; one more, so that threads that are neighbours along k write to other banks.
struct Panel {
  float at[panel_depth][panel_side + 1];
};

// value(i, k) for all i and k; threads that are neighbours have neighbours along k, or along i.
template <bool along_k, class F>
__device__ inline void fill(Panel& p, F value) {
#pragma unroll
  for (int t = 0; t < panel_side * panel_depth / panel_threads; ++t) {
    const int n = static_cast<int>(threadIdx.x) + panel_threads * t;
    const int k = along_k ? n % panel_depth : n / panel_side,
              i = along_k ? n / panel_depth : n % panel_side;
    p.at[k][i] = value(i, k);
  }
}

// f(i, j, row, column) for this thread's results.
template <class F>
__device__ inline void each_result(F f) {
  const int x = static_cast<int>(threadIdx.x) % panel_lanes,
            y = static_cast<int>(threadIdx.x) / panel_lanes;
#pragma unroll
  for (int i = 0; i < panel_each; ++i) {
#pragma unroll
    for (int j = 0; j < panel_each; ++j) f(i, j, y + panel_lanes * i, x + panel_lanes * j);
  }
}

// sums ← fma(left(k, row), right.at[k][column], sums), k = 0 … count − 1.
template <class Left>
__device__ inline void accumulate(Left left, const Panel& right, int count, PanelSums& sums) {
  const int x = static_cast<int>(threadIdx.x) % panel_lanes,
            y = static_cast<int>(threadIdx.x) / panel_lanes;
  const auto step = [&](int k) {
    float a[panel_each], b[panel_each];
#pragma unroll
    for (int i = 0; i < panel_each; ++i) a[i] = left(k, y + panel_lanes * i);
#pragma unroll
    for (int j = 0; j < panel_each; ++j) b[j] = right.at[k][x + panel_lanes * j];
#pragma unroll
    for (int i = 0; i < panel_each; ++i) {
#pragma unroll
      for (int j = 0; j < panel_each; ++j) sums[i][j] = __fmaf_rn(a[i], b[j], sums[i][j]);
    }
  };
  if (count == panel_depth) {
#pragma unroll
    for (int k = 0; k < panel_depth; ++k) step(k);
  } else {
    for (int k = 0; k < count; ++k) step(k);
  }
}

}  // namespace halfulp::kernels::cuda
