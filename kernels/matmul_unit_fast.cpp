#include "kernels/matmul_unit_fast.hpp"

#include <algorithm>
#include <mutex>
#include <type_traits>

#include "emu/arrays/control_word.hpp"
#include "kernels/fused_sum.hpp"
#include "kernels/panels.hpp"

namespace halfulp::kernels {
namespace {

// ---------------------------------------------------------------- vectors

template <class T, int n>
struct VectorOf {
  typedef T type __attribute__((vector_size(n * sizeof(T)), aligned(alignof(T)), may_alias));
  typedef T value __attribute__((vector_size(n * sizeof(T))));
};
template <class T, int n>
using Vector = typename VectorOf<T, n>::value;

template <class T, int n>
[[gnu::always_inline]] inline Vector<T, n> load(const T* from) {
  return *reinterpret_cast<const typename VectorOf<T, n>::type*>(from);
}
template <class T, int n>
[[gnu::always_inline]] inline void store(T* to, Vector<T, n> x) {
  *reinterpret_cast<typename VectorOf<T, n>::type*>(to) = x;
}

// n lanes, as many as a vector has of binary64.
template <int n>
struct SomeLanes {
  using Double = Vector<double, n>;
  using Long = Vector<std::int64_t, n>;
  using Int = Vector<std::int32_t, n>;
  using Single = Vector<float, n>;
  static inline Double to_double(Int x) { return __builtin_convertvector(x, Double); }
  static inline Double to_double(Single x) { return __builtin_convertvector(x, Double); }
  static inline Single to_single(Double x) { return __builtin_convertvector(x, Single); }
  static inline Int to_int(Double x) { return __builtin_convertvector(x, Int); }
  static inline Long to_long(Int x) { return __builtin_convertvector(x, Long); }
};

// ---------------------------------------------------------------- operands

template <class F>
struct Prepared {
  std::size_t length = 0;  // of a row, filled up to whole instructions
  std::vector<F> a, b;     // rows; panels of 32 columns, row by row
  std::vector<std::int16_t> a_exponents, b_exponents;
};

// Codes taken apart: values (zero for infinities and NaN) and exponents.
struct Decoder {
  const MatrixUnit& unit;
  const FusedSum& sum;
  bool first = true;
  Format format;
  int least = 0, zero = 0;
  float factor = 0;  // not 0: an IEEE format whose magnitudes, moved left, are binary32 over this
  int move = 0;
  std::vector<FusedOperand> table;

  Decoder(const MatrixUnit& u, bool first_operand, const FusedSum& s)
      : unit(u), sum(s), first(first_operand), format(first_operand ? u.a : u.b), zero(s.zero) {
    least = std::min(format.emin(), u.operand_emin);
    const bool ieee = format == formats::binary16 || format == formats::bfloat16 ||
                      format == formats::tf32 || format == formats::binary32;
    if (ieee) {
      move = 23 - format.fraction_bits();
      factor = std::bit_cast<float>(static_cast<std::uint32_t>(254 - format.bias) << 23);
    } else if (format.width() <= 8) {
      table.resize(std::size_t{1} << format.width());
      for (std::size_t i = 0; i < table.size(); ++i) table[i] = fused_operand(u, s, first, i);
    }
  }

