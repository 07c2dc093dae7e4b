// Functions over arrays. Operands of at most 16 bits go through two tables, each made when enough
// elements have asked for it:
//   1. per (function, operand format): f(x) of every code, rounded to odd with 62 bits (a truncated
//      significand and a sticky bit), from which any deterministic rounding to at most 59 bits of
//      precision, and any stochastic one to p bits with r random bits where p + r + 3 <= 62, comes
//      out as from f(x) itself;
//   2. per rounding of it as well: the bits and the flags of every result (deterministic modes).
// Everything else is evaluated element by element.
#include <algorithm>
#include <array>
#include <cstring>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "emu/functions/functions.hpp"
#include "emu/names.hpp"

namespace halfulp {
namespace {

using Exact = Unpacked<u64>;
using ExactTable = std::vector<Exact>;

constexpr int table_bits = 62;

// Of f(x) with at least 62 leading bits, or exact: its odd rounding to 62 bits.
Exact to_table_bits(const Unpacked<u128>& x) {
  Exact y{.kind = x.kind, .negative = x.negative, .raised = x.raised};
  if (x.kind != Kind::finite) return y;
  const int drop = std::max(0, bit_length(x.significand) - table_bits);
  y.exponent = x.exponent + drop;
  y.significand = static_cast<u64>(x.significand >> drop);
  y.sticky = x.sticky || (x.significand & low_mask<u128>(drop)) != 0;
  return y;
}

ExactTable make_exact_table(const Function& f, Format operand) {
  const std::size_t codes = std::size_t{1} << operand.width();
  ExactTable table(codes);
  // Neighbouring codes cost alike, so each thread takes every n-th one.
  const std::size_t threads =
      codes < 4096 ? 1 : std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, 8);
  std::vector<std::exception_ptr> errors(threads);
  const auto fill = [&](std::size_t first) {
    try {
      for (std::size_t code = first; code < codes; code += threads) {
        const auto x = unpack<u128>(static_cast<u128>(code), operand);
        table[code] = to_table_bits(evaluate(f, x, {}, table_bits));
      }
    } catch (...) {
      errors[first] = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < threads; ++i) others.emplace_back(fill, i);
  fill(0);
  for (std::thread& other : others) other.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return table;
}

// The first kind of table; nullptr until `elements`, summed over the calls, reach the number of
// codes: what few elements ask for is cheaper without. Two threads may make the same table at
// once; they make the same.
std::shared_ptr<const ExactTable> exact_table(const Function& f, Format operand,
                                              std::size_t elements) {
  struct Slot {
    std::size_t asked = 0;
    std::shared_ptr<const ExactTable> table;
  };
  static std::mutex mutex;
  static std::map<std::pair<const Function*, std::string>, Slot> slots;
  Slot* slot = nullptr;
  {
    const std::lock_guard lock(mutex);
    slot = &slots[{&f, canonical_name(operand)}];
    if (slot->table) return slot->table;
    slot->asked += elements;
    if (slot->asked < std::size_t{1} << operand.width()) return nullptr;
  }
  auto made = std::make_shared<const ExactTable>(make_exact_table(f, operand));
  const std::lock_guard lock(mutex);
  if (!slot->table) slot->table = std::move(made);
  return slot->table;
}

struct Key {
  const Function* function;
  Format operand, result, stored;
  Rounding rounding;
  std::size_t bytes;

