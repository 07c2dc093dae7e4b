#include "kernels/matmul_x86.hpp"

#include <climits>
#include <stdexcept>
#include <string>

#include "emu/arrays/parallel.hpp"

namespace halfulp::kernels {

void matmul_x86(const X86Unit& u, MatmulShape shape, const std::uint32_t* a, const std::uint32_t* b,
                const std::uint32_t* c, std::uint32_t* out, int threads) {
  const std::string k = "K is " + std::to_string(shape.k);
  if (u.kind == X86Kind::bf16 && shape.k % 2 != 0)
    throw std::invalid_argument(k +
                                ", but this unit multiplies pairs; append zeros to make it even");
  if (u.kind == X86Kind::convert && shape.k != 1)
    throw std::invalid_argument(k + ", but this unit converts single numbers");
  if (shape.k > INT_MAX) throw std::invalid_argument(k + ", more than an int holds");
  std::vector<std::uint32_t> columns(shape.n * shape.k);
  for (std::size_t i = 0; i < shape.k; ++i)
    for (std::size_t j = 0; j < shape.n; ++j) columns[j * shape.k + i] = b[i * shape.n + j];
  // parallel_ranges counts cheap elements; a result costs K of them.
  const std::size_t weight = shape.k == 0 ? 1 : shape.k;
  parallel_ranges(shape.m * shape.n * weight, threads, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = (begin + weight - 1) / weight; i < (end + weight - 1) / weight; ++i) {
      const std::size_t row = i / shape.n, column = i % shape.n;
      out[i] = x86_dot(u, a + row * shape.k, columns.data() + column * shape.k,
                       static_cast<int>(shape.k), c != nullptr ? c[i] : 0);
    }
  });
}

}  // namespace halfulp::kernels
