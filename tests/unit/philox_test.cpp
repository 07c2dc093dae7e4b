#include <catch2/catch_test_macros.hpp>

#include "emu/core/philox.hpp"

using namespace halfulp;

TEST_CASE("Philox4x32-10: the known answers of Random123") {
  const auto is = [](Philox4 got, std::uint32_t a, std::uint32_t b, std::uint32_t c,
                     std::uint32_t d) {
    return got.word[0] == a && got.word[1] == b && got.word[2] == c && got.word[3] == d;
  };
  CHECK(is(philox4x32_10({{0, 0, 0, 0}}, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  CHECK(is(philox4x32_10({{~0u, ~0u, ~0u, ~0u}}, ~0u, ~0u), 0x408f276d, 0x41c83b0e, 0xa20bc7c6,
           0x6d5451fd));
  CHECK(
      is(philox4x32_10({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0),
         0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST_CASE("elements take their bits from the block in order, and R is the top bits") {
  // Block 5 of stream (seed, tensor, step), by hand.
  const Philox4 words = philox4x32_10({{5, 0, 9, 4}}, 0x89abcdefu, 0x01234567u);
  RandomStream s{.seed = 0x0123456789abcdefull, .step = 4, .tensor = 9};
  s.count = 32;
  CHECK(s.at(5 * 4 + 2).bits == words.word[2]);
  s.count = 8;
  CHECK(s.at(5 * 16 + 7).bits == ((words.word[1] >> 24) & 0xff));
  s.count = 5;
  CHECK(s.at(5 * 16 + 4).bits == ((words.word[1] & 0xff) >> 3));
  s.count = 13;
  CHECK(s.at(5 * 8 + 3).bits == ((words.word[1] >> 16) >> 3));
  s.count = 64;
  CHECK(s.at(5 * 2 + 1).bits == ((u64{words.word[3]} << 32) | words.word[2]));
  s.count = 33;
  CHECK(s.at(5 * 2).bits == (((u64{words.word[1]} << 32) | words.word[0]) >> 31));
}

TEST_CASE("offset shifts the index, also beyond 2^32 blocks") {
  RandomStream s{.seed = 1, .offset = (u64{1} << 40) + 3, .count = 32};
  RandomStream t{.seed = 1, .count = 32};
  CHECK(s.at(4).bits == t.at((u64{1} << 40) + 7).bits);
  const Philox4 high = philox4x32_10({{0, 1u << 6, 0, 0}}, 1, 0);
  CHECK(t.at(u64{1} << 40).bits == high.word[0]);
}
