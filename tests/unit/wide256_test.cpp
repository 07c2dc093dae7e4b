// The 256-bit integer against GMP's, and the core on it against the core on 128 bits.
#include <catch2/catch_test_macros.hpp>

#include <gmp.h>

#include <random>

#include "emu/core/formats.hpp"
#include "emu/core/operations.hpp"

using namespace halfulp;

namespace {

class Integer {
 public:
  Integer() { mpz_init(value_); }
  explicit Integer(const u256& v) : Integer() {
    const std::uint64_t words[] = {static_cast<u64>(v.low), static_cast<u64>(v.low >> 64),
                                   static_cast<u64>(v.high), static_cast<u64>(v.high >> 64)};
    mpz_import(value_, 4, -1, 8, 0, 0, words);
  }
  Integer(const Integer&) = delete;
  Integer& operator=(const Integer&) = delete;
  ~Integer() { mpz_clear(value_); }
  mpz_ptr get() { return value_; }

  u256 low_bits() {  // modulo 2^256
    mpz_fdiv_r_2exp(value_, value_, 256);
    std::uint64_t words[4] = {};
    mpz_export(words, nullptr, -1, 8, 0, 0, value_);
    return {(static_cast<u128>(words[3]) << 64) | words[2],
            (static_cast<u128>(words[1]) << 64) | words[0]};
  }

 private:
  mpz_t value_;
};

// Any length, and often runs of ones or zeros across the halves.
u256 draw(std::mt19937_64& g) {
  const auto half = [&g]() -> u128 {
    switch (g() % 4) {
      case 0: return 0;
      case 1: return ~u128{0};
      default: return (static_cast<u128>(g()) << 64) | g();
    }
  };
  const u256 v{half(), half()};
  return v >> static_cast<int>(g() % 256);
}

static_assert(u256(7) * u256(6) == 42 && (u256(1) << 255 >> 255) == 1 && bit_length(u256(5)) == 3);
static_assert(low_mask<u256>(256) == ~u256(0) && shift_right(u256(9), 256) == 0);

}  // namespace

TEST_CASE("the 256-bit integer computes as GMP does, modulo 2^256") {
  std::mt19937_64 g(3);
  for (int i = 0; i < 200000; ++i) {
    const u256 a = draw(g), b = draw(g);
    const int n = static_cast<int>(g() % 256);
    Integer x(a), y(b), r, s;
    const auto is = [&r](const u256& v) { return r.low_bits() == v; };
    mpz_add(r.get(), x.get(), y.get());
    REQUIRE(is(a + b));
    mpz_sub(r.get(), x.get(), y.get());
    REQUIRE(is(a - b));
    mpz_mul(r.get(), x.get(), y.get());
    REQUIRE(is(a * b));
    mpz_and(r.get(), x.get(), y.get());
    REQUIRE(is(a & b));
    mpz_ior(r.get(), x.get(), y.get());
    REQUIRE(is(a | b));
    mpz_mul_2exp(r.get(), x.get(), static_cast<mp_bitcnt_t>(n));
    REQUIRE(is(a << n));
    mpz_fdiv_q_2exp(r.get(), x.get(), static_cast<mp_bitcnt_t>(n));
    REQUIRE(is(a >> n));
    REQUIRE((a < b) == (mpz_cmp(x.get(), y.get()) < 0));
    REQUIRE((a >= b) == (mpz_cmp(x.get(), y.get()) >= 0));
    REQUIRE(bit_length(a) == (a == 0 ? 0 : static_cast<int>(mpz_sizeinbase(x.get(), 2))));
    if (b != 0) {
      mpz_fdiv_qr(r.get(), s.get(), x.get(), y.get());
      REQUIRE(is(a / b));
      REQUIRE(s.low_bits() == a % b);
    }
  }
}

TEST_CASE("the core on 256 bits has the results of the core on 128 bits") {
  std::mt19937_64 g(7);
  const auto both = [&](Operation op, Format f, u64 a, u64 b, u64 c, Mode m, RandomBits r) {
    const auto narrow = operate<u128>(op, a, b, c, f, {.mode = m}, r);
    const auto wide = operate<u256>(op, u128{a}, u128{b}, u128{c}, f, {.mode = m}, r);
    REQUIRE(static_cast<u128>(wide.code) == narrow.code);
    REQUIRE(wide.flags == narrow.flags);
  };
  for (const Format f : {formats::binary64, formats::binary16, formats::float8_e4m3fn}) {
    for (int op = 0; op < operation_count; ++op) {
      for (int i = 0; i < 2000; ++i) {
        const u64 mask = low_mask<u64>(f.width());
        both(static_cast<Operation>(op), f, g() & mask, g() & mask, g() & mask,
             static_cast<Mode>(g() % mode_count), {g() & 0xff, 8});
      }
    }
  }
}

TEST_CASE("256 bits are enough for every operation, mode and number of random bits") {
  const Format widest[] = {formats::binary128,
                           {.exponent_bits = 15, .precision = 64, .bias = 16383},
                           {.exponent_bits = 19, .precision = 109, .bias = 262143}};
  for (const Format f : widest) {
    for (int op = 0; op < operation_count; ++op) {
      for (int m = 0; m < mode_count; ++m) {
        CHECK(required_bits(static_cast<Operation>(op), max_precision, f, 128, static_cast<Mode>(m),
                            64) <= width_of<u256>);
      }
    }
  }
}