  // n codes; special[j · step] becomes 1 where there is one. Returns the largest magnitude of an
  // exponent.
  int decode(const std::uint32_t* codes, std::size_t n, float* values, std::int16_t* exponents,
             std::uint8_t* special, std::size_t step) const {
    int most = 0;
    const auto note = [&](std::size_t j, bool is) {
      if (is) special[j * step] = 1;
    };
    if (factor != 0) {
      const auto infinity = static_cast<std::uint32_t>(format.infinity_code());
      const auto mask = static_cast<std::uint32_t>(low_mask<u64>(format.magnitude_bits()));
      const int sign_move = 31 - format.magnitude_bits();
      bool any = false;
      for (std::size_t j = 0; j < n; ++j) {
        const std::uint32_t magnitude = codes[j] & mask;
        const bool beyond = magnitude >= infinity;
        any |= beyond;
        const float v = std::bit_cast<float>(magnitude << move) * factor;
        const std::uint32_t bits = beyond ? 0 : std::bit_cast<std::uint32_t>(v);
        const std::uint32_t sign = (codes[j] & (mask + 1)) << sign_move;
        const int e = std::max(static_cast<int>(bits >> 23) - 127, least);
        const int exponent = bits == 0 ? zero : e;
        const int size = bits == 0 ? 0 : std::max(e, -e);
        most = std::max(most, size);
        values[j] = std::bit_cast<float>(bits | sign);
        exponents[j] = static_cast<std::int16_t>(exponent);
      }
      if (any)
        for (std::size_t j = 0; j < n; ++j) note(j, (codes[j] & mask) >= infinity);
      return most;
    }
    for (std::size_t j = 0; j < n; ++j) {
      const FusedOperand e = table.empty() ? fused_operand(unit, sum, first, codes[j])
                                           : table[codes[j] & (table.size() - 1)];
      values[j] = e.value;
      exponents[j] = e.exponent;
      if (e.value != 0) most = std::max(most, std::max<int>(e.exponent, -e.exponent));
      note(j, e.special);
    }
    return most;
  }
};

// Where element k of a row lies.
std::size_t place(const MatrixUnit& u, std::size_t k) {
  return static_cast<std::size_t>(unit_position(u, static_cast<int>(k)));
}

// ---------------------------------------------------------------- tiles

// `rows` rows by two vectors of columns, the whole of K. c and worst have rows of 32.
template <class F, int bytes, int rows, bool nearest>
[[gnu::always_inline]] inline void tile(const FusedSum& s, std::size_t length, const F* a,
                                        const std::int16_t* a_exponents, const F* b,
                                        const std::int16_t* b_exponents, float* c,
                                        std::int32_t* worst) {
  constexpr int lanes = bytes / static_cast<int>(sizeof(F)), columns = 2 * lanes;
  constexpr int half = bytes / 8, halves = columns / half;
  // Where the processor has conversions to 64 bits, they are the shorter ones for binary64.
  constexpr bool wide = std::is_same_v<F, double> && bytes == 64;
  using Sum = std::conditional_t<wide, std::int64_t, std::int32_t>;
  using T = SomeLanes<half>;
  using Int = typename T::Int;
  using Single = typename T::Single;
  constexpr std::size_t row = panel_columns;
  const auto block = static_cast<std::size_t>(s.block), k = static_cast<std::size_t>(s.k);
  const std::size_t chunk =
      wide ? block : std::min(block, static_cast<std::size_t>(terms_of_int32(s)));

  float part[rows * columns], total[rows * columns];
  std::int32_t exponents[rows * columns];
  F scales[rows * columns];
  double sums[rows * columns];
  Sum partial[columns];

  const auto over = [&](auto work) {  // each half vector of each row
    for (int i = 0; i < rows; ++i)
      for (int h = 0; h < halves; ++h) work(i * columns + h * half, i * row + h * half);
  };
  // A running sum: c's, or with promotion from +0, so that c is `total`.
  const auto note = [&](std::size_t at, Single x) {
    store<std::int32_t, half>(worst + at, fused::larger<Int>(load<std::int32_t, half>(worst + at),
                                                             fused::magnitude_of<T>(x)));
  };
  float running[rows * columns];
  over([&](int t, std::size_t at) {
    const Single x = load<float, half>(c + at);
    store<std::int32_t, half>(worst + at, fused::magnitude_of<T>(x));
    store<float, half>(total + t, x);
    store<float, half>(running + t, s.promote_every != 0 ? Single{} : x);
  });
  const auto promote = [&] {
    over([&](int t, std::size_t at) {
      const Single sum =
          fused::add<T>(s, load<float, half>(total + t), load<float, half>(running + t));
      note(at, sum);
      store<float, half>(total + t, sum);
      store<float, half>(running + t, Single{});
    });
  };

  for (std::size_t from = 0; from < length; from += k) {
    if (s.promote_every != 0 && from != 0 && from % static_cast<std::size_t>(s.promote_every) == 0)
      promote();
    for (int t = 0; t < rows * columns; t += half)
      store<float, half>(part + t, s.after ? Single{} : load<float, half>(running + t));
    for (std::size_t at0 = from; at0 < from + k; at0 += block) {
      {  // the largest exponents
        using Short = Vector<std::int16_t, columns>;
        Short top[rows];
        for (int i = 0; i < rows; ++i) top[i] = Short{} + std::int16_t{-32000};
        for (std::size_t l = at0; l < at0 + block; ++l) {
          const Short e = load<std::int16_t, columns>(b_exponents + l * row);
          for (int i = 0; i < rows; ++i) {
            const Short sum = e + a_exponents[static_cast<std::size_t>(i) * length + l];
            top[i] = sum > top[i] ? sum : top[i];
          }
        }
        std::int16_t tops[rows * columns];
        for (int i = 0; i < rows; ++i) store<std::int16_t, columns>(tops + i * columns, top[i]);
        over([&](int t, std::size_t) {
          const Int m = fused::largest<T>(
              s, __builtin_convertvector((load<std::int16_t, half>(tops + t)), Int),
              load<float, half>(part + t));
          store<std::int32_t, half>(exponents + t, m);
          if constexpr (std::is_same_v<F, float>)
            store<float, half>(scales + t, fused::single_scale<T>(s, m));
          else
            store<double, half>(scales + t, fused::power_of_two<T>(s.fraction_bits - m));
          store<double, half>(sums + t, typename T::Double{});
        });
      }
      for (std::size_t l0 = at0; l0 < at0 + block; l0 += chunk) {
        const std::size_t end = std::min(at0 + block, l0 + chunk);
        Vector<Sum, lanes> sum[rows][2];
        Vector<F, lanes> scale[rows][2];
        for (int i = 0; i < rows; ++i) {
          for (int v = 0; v < 2; ++v) {
            sum[i][v] = Vector<Sum, lanes>{};
            scale[i][v] = load<F, lanes>(scales + i * columns + v * lanes);
          }
        }
        for (std::size_t l = l0; l < end; ++l) {
          const Vector<F, lanes> x[2] = {load<F, lanes>(b + l * row),
                                         load<F, lanes>(b + l * row + lanes)};
          for (int i = 0; i < rows; ++i) {
            const F y = a[static_cast<std::size_t>(i) * length + l];
            for (int v = 0; v < 2; ++v)
              sum[i][v] += __builtin_convertvector((x[v] * y) * scale[i][v], Vector<Sum, lanes>);
          }
        }
        for (int i = 0; i < rows; ++i) {
          for (int v = 0; v < 2; ++v) store<Sum, lanes>(partial + v * lanes, sum[i][v]);
          for (int h = 0; h < halves; ++h) {
            const int t = i * columns + h * half;
            const auto x =
                __builtin_convertvector((load<Sum, half>(partial + h * half)), typename T::Double);
            store<double, half>(sums + t, x + load<double, half>(sums + t));
          }
        }
      }
      over([&](int t, std::size_t at) {
        const Single x =
            fused::finish<T, nearest>(s, load<double, half>(sums + t), load<float, half>(part + t),
                                      load<std::int32_t, half>(exponents + t));
        note(at, x);
        store<float, half>(part + t, x);
      });
    }
    over([&](int t, std::size_t at) {
      Single x = load<float, half>(part + t);
      if (s.after) {
        x = fused::add<T>(s, x, load<float, half>(running + t));
        note(at, x);
      }
      store<float, half>(running + t, x);
    });
  }
  if (s.promote_every != 0) promote();
  over([&](int t, std::size_t at) {
    store<float, half>(c + at, load<float, half>((s.promote_every != 0 ? total : running) + t));
  });
}

struct Panel {
  const FusedSum* s;
  std::size_t length;
  const void *a, *b;  // float or double
  const std::int16_t *a_exponents, *b_exponents;
  int rows;
  float* c;  // rows of 32
  std::int32_t* worst;
};

template <class F, int bytes, int rows>
[[gnu::always_inline]] inline void panel_rows(const Panel& p, int i) {
  constexpr int columns = 2 * bytes / static_cast<int>(sizeof(F));
  const auto first = static_cast<std::size_t>(i) * p.length;
  for (int j = 0; j < static_cast<int>(panel_columns); j += columns) {
    const auto at = static_cast<std::size_t>(i) * panel_columns + static_cast<std::size_t>(j);
    const auto run = [&](auto nearest) {
      tile<F, bytes, rows, decltype(nearest)::value>(
          *p.s, p.length, static_cast<const F*>(p.a) + first, p.a_exponents + first,
          static_cast<const F*>(p.b) + j, p.b_exponents + j, p.c + at, p.worst + at);
    };
    if (p.s->nearest)
      run(std::true_type{});
    else
      run(std::false_type{});
  }
}

template <class F, int bytes>
[[gnu::always_inline]] inline void panel(const Panel& p) {
  constexpr int rows = bytes == 64 ? 4 : 2;
  int i = 0;
  for (; i + rows <= p.rows; i += rows) panel_rows<F, bytes, rows>(p, i);
  for (; i < p.rows; ++i) panel_rows<F, bytes, 1>(p, i);
}

#if defined(__x86_64__)
  #define HALFULP_PANEL(F)                                                         \
    __attribute__((flatten)) void panel_baseline(const Panel& p, F) {              \
      panel<F, 16>(p);                                                             \
    }                                                                              \
    __attribute__((flatten)) HALFULP_AVX2 void panel_avx2(const Panel& p, F) {     \
      panel<F, 32>(p);                                                             \
    }                                                                              \
    __attribute__((flatten)) HALFULP_AVX512 void panel_avx512(const Panel& p, F) { \
      panel<F, 64>(p);                                                             \
    }
#else
  #define HALFULP_PANEL(F)                                            \
    __attribute__((flatten)) void panel_baseline(const Panel& p, F) { \
      panel<F, 16>(p);                                                \
    }
#endif
HALFULP_PANEL(float)
HALFULP_PANEL(double)
#undef HALFULP_PANEL

template <class F>
void run_panel(const Panel& p, VectorLevel level) {
#if defined(__x86_64__)
  if (level == VectorLevel::avx512) return panel_avx512(p, F{});
  if (level == VectorLevel::avx2) return panel_avx2(p, F{});
#endif
  static_cast<void>(level);
  panel_baseline(p, F{});
}

// ---------------------------------------------------------------- products

template <class F>
void products(const FusedSum& s, MatmulShape shape, const Prepared<F>& x,
              const std::vector<std::uint8_t>& special_row,
              const std::vector<std::uint8_t>& special_column, const std::uint32_t* c,
              std::uint32_t* out, int threads, VectorLevel level,
              std::vector<std::vector<std::size_t>>& left) {
  share(shape, threads, [&](std::size_t row0, std::size_t row1, std::size_t p0, std::size_t p1) {
    std::vector<std::size_t> mine;
    constexpr std::size_t most = 16;  // rows at a time
    alignas(64) float sums[most * panel_columns];
    alignas(64) std::int32_t worst[most * panel_columns];
    for (std::size_t p = p0; p < p1; ++p) {
      const std::size_t columns = std::min(panel_columns, shape.n - p * panel_columns);
      for (std::size_t i0 = row0; i0 < row1; i0 += most) {
        const std::size_t rows = std::min(most, row1 - i0);
        for (std::size_t i = 0; i < rows; ++i) {
          const std::size_t from = (i0 + i) * shape.n + p * panel_columns;
          for (std::size_t j = 0; j < panel_columns; ++j)
            sums[i * panel_columns + j] =
                c != nullptr && j < columns ? single_of(s, c[from + j]) : 0.0F;
        }
        run_panel<F>(
            {&s, x.length, x.a.data() + i0 * x.length, x.b.data() + p * x.length * panel_columns,
             x.a_exponents.data() + i0 * x.length,
             x.b_exponents.data() + p * x.length * panel_columns, static_cast<int>(rows), sums,
             worst},
            level);
        for (std::size_t i = 0; i < rows; ++i) {
          const std::size_t to = (i0 + i) * shape.n + p * panel_columns;
          for (std::size_t j = 0; j < columns; ++j) {
            const std::size_t at = i * panel_columns + j;
            if (static_cast<std::uint32_t>(worst[at]) >= s.infinite || special_row[i0 + i] != 0 ||
                special_column[p * panel_columns + j] != 0)
              mine.push_back(to + j);
            else
              out[to + j] = code_of(s, sums[at]);
          }
        }
      }
    }
    static std::mutex guard;
    const std::lock_guard lock(guard);
    left.push_back(std::move(mine));
  });
}

std::vector<std::size_t> float_products(const MatrixUnit& u, const FusedSum& s, MatmulShape shape,
                                        const std::uint32_t* a, const std::uint32_t* b,
                                        const std::uint32_t* c, std::uint32_t* out, int threads,
                                        VectorLevel level) {
  const ControlWord guard;
  const auto k = static_cast<std::size_t>(u.k);
  Prepared<float> x;
  x.length = (shape.k + k - 1) / k * k;
  const std::size_t panels = (shape.n + panel_columns - 1) / panel_columns;
  std::vector<std::uint8_t> special_row(shape.m), special_column(panels * panel_columns);
  int most = 0;

  const auto zero = static_cast<std::int16_t>(s.zero);
  x.a.assign(shape.m * x.length, 0);
  x.a_exponents.assign(shape.m * x.length, zero);
  x.b.assign(panels * panel_columns * x.length, 0);
  x.b_exponents.assign(panels * panel_columns * x.length, zero);
  const Decoder of_a(u, true, s), of_b(u, false, s);
  for (std::size_t i = 0; i < shape.m; ++i) {
    most = std::max(most, of_a.decode(a + i * shape.k, shape.k, x.a.data() + i * x.length,
                                      x.a_exponents.data() + i * x.length, &special_row[i], 0));
  }
  if (u.split != UnitSplit::consecutive) {
    std::vector<float> values(x.length);
    std::vector<std::int16_t> exponents(x.length);
    for (std::size_t i = 0; i < shape.m; ++i) {
      float* v = x.a.data() + i * x.length;
      std::int16_t* e = x.a_exponents.data() + i * x.length;
      for (std::size_t l = 0; l < x.length; ++l) {
        values[place(u, l)] = v[l];
        exponents[place(u, l)] = e[l];
      }
      std::copy(values.begin(), values.end(), v);
      std::copy(exponents.begin(), exponents.end(), e);
    }
  }
  for (std::size_t p = 0; p < panels; ++p) {
    const std::size_t columns = std::min(panel_columns, shape.n - p * panel_columns);
    for (std::size_t l = 0; l < shape.k; ++l) {
      const std::size_t to = (p * x.length + place(u, l)) * panel_columns;
      most = std::max(
          most, of_b.decode(b + l * shape.n + p * panel_columns, columns, x.b.data() + to,
                            x.b_exponents.data() + to, &special_column[p * panel_columns], 1));
    }
  }

  std::vector<std::vector<std::size_t>> left;
  if (most <= single_exponents && u.a.precision + u.b.precision <= 24) {
    products(s, shape, x, special_row, special_column, c, out, threads, level, left);
  } else {
    Prepared<double> y{x.length,
                       {x.a.begin(), x.a.end()},
                       {x.b.begin(), x.b.end()},
                       std::move(x.a_exponents),
                       std::move(x.b_exponents)};
    products(s, shape, y, special_row, special_column, c, out, threads, level, left);
  }
  std::vector<std::size_t> all;
  for (const auto& some : left) all.insert(all.end(), some.begin(), some.end());
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

bool has_fast_unit(const MatrixUnit& u) {
  FusedSum s;
  return make_fused_sum(u, s);
}

std::vector<std::size_t> matmul_unit_fast(const MatrixUnit& u, MatmulShape shape,
                                          const std::uint32_t* a, const std::uint32_t* b,
                                          const std::uint32_t* c, std::uint32_t* out, int threads,
                                          VectorLevel level) {
  FusedSum s;
  if (!make_fused_sum(u, s)) return {};
  return float_products(u, s, shape, a, b, c, out, threads, level);
}

}  // namespace halfulp::kernels
