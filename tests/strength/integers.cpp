// Products of integers of 8 and 4 bits and of planes of bits, broken in one way each.
#include <algorithm>
#include <string_view>

#include "tests/strength/subject.hpp"

namespace halfulp_strength {

namespace {

enum class Fault {
  none,
  backwards,  // correct
  by_fours,   // correct: sums of four products joined
  unsigned_a,
  sixteen_bit_pairs,  // pairs of products added in saturating 16 bits, as some instructions do
  sixteen_bit_sum,    // the accumulator wraps at 16 bits
  float_sum,          // the accumulator is binary32
  missing_tail,
  symmetric,  // −128 taken as −127
  no_c,
  transposed,
};

template <Fault f>
int matmul(void* /*state*/, const halfulp_call* call) {
  const halfulp_dltensor& a = *halfulp::conformance::find_input(*call, "a");
  const halfulp_dltensor& b = *halfulp::conformance::find_input(*call, "b");
  const halfulp_dltensor* c = halfulp::conformance::find_input(*call, "c");
  const halfulp_dltensor& d = *halfulp::conformance::find_output(*call, "d");
  const auto* x = halfulp::conformance::data_of<std::int8_t>(a);
  const auto* y = halfulp::conformance::data_of<std::int8_t>(b);
  auto* out = halfulp::conformance::data_of<std::int32_t>(d);
  const std::int64_t M = a.shape[0];
  const std::int64_t K = a.shape[1];
  const std::int64_t N = b.shape[1];
  for (std::int64_t i = 0; i < M; ++i) {
    for (std::int64_t j = 0; j < N; ++j) {
      std::int64_t sum = c != nullptr && f != Fault::no_c
                             ? halfulp::conformance::data_of<std::int32_t>(*c)[i * N + j]
                             : 0;
      float as_float = static_cast<float>(sum);
      std::int64_t pair = 0;
      std::int32_t four = 0;
      const std::int64_t end = f == Fault::missing_tail && K > 4 ? K - K % 4 : K;
      for (std::int64_t step = 0; step < end; ++step) {
        const std::int64_t k = f == Fault::backwards ? K - 1 - step : step;
        std::int64_t u = x[i * K + k];
        std::int64_t v = y[f == Fault::transposed ? std::min(j * K + k, K * N - 1) : k * N + j];
        if constexpr (f == Fault::unsigned_a) u &= 255;
        if constexpr (f == Fault::symmetric) {
          u = std::max<std::int64_t>(u, -127);
          v = std::max<std::int64_t>(v, -127);
        }
        as_float += static_cast<float>(u * v);
        if constexpr (f == Fault::sixteen_bit_pairs) {
          pair += u * v;
          if (k % 2 == 1 || k + 1 == end) {
            sum += std::clamp<std::int64_t>(pair, -32768, 32767);
            pair = 0;
          }
        } else if constexpr (f == Fault::by_fours) {
          four += static_cast<std::int32_t>(u * v);
          if (k % 4 == 3 || k + 1 == end) {
            sum += four;
            four = 0;
          }
        } else {
          sum += u * v;
        }
        if constexpr (f == Fault::sixteen_bit_sum) sum = static_cast<std::int16_t>(sum);
      }
      out[i * N + j] = f == Fault::float_sum ? static_cast<std::int32_t>(as_float)
                                             : static_cast<std::int32_t>(sum);
    }
  }
  return HALFULP_OK;
}

// ---------------------------------------------------------------- nibbles
enum class Nibble {
  none,
  backwards,         // correct: from the end
  in_pairs,          // correct: byte by byte, the low halves' sum and the high halves' joined
  in_float,          // correct: sums in binary32, which hold them all
  unsigned_codes,    // the sign bit of a nibble counts 8
  low_unsigned,      // sign extended in high halves alone, as a shift of the byte does
  halves_exchanged,  // the earlier one in the high half
  zero_point,        // codes as offsets from 8
  odd_tail,          // of an odd K the last is lost
  sixteen_bit_sum,
  half_sum,  // the accumulator is binary16
  eight_bit_pairs,
  next_line,  // the pair beside it: K taken for ⌈K/2⌉ lines of a
  no_c,
};

template <Nibble f>
int nibble(int byte, bool high) {
  if constexpr (f == Nibble::halves_exchanged) high = !high;
  const int code = byte >> (high ? 4 : 0) & 15;
  if constexpr (f == Nibble::unsigned_codes) return code;
  if constexpr (f == Nibble::zero_point) return code - 8;
  if (f == Nibble::low_unsigned && !high) return code;
  return code >= 8 ? code - 16 : code;
}

template <Nibble f>
int int4(void* /*state*/, const halfulp_call* call) {
  using halfulp::conformance::data_of;
  const halfulp_dltensor& a = *halfulp::conformance::find_input(*call, "a");
  const halfulp_dltensor& b = *halfulp::conformance::find_input(*call, "b");
  const halfulp_dltensor* c = halfulp::conformance::find_input(*call, "c");
  const halfulp_dltensor& d = *halfulp::conformance::find_output(*call, "d");
  const bool a_nibbles = std::string_view(call->variant) == "int4";
  const auto K = static_cast<std::int64_t>(halfulp::conformance::find_attribute(*call, "k", 0));
  const std::int64_t N = b.shape[1];
  const std::int64_t line = a.shape[1];
  const auto left = [&](std::int64_t i, std::int64_t k) -> int {
    if (!a_nibbles) return data_of<std::int8_t>(a)[i * line + k];
    std::int64_t at = i * line + k / 2;
    if constexpr (f == Nibble::next_line) at = std::min(at + i, a.shape[0] * line - 1);
    return nibble<f>(data_of<std::uint8_t>(a)[at], k % 2 == 1);
  };
  const auto right = [&](std::int64_t k, std::int64_t j) {
    return nibble<f>(data_of<std::uint8_t>(b)[k / 2 * N + j], k % 2 == 1);
  };
  for (std::int64_t i = 0; i < a.shape[0]; ++i) {
    for (std::int64_t j = 0; j < N; ++j) {
      std::int64_t sum =
          c != nullptr && f != Nibble::no_c ? data_of<std::int32_t>(*c)[i * N + j] : 0;
      const std::int64_t start = sum;
      std::int64_t high = 0;
      float inexact = 0;
      const std::int64_t end = f == Nibble::odd_tail && K > 1 ? K - K % 2 : K;
      for (std::int64_t step = 0; step < end; ++step) {
        const std::int64_t k = f == Nibble::backwards ? K - 1 - step : step;
        const int product = left(i, k) * right(k, j);
        if constexpr (f == Nibble::in_float) inexact += static_cast<float>(product);
        if constexpr (f == Nibble::half_sum)
          inexact = View::from_half(View::to_half(inexact + static_cast<float>(product)));
        (f == Nibble::in_pairs && k % 2 == 1 ? high : sum) += product;
        if constexpr (f == Nibble::eight_bit_pairs) {
          high += product;
          if (k % 2 == 1 || k + 1 == end) {
            sum += static_cast<std::int8_t>(high) - high;
            high = 0;
          }
        }
        if constexpr (f == Nibble::sixteen_bit_sum)
          sum = start + static_cast<std::int16_t>(sum - start);
      }
      if constexpr (f == Nibble::in_pairs) sum += high;
      if constexpr (f == Nibble::in_float || f == Nibble::half_sum)
        sum = start + static_cast<std::int64_t>(std::clamp(inexact, -0x1p30F, 0x1p30F));
      data_of<std::int32_t>(d)[i * N + j] = static_cast<std::int32_t>(sum);
    }
  }
  return HALFULP_OK;
}

// ---------------------------------------------------------------- planes
enum class Plane {
  none,            // by planes
  high_to_low,     // correct: planes from the last
  by_values,       // correct: codes put together, then multiplied
  sign_positive,   // the sign's plane counts as any other
  signs_multiply,  // two signs count negative
  and_for_xor,     // bipolar planes joined by and
  xor_for_and,
  padded,           // bipolar: the bits beyond K count
  last_word,        // the last of several words is lost
  planes_reversed,  // plane 0 is the highest
  words_reversed,   // the first of a word is its highest bit
  half_counted,     // 16 of 32 bits counted
  one_weight,       // 2^max(i, j) for 2^(i + j)
  a_signed,         // an operand without sign has one
  lines_exchanged,  // b's line of the next column
  no_c,
};

template <Plane f>
int planes(void* /*state*/, const halfulp_call* call) {
  using halfulp::conformance::data_of;
  const halfulp_dltensor& a = *halfulp::conformance::find_input(*call, "a");
  const halfulp_dltensor& b = *halfulp::conformance::find_input(*call, "b");
  const halfulp_dltensor* c = halfulp::conformance::find_input(*call, "c");
  const halfulp_dltensor& d = *halfulp::conformance::find_output(*call, "d");
  const std::string_view variant = call->variant;
  const bool bipolar = variant.starts_with("bipolar");
  const bool a_sign = !bipolar && (f == Plane::a_signed || !variant.starts_with("uint"));
  const auto K = static_cast<std::int64_t>(halfulp::conformance::find_attribute(*call, "k", 0));
  const std::int64_t p = a.shape[0];
  const std::int64_t q = b.shape[0];
  const std::int64_t M = a.shape[1];
  const std::int64_t N = b.shape[1];
  const std::int64_t words = a.shape[2];
  const auto word = [&](const halfulp_dltensor& t, std::int64_t plane, std::int64_t line,
                        std::int64_t w) {
    const std::int64_t i = f == Plane::planes_reversed ? t.shape[0] - 1 - plane : plane;
    auto bits =
        static_cast<std::uint32_t>(data_of<std::int32_t>(t)[(i * t.shape[1] + line) * words + w]);
    if (f == Plane::words_reversed && &t == &a) {
      std::uint32_t turned = 0;
      for (int n = 0; n < 32; ++n) turned |= (bits >> n & 1) << (31 - n);
      bits = turned;
    }
    return bits;
  };
  const auto value = [&](const halfulp_dltensor& t, std::int64_t line, std::int64_t k, bool sign) {
    std::int64_t code = 0;
    for (std::int64_t i = 0; i < t.shape[0]; ++i)
      code += static_cast<std::int64_t>(word(t, i, line, k / 32) >> (k % 32) & 1) << i;
    const std::int64_t full = std::int64_t{1} << t.shape[0];
    return bipolar ? 2 * code - (full - 1) : sign && 2 * code >= full ? code - full : code;
  };
  for (std::int64_t i = 0; i < M; ++i) {
    for (std::int64_t j = 0; j < N; ++j) {
      const std::int64_t column = f == Plane::lines_exchanged ? (j + 1) % N : j;
      std::int64_t sum =
          c != nullptr && f != Plane::no_c ? data_of<std::int32_t>(*c)[i * N + j] : 0;
      if constexpr (f == Plane::by_values) {
        for (std::int64_t k = 0; k < K; ++k)
          sum += value(a, i, k, a_sign) * value(b, j, k, !bipolar);
      }
      for (std::int64_t s = 0; s < p * q && f != Plane::by_values; ++s) {
        const std::int64_t pair = f == Plane::high_to_low ? p * q - 1 - s : s;
        const std::int64_t x = pair / q;
        const std::int64_t y = pair % q;
        std::int64_t ones = 0;
        const std::int64_t end = f == Plane::last_word && words > 1 ? words - 1 : words;
        for (std::int64_t w = 0; w < end; ++w) {
          const std::uint32_t u = word(a, x, i, w);
          const std::uint32_t v = word(b, y, column, w);
          const bool both = bipolar ? f == Plane::and_for_xor : f != Plane::xor_for_and;
          const std::uint32_t joined = both ? u & v : u ^ v;
          ones += std::popcount(f == Plane::half_counted ? joined & 0xffffU : joined);
        }
        const std::int64_t count = f == Plane::padded ? 32 * words : K;
        const std::int64_t weight = std::int64_t{1}
                                    << (f == Plane::one_weight ? std::max(x, y) : x + y);
        const bool x_sign = a_sign && x + 1 == p;
        const bool y_sign = !bipolar && y + 1 == q;
        bool negative = x_sign != y_sign;
        if constexpr (f == Plane::sign_positive) negative = false;
        if constexpr (f == Plane::signs_multiply) negative = x_sign || y_sign;
        sum += (negative ? -weight : weight) * (bipolar ? count - 2 * ones : ones);
      }
      data_of<std::int32_t>(d)[i * N + j] = static_cast<std::int32_t>(sum);
    }
  }
  return HALFULP_OK;
}

}  // namespace

void add_integers(Subjects& all) {
#define INTEGER(fault, what, correct) \
  all.push_back({"int8-matmul", "int8", #fault, what, correct, matmul<Fault::fault>});
  INTEGER(none, "a chain", true)
  INTEGER(backwards, "from the end", true)
  INTEGER(by_fours, "sums of four products joined", true)
  INTEGER(unsigned_a, "a taken as unsigned", false)
  INTEGER(sixteen_bit_pairs, "pairs of products saturate at 16 bits", false)
  INTEGER(sixteen_bit_sum, "the accumulator wraps at 16 bits", false)
  INTEGER(float_sum, "the accumulator is binary32", false)
  INTEGER(missing_tail, "k beyond a multiple of 4 missing", false)
  INTEGER(symmetric, "-128 taken as -127", false)
  INTEGER(no_c, "c is not added", false)
  INTEGER(transposed, "b read as transposed", false)
#undef INTEGER
#define INT4(variant, fault, what, correct) \
  all.push_back({"int4-matmul", variant, #fault, what, correct, int4<Nibble::fault>});
  for (const char* variant : {"int4", "int8:int4"}) {
    INT4(variant, none, "a chain", true)
    INT4(variant, backwards, "from the end", true)
    INT4(variant, in_pairs, "low halves, then high halves", true)
    INT4(variant, in_float, "sums in binary32, which hold them all", true)
    INT4(variant, unsigned_codes, "the sign bit of a nibble counts 8", false)
    INT4(variant, low_unsigned, "the sign of low halves not extended", false)
    INT4(variant, halves_exchanged, "the earlier one in the high half", false)
    INT4(variant, zero_point, "codes as offsets from 8", false)
    INT4(variant, odd_tail, "of an odd K the last is lost", false)
    INT4(variant, sixteen_bit_sum, "the accumulator wraps at 16 bits", false)
    INT4(variant, half_sum, "the accumulator is binary16", false)
    INT4(variant, no_c, "c is not added", false)
  }
  INT4("int8:int4", eight_bit_pairs, "pairs of products wrap at 8 bits", false)
  INT4("int4", next_line, "lines of a one byte too long", false)
#undef INT4
#define PLANES(variant, fault, what, correct) \
  all.push_back({"bit-planes", variant, #fault, what, correct, planes<Plane::fault>});
  for (const char* variant : {"int1", "int4", "uint8:int4", "bipolar1", "bipolar4:bipolar3"}) {
    PLANES(variant, none, "plane by plane", true)
    PLANES(variant, high_to_low, "planes from the last", true)
    PLANES(variant, by_values, "codes put together, then multiplied", true)
    PLANES(variant, last_word, "the last word of a line lost", false)
    PLANES(variant, words_reversed, "the first of a word in its highest bit", false)
    PLANES(variant, half_counted, "16 of 32 bits counted", false)
    PLANES(variant, lines_exchanged, "the next column's line", false)
    PLANES(variant, no_c, "c is not added", false)
  }
  for (const char* variant : {"int4", "uint8:int4", "bipolar4:bipolar3"}) {
    PLANES(variant, planes_reversed, "plane 0 is the highest", false)
    PLANES(variant, one_weight, "the larger of two weights for their product", false)
  }
  for (const char* variant : {"int4", "uint8:int4"})
    PLANES(variant, sign_positive, "the sign's plane counts as any other", false)
  for (const char* variant : {"int1", "int4"}) {
    PLANES(variant, signs_multiply, "two signs count negative", false)
    PLANES(variant, xor_for_and, "planes joined by exclusive or", false)
  }
  for (const char* variant : {"bipolar1", "bipolar4:bipolar3"}) {
    PLANES(variant, and_for_xor, "planes joined by and", false)
    PLANES(variant, padded, "bits beyond K count", false)
  }
  PLANES("uint8:int4", a_signed, "an operand without sign has one", false)
#undef PLANES
}

}  // namespace halfulp_strength
