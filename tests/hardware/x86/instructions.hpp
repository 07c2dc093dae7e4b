// The instructions themselves, on the processor that runs this. Nothing else of the project needs
// them. Operands are packed: a row of A and a column of B hold n elements of 8 or 16 bits.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#if defined(__x86_64__) && defined(__linux__)
  #define HALFULP_X86_UNITS 1
  #include <cpuid.h>
  #include <immintrin.h>
  #include <sys/syscall.h>
  #include <unistd.h>
#endif

namespace hardware {

struct Processor {
  std::string name = "not x86-64 under Linux";
  int family = 0, model = 0, stepping = 0;
  bool avx512_bf16 = false, avx512_vnni = false, avx512_fp16 = false;
  bool amx_bf16 = false, amx_int8 = false, amx_fp16 = false;
};

#ifdef HALFULP_X86_UNITS

// What cpuid reports and the operating system has switched on; asks it for the tiles.
inline Processor processor() {
  Processor p;
  p.name.clear();
  unsigned a = 0, b = 0, c = 0, d = 0;
  for (unsigned leaf = 0x80000002; leaf <= 0x80000004; ++leaf) {
    __get_cpuid(leaf, &a, &b, &c, &d);
    for (const unsigned word : {a, b, c, d})
      for (int i = 0; i < 4; ++i)
        if (const char ch = static_cast<char>(word >> (8 * i)); ch != 0) p.name += ch;
  }
  __get_cpuid(1, &a, &b, &c, &d);
  p.stepping = static_cast<int>(a & 15);
  p.family = static_cast<int>((a >> 8) & 15);
  p.model = static_cast<int>(((a >> 4) & 15) | ((a >> 12) & 0xF0));
  if (p.family == 15) p.family += static_cast<int>((a >> 20) & 255);
  if ((c & (1u << 27)) == 0) return p;  // no xgetbv
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  const bool zmm = (low & 0xE6) == 0xE6, tiles = (low & 0x60000) == 0x60000;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return p;
  const bool avx512 = zmm && (b & (1u << 16)) != 0;
  const unsigned c7 = c, d7 = d;
  unsigned a71 = 0;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) a71 = a;
  p.avx512_vnni = avx512 && (c7 & (1u << 11)) != 0;
  p.avx512_fp16 = avx512 && (d7 & (1u << 23)) != 0;
  p.avx512_bf16 = avx512 && (a71 & (1u << 5)) != 0;
  constexpr long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  if (tiles && (d7 & (1u << 24)) != 0 && syscall(SYS_arch_prctl, request, tile_data) == 0) {
    p.amx_bf16 = (d7 & (1u << 22)) != 0;
    p.amx_int8 = (d7 & (1u << 25)) != 0;
    p.amx_fp16 = (a71 & (1u << 21)) != 0;
  }
  return p;
}

// 16 elements of c, and as many of d; a and b hold 32 bits for each.
struct Vector {
  alignas(64) std::uint32_t a[16], b[16], c[16];
};

enum class VectorOp { bf16, f16, convert, u8s8, u8s8_saturate, s16, s16_saturate };

__attribute__((target("avx512f,avx512vl"))) inline void run_vector(VectorOp op, const Vector& v,
                                                                   std::uint32_t* d) {
  const __m512i a = _mm512_load_si512(v.a), b = _mm512_load_si512(v.b), c = _mm512_load_si512(v.c);
  __m512i r = c;
  switch (op) {
    case VectorOp::bf16: __asm__ volatile("vdpbf16ps %2, %1, %0" : "+v"(r) : "v"(a), "v"(b)); break;
    case VectorOp::f16:
      __asm__ volatile("vfmadd231ph %2, %1, %0" : "+v"(r) : "v"(a), "v"(b));
      break;
    case VectorOp::convert:
      __asm__ volatile("vcvtneps2bf16 %1, %t0\n\tvpmovzxwd %t0, %0" : "=v"(r) : "v"(a));
      break;
    case VectorOp::u8s8: __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(r) : "v"(a), "v"(b)); break;
    case VectorOp::u8s8_saturate:
      __asm__ volatile("vpdpbusds %2, %1, %0" : "+v"(r) : "v"(a), "v"(b));
      break;
    case VectorOp::s16: __asm__ volatile("vpdpwssd %2, %1, %0" : "+v"(r) : "v"(a), "v"(b)); break;
    case VectorOp::s16_saturate:
      __asm__ volatile("vpdpwssds %2, %1, %0" : "+v"(r) : "v"(a), "v"(b));
      break;
  }
  _mm512_storeu_si512(d, r);
}

