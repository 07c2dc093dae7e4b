// kernels/cuda/hopper.cuh as cuda_runtime.h beside this runs it. In every other launch of a kernel
// copies happen as late as they may, when a thread waits for their barrier, and products when they
// are asked for; in those between it is the other way, and products happen when their group is
// waited for. So what takes one of them for done too early, or reuses operands too early, has other
// results in one of two runs.
//
// Products are sums of binary32, in the order of k, each product and sum rounded.
#pragma once

#include <deque>
#include <string>

#include <cuda.h>
#include <cuda_runtime.h>

#include "kernels/halves.hpp"

namespace halfulp::kernels::cuda::hopper {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

inline std::byte* shared_at(u32 address) {
  return on_processor::Block::current()->shared() + address;
}
// Where the 128-byte swizzle puts a byte.
inline u32 swizzled(u32 address) {
  return address ^ ((address >> 7 & 7) << 4);
}

// ---------------------------------------------------------------- barriers
struct Barrier {
  std::uint8_t arrivals, missing;
  std::uint16_t phase;  // its parity
  std::uint32_t bytes;
};
static_assert(sizeof(Barrier) == 8);

inline Barrier& barrier_at(u32 address) {
  if (address % 8 != 0) throw std::runtime_error("a barrier is not aligned");
  return *reinterpret_cast<Barrier*>(shared_at(address));
}
inline void settle(Barrier& b) {
  if (b.missing != 0 || b.bytes != 0) return;
  b.missing = b.arrivals;
  b.phase = b.phase == 0 ? 1 : 0;
}
inline void barrier_make(u32 barrier, int arrivals) {
  const auto n = static_cast<std::uint8_t>(arrivals);
  barrier_at(barrier) = {n, n, 0, 0};
}
inline void barriers_made() {}
inline void arrive_expecting(u32 barrier, u32 bytes) {
  Barrier& b = barrier_at(barrier);
  if (b.missing == 0) throw std::runtime_error("more threads arrive than a barrier was made for");
  b.bytes += bytes;
  --b.missing;
  settle(b);
}
inline void arrive(u32 barrier) {
  arrive_expecting(barrier, 0);
}

struct Copies {
  std::deque<std::pair<u32, std::function<void()>>> waiting;  // by barrier