  bool operator==(const Key& k) const {
    return function == k.function && operand == k.operand && result == k.result &&
           stored == k.stored && rounding.mode == k.rounding.mode &&
           rounding.overflow == k.rounding.overflow && rounding.nan_to == k.rounding.nan_to &&
           rounding.tininess == k.rounding.tininess && bytes == k.bytes;
  }
};

// Bits as they are stored (in elements of the result's size), and flags, of every operand code.
struct RoundedTable {
  std::vector<std::byte> bits;
  std::vector<Flags> flags;
  bool reportable = false;  // some entry may be an error under the policies
};

// One rounding, and its code as the result's array stores it.
struct Stored {
  u64 bits;
  Flags flags;
};
template <class S>
Stored round_and_store(const Unpacked<S>& x, Format format, const Rounding& rounding,
                       RandomBits random, const Array& out) {
  const Packed<S> y = round_pack(x, format, rounding, random);
  const bool as_value = !holds_codes(out.element) && !(out.format == format);
  const S code = as_value ? round_pack(unpack(y.code, format), out.format, {}).code : y.code;
  return {static_cast<u64>(code), y.flags};
}

constexpr Flags maybe_reported = flag_nan_lost | flag_overflow;

std::shared_ptr<const RoundedTable> rounded_table(const Key& key, const ExactTable& exact,
                                                  const Array& out, std::size_t elements) {
  constexpr std::size_t kept = 64;  // tables of at most 576 KiB each
  static std::mutex mutex;
  static std::list<std::pair<Key, std::shared_ptr<const RoundedTable>>> recent;
  {
    const std::lock_guard lock(mutex);
    for (auto it = recent.begin(); it != recent.end(); ++it) {
      if (it->first == key) {
        recent.splice(recent.begin(), recent, it);
        return it->second;
      }
    }
  }
  if (elements < exact.size() / 4) return nullptr;
  auto made = std::make_shared<RoundedTable>();
  made->bits.resize(exact.size() * key.bytes);
  made->flags.resize(exact.size());
  for (std::size_t code = 0; code < exact.size(); ++code) {
    const auto y = round_and_store(exact[code], key.result, key.rounding, {}, out);
    std::memcpy(&made->bits[code * key.bytes], &y.bits, key.bytes);  // little-endian hosts
    made->flags[code] = y.flags;
    made->reportable = made->reportable || (y.flags & maybe_reported) != 0;
  }
  const std::lock_guard lock(mutex);
  recent.emplace_front(key, made);
  if (recent.size() > kept) recent.pop_back();
  return made;
}

template <class T>
T load(const std::byte* at) {
  T v;
  std::memcpy(&v, at, sizeof v);
  return v;
}

u64 load_code(const std::byte* at, std::size_t bytes) {
  u64 code = 0;
  std::memcpy(&code, at, bytes);
  return code;
}

// Calls row(pointers to the first elements, index of the first, count) for each innermost run of
// elements, in row-major order; the pointers are those of the operands, then of the result.
template <class Run>
void for_each_run(std::span<const Array> operands, const Array& out, Run run) {
  std::array<std::byte*, 3> at{};
  const std::size_t n = operands.size();
  for (std::size_t k = 0; k < n; ++k) at[k] = static_cast<std::byte*>(operands[k].data);
  at[n] = static_cast<std::byte*>(out.data);
  const auto stride = [&](std::size_t k, std::size_t d) {
    return k < n ? operands[k].strides[d] : out.strides[d];
  };
  bool together = out.is_contiguous();
  for (const Array& x : operands) together = together && x.is_contiguous();
  const std::size_t dims = out.shape.size();
  if (together || dims == 0) {
    std::array<std::ptrdiff_t, 3> steps{};
    for (std::size_t k = 0; k < n; ++k)
      steps[k] = static_cast<std::ptrdiff_t>(size_of(operands[k].element));
    steps[n] = static_cast<std::ptrdiff_t>(size_of(out.element));
    run(at, steps, std::size_t{0}, out.size());
    return;
  }
  const auto inner = static_cast<std::size_t>(out.shape[dims - 1]);
  std::array<std::ptrdiff_t, 3> steps{};
  for (std::size_t k = 0; k <= n; ++k) steps[k] = stride(k, dims - 1);
  std::vector<std::ptrdiff_t> counter(dims - 1, 0);
  const std::size_t total = out.size();
  for (std::size_t index = 0; index < total; index += inner) {
    run(at, steps, index, inner);
    for (std::size_t d = dims - 1; d-- > 0;) {
      const bool wrapped = ++counter[d] == out.shape[d];
      const std::ptrdiff_t moved = wrapped ? 1 - out.shape[d] : 1;
      for (std::size_t k = 0; k <= n; ++k) at[k] += moved * stride(k, d);
      if (!wrapped) break;
      counter[d] = 0;
    }
  }
}

// ---------------------------------------------------------------- by the rounded table
template <class In, class Out>
void look_up(const RoundedTable& table, std::size_t mask, const Array& x, const Array& out,
             std::uint8_t* flags) {
  for_each_run(std::span(&x, 1), out,
               [&](const auto& at, const auto& steps, std::size_t index, std::size_t count) {
                 const std::byte* from = at[0];
                 std::byte* to = at[1];
                 for (std::size_t i = 0; i < count; ++i) {
                   const std::size_t code = load<In>(from) & mask;
                   std::memcpy(to, &table.bits[code * sizeof(Out)], sizeof(Out));
                   if (flags != nullptr) flags[index + i] = table.flags[code] & ieee_flags;
                   from += steps[0];
                   to += steps[1];
                 }
               });
}

template <class In>
void look_up(const RoundedTable& table, std::size_t mask, const Array& x, const Array& out,
             std::uint8_t* flags) {
  switch (size_of(out.element)) {
    case 1: return look_up<In, std::uint8_t>(table, mask, x, out, flags);
    case 2: return look_up<In, std::uint16_t>(table, mask, x, out, flags);
    case 4: return look_up<In, std::uint32_t>(table, mask, x, out, flags);
    default: return look_up<In, u64>(table, mask, x, out, flags);
  }
}

void check(const RoundedTable& table, std::size_t mask, const Array& x, const Array& out,
           Format format, const Rounding& rounding) {
  const std::size_t bytes = size_of(x.element);
  for_each_run(std::span(&x, 1), out,
               [&](const auto& at, const auto& steps, std::size_t index, std::size_t count) {
                 const std::byte* from = at[0];
                 for (std::size_t i = 0; i < count; ++i, from += steps[0]) {
                   const Flags raised = table.flags[load_code(from, bytes) & mask];
                   if ((raised & maybe_reported) != 0)
                     require_reportable(raised, "element " + std::to_string(index + i), format,
                                        rounding);
                 }
               });
}

// ---------------------------------------------------------------- element by element
struct Job {
  const Function& function;
  std::span<const Array> operands;
  const Array& out;
  Format format;
  Rounding rounding;
  RandomStream random;
  std::uint8_t* flags;
  int bits;                                    // leading bits that the rounding needs
  std::shared_ptr<const ExactTable> exact;     // of the operand's format, or
  std::shared_ptr<const ExactTable> bfloat16;  // for binary32 operands that are bfloat16 values