// The 128-bit and 256-bit forms of VDPBF16PS, of the first 4 or 8 elements.
__attribute__((target("avx512f,avx512vl"))) inline void run_narrow_bf16(int elements,
                                                                        const Vector& v,
                                                                        std::uint32_t* d) {
  if (elements == 4) {
    __m128i r = _mm_load_si128(reinterpret_cast<const __m128i*>(v.c));
    __asm__ volatile("vdpbf16ps %2, %1, %0"
                     : "+v"(r)
                     : "v"(_mm_load_si128(reinterpret_cast<const __m128i*>(v.a))),
                       "v"(_mm_load_si128(reinterpret_cast<const __m128i*>(v.b))));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(d), r);
  } else {
    __m256i r = _mm256_load_si256(reinterpret_cast<const __m256i*>(v.c));
    __asm__ volatile("vdpbf16ps %2, %1, %0"
                     : "+v"(r)
                     : "v"(_mm256_load_si256(reinterpret_cast<const __m256i*>(v.a))),
                       "v"(_mm256_load_si256(reinterpret_cast<const __m256i*>(v.b))));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(d), r);
  }
}

// 16 binary32 words to bfloat16: by VCVTNEPS2BF16, and twice by VCVTNE2PS2BF16.
__attribute__((target("avx512f,avx512vl"))) inline void run_convert(const std::uint32_t* x,
                                                                    std::uint16_t* one,
                                                                    std::uint16_t* two) {
  const __m512i v = _mm512_loadu_si512(x);
  __m256i r;
  __m512i s;
  __asm__ volatile("vcvtneps2bf16 %1, %0" : "=v"(r) : "v"(v));
  __asm__ volatile("vcvtne2ps2bf16 %1, %1, %0" : "=v"(s) : "v"(v));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(one), r);
  _mm512_storeu_si512(two, s);
}

enum class TileOp { bf16, s8s8, s8u8, u8s8, u8u8 };

// C (16 × 16 words) plus A (16 rows of `groups` words) times B (`groups` rows of 16 words); a word
// holds the elements of consecutive k.
struct Tile {
  alignas(64) std::uint32_t a[16][16], b[16][16], c[16][16];
};

__attribute__((target("amx-tile,amx-int8,amx-bf16"))) inline void run_tile(TileOp op, int groups,
                                                                           const Tile& t,
                                                                           std::uint32_t* d) {
  struct alignas(64) Config {
    std::uint8_t palette = 1, start = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {};
    std::uint8_t rows[16] = {};
  } config;
  config.row_bytes[0] = config.row_bytes[2] = 64;
  config.row_bytes[1] = static_cast<std::uint16_t>(4 * groups);
  config.rows[0] = config.rows[1] = 16;
  config.rows[2] = static_cast<std::uint8_t>(groups);
  _tile_loadconfig(&config);
  _tile_loadd(0, t.c, 64);
  _tile_loadd(1, t.a, 64);
  _tile_loadd(2, t.b, 64);
  switch (op) {
    case TileOp::bf16: _tile_dpbf16ps(0, 1, 2); break;
    case TileOp::s8s8: _tile_dpbssd(0, 1, 2); break;
    case TileOp::s8u8: _tile_dpbsud(0, 1, 2); break;
    case TileOp::u8s8: _tile_dpbusd(0, 1, 2); break;
    case TileOp::u8u8: _tile_dpbuud(0, 1, 2); break;
  }
  _tile_stored(0, d, 64);
  _tile_release();
}

#else

inline Processor processor() {
  return {};
}

#endif

}  // namespace hardware