  static Copies& of_block() {
    static Copies copies;
    return copies;
  }
  void ask(u32 barrier, std::function<void()> copy) {
    auto* block = on_processor::Block::current();
    block->at_end(this, [this] {
      if (!waiting.empty()) throw std::runtime_error("a copy that nobody waited for");
    });
    if (!block->copies_are_late()) return copy();
    waiting.emplace_back(barrier, std::move(copy));
  }
  void finish(u32 barrier) {
    for (auto it = waiting.begin(); it != waiting.end();) {
      if (it->first != barrier) {
        ++it;
        continue;
      }
      const auto copy = std::move(it->second);
      it = waiting.erase(it);
      copy();
    }
  }
};

inline void wait(u32 barrier, u32 parity) {
  on_processor::Block::current()->wait_for([=] {
    Copies::of_block().finish(barrier);
    return barrier_at(barrier).phase != parity;
  });
}

// ---------------------------------------------------------------- the copy engine
inline std::byte* element_at(const CUtensorMap& map, const std::int64_t (&at)[4]) {
  std::byte* p = map.base;
  for (int i = 0; i < 4; ++i) {
    if (at[i] < 0 || at[i] >= static_cast<std::int64_t>(map.extents[i])) return nullptr;
    p += at[i] * static_cast<std::int64_t>(map.strides[i]);
  }
  return p;
}
template <class F>
void each_element(const CUtensorMap& map, int x, int y, int z, int w, u32 shared, F f) {
  if (shared % 128 != 0) throw std::runtime_error("a box is not aligned in shared memory");
  for (u32 r = 0; r < map.rows; ++r)
    for (u32 i = 0; i < 64; ++i)
      f(element_at(map, {x + static_cast<int>(i), y + static_cast<std::int64_t>(r), z, w}),
        shared_at(swizzled(shared + 128 * r + 2 * i)));
}
inline void complete(u32 barrier, u32 bytes) {
  Barrier& b = barrier_at(barrier);
  b.bytes -= bytes;
  settle(b);
}
inline void load_box(u32 to, const CUtensorMap* map, int x, int y, int z, int w, u32 barrier) {
  Copies::of_block().ask(barrier, [=] {
    each_element(*map, x, y, z, w, to, [](const std::byte* global, std::byte* shared) {
      if (global == nullptr)
        std::memset(shared, 0, 2);
      else
        std::memcpy(shared, global, 2);
    });
    complete(barrier, 128 * map->rows);
  });
}
inline void load_run(u32 to, const void* from, u32 bytes, u32 barrier) {
  if (to % 16 != 0 || reinterpret_cast<std::uintptr_t>(from) % 16 != 0 || bytes % 16 != 0)
    throw std::runtime_error("a run of bytes is not aligned");
  Copies::of_block().ask(barrier, [=] {
    std::memcpy(shared_at(to), from, bytes);
    complete(barrier, bytes);
  });
}
inline void store_box(const CUtensorMap* map, int x, int y, int z, int w, u32 from) {
  each_element(*map, x, y, z, w, from, [](std::byte* global, const std::byte* shared) {
    if (global != nullptr) std::memcpy(global, shared, 2);
  });
}
inline void stores_commit() {}
inline void stores_read() {}
inline void fetch_map(const CUtensorMap* /*map*/) {}
inline void publish_shared() {}

// ---------------------------------------------------------------- registers
template <int n>
void take_registers() {}
template <int n>
void give_registers() {}

inline void store_matrices(u32 line, u32 a, u32 b, u32 c, u32 d) {
  const auto lines = on_processor::Block::current()->exchange(line);
  const u32 words[4] = {a, b, c, d}, lane = threadIdx.x % 32;
  for (u32 i = 0; i < 4; ++i)
    std::memcpy(shared_at(lines[8 * i + lane / 4] + 4 * (lane % 4)), &words[i], 4);
}

// ---------------------------------------------------------------- products
inline u64 operand(u32 address, u32 panel = 16) {
  return u64{(address >> 4) & 0x3FFF} | u64{panel >> 4} << 16 | u64{1024 >> 4} << 32 | u64{1} << 62;
}
inline u64 further(u64 operand, u32 bytes) {
  return operand + (bytes >> 4);
}
inline u32 address_of(u64 operand) {
  return static_cast<u32>(operand & 0x3FFF) << 4;
}
inline u32 panel_of(u64 operand) {
  return static_cast<u32>(operand >> 16 & 0x3FFF) << 4;
}

struct Products {
  std::deque<std::vector<std::function<void()>>> groups;
  std::vector<std::function<void()>> open;