  const Exact* find(u64 code) const {
    if (exact) return &(*exact)[code & (exact->size() - 1)];
    if (bfloat16 && (code & 0xffff) == 0) return &(*bfloat16)[code >> 16];
    return nullptr;
  }

  Stored compute(const std::array<std::byte*, 3>& at, std::size_t index) const {
    const RandomBits r = is_stochastic(rounding.mode) ? random.at(index) : RandomBits{};
    std::array<Unpacked<u128>, 2> x{};
    for (std::size_t k = 0; k < operands.size(); ++k) {
      const u64 code = load_code(at[k], size_of(operands[k].element));
      if (k == 0) {
        if (const Exact* found = find(code)) {
          return round_and_store(*found, format, rounding, r, out);
        }
      }
      x[k] = unpack<u128>(static_cast<u128>(code), operands[k].format);
    }
    return round_and_store(evaluate(function, x[0], x[1], bits), format, rounding, r, out);
  }

  template <class Visit>
  void for_each(Visit visit) const {
    for_each_run(operands, out,
                 [&](auto at, const auto& steps, std::size_t index, std::size_t count) {
                   for (std::size_t i = 0; i < count; ++i) {
                     visit(at, index + i);
                     for (std::size_t k = 0; k <= operands.size(); ++k) at[k] += steps[k];
                   }
                 });
  }

  void write(std::byte* to, std::size_t index, const Stored& y) const {
    std::memcpy(to, &y.bits, size_of(out.element));
    if (flags != nullptr) flags[index] = y.flags & ieee_flags;
  }

  void run(bool may_fail) const {
    const std::size_t n = operands.size();
    if (!may_fail) {
      for_each([&](const auto& at, std::size_t i) { write(at[n], i, compute(at, i)); });
      return;
    }
    // Nothing may have been written when an error is reported, and evaluating twice is dear.
    std::vector<Stored> results(out.size());
    for_each([&](const auto& at, std::size_t i) {
      results[i] = compute(at, i);
      if ((results[i].flags & maybe_reported) != 0)
        require_reportable(results[i].flags, "element " + std::to_string(i), format, rounding);
    });
    for_each([&](const auto& at, std::size_t i) { write(at[n], i, results[i]); });
  }
};

}  // namespace

void apply(const Function& f, std::span<const Array> operands, const Array& out, Format format,
           const Rounding& rounding, const RandomStream& random, std::uint8_t* flags) {
  require_valid(f.arity, operands, out, format, rounding, random);
  if (out.size() == 0) return;
  const int bits = leading_bits(format.precision, rounding.mode, random.count);
  if (bits > max_function_bits) throw std::invalid_argument(too_wide(bits + 3));

  const bool may_fail = rounding.overflow == Overflow::error ||
                        (!format.has_nan() && rounding.nan_to == NanTo::error);
  const bool in_64_bits = bits <= table_bits && format.width() <= 64 &&
                          (holds_codes(out.element) || out.format.width() <= 64);
  Job job{f, operands, out, format, rounding, random, flags, bits, nullptr, nullptr};
  const Format operand = operands[0].format;
  if (f.arity == 1 && in_64_bits && operand.width() <= 16) {
    job.exact = exact_table(f, operand, out.size());
    if (job.exact && !is_stochastic(rounding.mode)) {
      const Format stored = holds_codes(out.element) ? format : out.format;
      const Key key{&f, operand, format, stored, rounding, size_of(out.element)};
      if (const auto table = rounded_table(key, *job.exact, out, out.size())) {
        const std::size_t mask = job.exact->size() - 1;
        const Array& x = operands[0];
        if (may_fail && table->reportable) check(*table, mask, x, out, format, rounding);
        switch (size_of(x.element)) {
          case 1: return look_up<std::uint8_t>(*table, mask, x, out, flags);
          case 2: return look_up<std::uint16_t>(*table, mask, x, out, flags);
          case 4: return look_up<std::uint32_t>(*table, mask, x, out, flags);
          default: return look_up<u64>(*table, mask, x, out, flags);
        }
      }
    }
  } else if (f.arity == 1 && in_64_bits && operands[0].element == Element::binary32) {
    job.bfloat16 = exact_table(f, format_of(Element::bfloat16), out.size());
  }
  job.run(may_fail);
}

}  // namespace halfulp