  static Products& of_thread() {
    static std::map<unsigned, Products> all;
    auto* block = on_processor::Block::current();
    block->at_end(&all, [] {
      for (const auto& [thread, products] : all)
        if (!products.open.empty() || !products.groups.empty())
          throw std::runtime_error("a product that nobody waited for");
    });
    return all[block->thread()];
  }
  void ask(std::function<void()> product) {
    if (!on_processor::Block::current()->products_are_late()) product(), product = [] {};
    open.push_back(std::move(product));
  }
};
inline void products_begin() {}
inline void products_commit() {
  Products& p = Products::of_thread();
  p.groups.push_back(std::exchange(p.open, {}));
}
template <int n>
void products_wait() {
  Products& p = Products::of_thread();
  while (p.groups.size() > n) {
    for (const auto& product : p.groups.front()) product();
    p.groups.pop_front();
  }
  __syncwarp();  // a warp waits as one
}
template <int n>
void pin(float (&/*d*/)[n]) {}

inline float exp2_fast(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0 : y;
}

template <class T>
u32 narrow_pair(float low, float high) {
  return static_cast<u32>(narrow<T>(low).code) | static_cast<u32>(narrow<T>(high).code) << 16;
}
struct Bfloat16 {
  using Number = kernels::Bfloat16;
  static u32 pair(float low, float high) { return narrow_pair<Number>(low, high); }
};
struct Binary16 {
  using Number = kernels::Binary16;
  static u32 pair(float low, float high) { return narrow_pair<Number>(low, high); }
};

template <class T, int n>
struct Product {
  using Number = typename T::Number;
  struct Lane {
    float a[2][16];  // of rows r and r + 8 of this thread
    u32 row, column;
  };
  static Lane lane() {
    const u32 t = threadIdx.x % 128;
    return {{}, 16 * (t / 32) + t % 32 / 4, 2 * (t % 4)};
  }
  // m numbers of 16 bits, which stand in one piece of a line.
  template <u32 m>
  static void widened(u32 address, float* to) {
    Number x[m];
    std::memcpy(x, shared_at(swizzled(address)), sizeof(x));
    for (u32 i = 0; i < m; ++i) to[i] = widen(x[i]);
  }
  // b(column, to) writes columns `column` and the next: to[k][0] and to[k][1].
  template <class B>
  static void multiply(float (&d)[n / 2], const Lane& me, bool first, B b) {
    for (u32 i = 0; i < n / 2; i += 4) {
      float y[16][2], sums[2][2];
      b(2 * i + me.column, y);
      for (u32 r = 0; r < 2; ++r)
        for (u32 c = 0; c < 2; ++c) sums[r][c] = first ? 0 : d[i + 2 * r + c];
      for (u32 k = 0; k < 16; ++k)
        for (u32 r = 0; r < 2; ++r)
          for (u32 c = 0; c < 2; ++c) sums[r][c] += me.a[r][k] * y[k][c];
      for (u32 r = 0; r < 2; ++r)
        for (u32 c = 0; c < 2; ++c) d[i + 2 * r + c] = sums[r][c];
    }
  }
  template <bool first>
  static void rows(float (&d)[n / 2], u64 a, u64 b) {
    Products::of_thread().ask([&d, a, b, me = lane()]() mutable {
      const auto line = [](u64 from, u32 row, float* to) {
        for (u32 k = 0; k < 16; k += 8) widened<8>(address_of(from) + 128 * row + 2 * k, to + k);
      };
      for (u32 r = 0; r < 2; ++r) line(a, me.row + 8 * r, me.a[r]);
      multiply(d, me, first, [&](u32 column, float(&to)[16][2]) {
        for (u32 c = 0; c < 2; ++c) {
          float numbers[16];
          line(b, column + c, numbers);
          for (u32 k = 0; k < 16; ++k) to[k][c] = numbers[k];
        }
      });
    });
  }
  static void columns(float (&d)[n / 2], const u32* a, u64 b) {
    Lane me = lane();
    struct Words {
      u32 at[4];
    };
    const auto all = on_processor::Block::current()->exchange(Words{{a[0], a[1], a[2], a[3]}});
    for (u32 t = 0; t < 4; ++t) {
      const Words& words = all[threadIdx.x % 32 / 4 * 4 + t];
      for (u32 i = 0; i < 4; ++i)
        for (u32 h = 0; h < 2; ++h)
          me.a[i % 2][8 * (i / 2) + 2 * t + h] =
              widen(Number{static_cast<std::uint16_t>(words.at[i] >> 16 * h)});
    }
    Products::of_thread().ask([&d, b, me] {
      multiply(d, me, false, [&](u32 column, float(&to)[16][2]) {
        const u32 first = address_of(b) + panel_of(b) * (column / 64) + column % 64 * 2;
        for (u32 k = 0; k < 16; ++k) widened<2>(first + 128 * k, to[k]);
      });
    });
  }
};

}  // namespace halfulp::kernels::cuda::hopper
