#include "emu/arrays/arrays.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "emu/arrays/float_arithmetic.hpp"
#include "emu/arrays/look_up.hpp"
#include "emu/arrays/parallel.hpp"
#include "emu/arrays/round_floats.hpp"
#include "emu/core/formats.hpp"
#include "emu/names.hpp"

namespace halfulp {
namespace {

void store(std::byte* at, u64 bits, std::size_t bytes) {
  std::memcpy(at, &bits, bytes);
}

// One call of `apply`, for one significand integer.
template <class S>
struct Job {
  Operation op;
  std::span<const Array> operands;
  const Array& out;
  Format format;
  Rounding rounding;
  RandomStream random;
  std::uint8_t* flags;
  int bits;  // leading bits that exact arithmetic delivers
  bool stochastic;
  bool out_as_values;  // `out` stores values of a hardware type in another format

  using Pointers = std::array<std::byte*, 4>;  // three operands and out

  template <bool arithmetic>
  Packed<S> compute(const Pointers& at, std::size_t index) const {
    std::array<Unpacked<S>, 3> x{};
    for (std::size_t k = 0; k < operands.size(); ++k) {
      x[k] =
          unpack<S>(static_cast<S>(load(at[k], size_of(operands[k].element))), operands[k].format);
    }
    const RandomBits r = stochastic ? random.at(index) : RandomBits{};
    if constexpr (arithmetic) {
      return round_pack(exact_arithmetic(op, x[0], x[1], x[2], rounding.mode, bits), format,
                        rounding, r);
    } else {
      return perform(op, x[0], x[1], x[2], format, rounding, r);
    }
  }

  // Calls visit(pointers, index) for each element in row-major order.
  template <class Visit>
  void for_each(Visit visit) const {
    const std::size_t dims = out.shape.size();
    const std::size_t total = out.size();
    std::vector<std::ptrdiff_t> counter(dims, 0);
    Pointers at{};
    for (std::size_t k = 0; k < operands.size(); ++k)
      at[k] = static_cast<std::byte*>(operands[k].data);
    at[3] = static_cast<std::byte*>(out.data);
    for (std::size_t index = 0; index < total; ++index) {
      visit(at, index);
      for (std::size_t d = dims; d-- > 0;) {
        const bool wrapped = ++counter[d] == out.shape[d];
        const std::ptrdiff_t steps = wrapped ? 1 - out.shape[d] : 1;
        for (std::size_t k = 0; k < operands.size(); ++k) at[k] += steps * operands[k].strides[d];
        at[3] += steps * out.strides[d];
        if (!wrapped) break;
        counter[d] = 0;
      }
    }
  }

  // Nothing may have been written when an error is reported, so errors are looked for in a pass of
  // their own.
  template <bool arithmetic>
  void check() const {
    for_each([&](const Pointers& at, std::size_t index) {
      const Flags raised = compute<arithmetic>(at, index).flags;
      if ((raised & (flag_nan_lost | flag_overflow)) != 0) {
        require_reportable(raised, "element " + std::to_string(index), format, rounding);
      }
    });
  }

  template <bool arithmetic>
  void run() const {
    const std::size_t bytes = size_of(out.element);
    for_each([&](const Pointers& at, std::size_t index) {
      const Packed<S> y = compute<arithmetic>(at, index);
      const S code =
          out_as_values ? round_pack(unpack(y.code, format), out.format, {}).code : y.code;
      store(at[3], static_cast<u64>(code), bytes);
      if (flags != nullptr) flags[index] = y.flags & ieee_flags;
    });
  }
};

// A walk over an array in row-major order, some elements at a time.
class Walk {
 public:
  explicit Walk(const Array& a)
      : a_(a), at_(static_cast<std::byte*>(a.data)), counter_(a.shape.size(), 0) {}

  void gather(std::byte* to, std::size_t n) {
    by_size([&]<std::size_t size>() {
      for (std::size_t i = 0; i < n; ++i, step()) std::memcpy(to + i * size, at_, size);
    });
  }
  void scatter(const std::byte* from, std::size_t n) {
    by_size([&]<std::size_t size>() {
      for (std::size_t i = 0; i < n; ++i, step()) std::memcpy(at_, from + i * size, size);
    });
  }

 private:
  template <class Body>
  void by_size(Body body) {
    switch (size_of(a_.element)) {
      case 1: return body.template operator()<1>();
      case 2: return body.template operator()<2>();
      case 4: return body.template operator()<4>();
      default: return body.template operator()<8>();
    }
  }
  void step() {
    for (std::size_t d = a_.shape.size(); d-- > 0;) {
      if (++counter_[d] != a_.shape[d]) {
        at_ += a_.strides[d];
        return;
      }
      at_ -= (a_.shape[d] - 1) * a_.strides[d];
      counter_[d] = 0;
    }
  }

  const Array& a_;
  std::byte* at_;
  std::vector<std::ptrdiff_t> counter_;
};

// Whether the memory can be used as a C array of its elements.
bool is_plain_array(const Array& x) {
  return x.is_contiguous() && reinterpret_cast<std::uintptr_t>(x.data) % size_of(x.element) == 0;
}

// Calls visit(memory of n elements of x, memory for n elements of out or null, n, index of the
// first) for all of x: ranges on several threads for plain arrays, else pieces that are gathered
// and scattered.
template <class Visit>
void for_each_piece(const Array& x, const Array* out, int threads, Visit visit) {
  if (is_plain_array(x) && (out == nullptr || is_plain_array(*out))) {
    parallel_ranges(x.size(), threads, [&](std::size_t begin, std::size_t end) {
      visit(static_cast<const std::byte*>(x.data) + begin * size_of(x.element),
            out == nullptr ? nullptr
                           : static_cast<std::byte*>(out->data) + begin * size_of(out->element),
            end - begin, u64{begin});
    });
    return;
  }
  constexpr std::size_t piece = 1024;
  alignas(64) std::array<std::byte, piece * 8> in, result;
  Walk from(x), to(out == nullptr ? x : *out);
  const std::size_t total = x.size();
  for (std::size_t done = 0; done < total; done += piece) {
    const std::size_t n = total - done < piece ? total - done : piece;
    from.gather(in.data(), n);
    visit(in.data(), result.data(), n, u64{done});
    if (out != nullptr) to.scatter(result.data(), n);
  }
}

// Rounds by the loops of round_floats.hpp, if they do it and there is nothing to report.
bool round_by_loops(const Array& x, const Array& out, Format format, const Rounding& rounding,
                    const RandomStream& random, int threads) {
  // Codes of binary16 and bfloat16 are their numbers.
  if (x.element == Element::code16 &&
      (x.format == formats::binary16 || x.format == formats::bfloat16)) {
    Array numbers = x;
    numbers.element = x.format == formats::binary16 ? Element::binary16 : Element::bfloat16;
    return round_by_loops(numbers, out, format, rounding, random, threads);
  }
  if (!FloatRounder::exists(x.element, out.element, format, rounding, random.count)) return false;
  if (!format.has_nan() && rounding.nan_to == NanTo::error) {
    std::atomic<bool> nan = false;
    for_each_piece(x, nullptr, threads, [&](const void* from, void*, std::size_t n, u64) {
      if (has_nan(x.element, from, n)) nan = true;
    });
    if (nan) return false;  // the core says which element
  }
  const FloatRounder rounder(x.element, out.element, format, rounding, random);
  for_each_piece(x, &out, threads, [&](const void* from, void* to, std::size_t n, u64 first) {
    rounder(from, to, n, first);
  });
  return true;
}

// Whether x is one element, broadcast.
bool is_uniform(const Array& x) {
  for (std::size_t d = 0; d < x.shape.size(); ++d)
    if (x.shape[d] != 1 && x.strides[d] != 0) return false;
  return true;
}

// Arithmetic by the loops of float_arithmetic.hpp, if they do it and there is nothing to report.
// Pieces of plain arrays are taken where they lie, on several threads; others are gathered.
bool arithmetic_by_loops(Operation op, std::span<const Array> operands, const Array& out,
                         Format format, const Rounding& rounding, const RandomStream& random,
                         int threads) {
  std::array<Element, 3> types{};
  for (std::size_t k = 0; k < operands.size(); ++k) types.at(k) = operands[k].element;
  const std::span<const Element> in(types.data(), operands.size());
  if (!FloatArithmetic::exists(op, in, out.element, format, rounding, random.count)) return false;
  LoopOptions
      how;  // a piece is small, but many that will not be read soon are stored past the caches
  how.stream_from = out.size() * size_of(out.element) >= how.stream_from ? 0 : SIZE_MAX;
  const FloatArithmetic arithmetic(op, in, out.element, format, rounding, random, how);

  constexpr std::size_t piece = FloatArithmetic::block;
  using Room = std::array<std::byte, piece * 8>;
  const bool plain = is_plain_array(out) &&
                     std::all_of(operands.begin(), operands.end(),
                                 [](const Array& x) { return is_plain_array(x) || is_uniform(x); });
  // visit(pointers to the operands' elements, memory for results, n, index of the first)
  const auto for_each_piece_of_all = [&](bool stores, auto visit) {
    parallel_ranges(out.size(), plain ? threads : 1, [&](std::size_t begin, std::size_t end) {
      alignas(64) std::array<Room, 4> room;
      std::vector<Walk> walks;
      FloatArithmetic::Operands at{};
      for (std::size_t k = 0; k < operands.size(); ++k) {
        walks.emplace_back(operands[k]);
        at[k] = room[k].data();
        if (is_uniform(operands[k])) walks[k].gather(room[k].data(), std::min(piece, end - begin));
      }
      Walk results(out);
      for (std::size_t done = begin; done < end; done += piece) {
        const std::size_t n = std::min(piece, end - done);
        for (std::size_t k = 0; k < operands.size(); ++k) {
          if (is_uniform(operands[k])) continue;
          if (is_plain_array(operands[k]))
            at[k] = static_cast<const std::byte*>(operands[k].data) +
                    done * size_of(operands[k].element);
          else
            walks[k].gather(room[k].data(), n);
        }
        const bool direct = is_plain_array(out);
        void* to = direct ? static_cast<std::byte*>(out.data) + done * size_of(out.element)
                          : room[3].data();
        visit(at, to, n, u64{done});
        if (stores && !direct) results.scatter(room[3].data(), n);
      }
    });
  };
  if (!format.has_nan() && rounding.nan_to == NanTo::error) {
    std::atomic<bool> nan = false;
    for_each_piece_of_all(false, [&](const auto& at, void*, std::size_t n, u64) {
      if (arithmetic.gives_nan(at, n)) nan = true;
    });
    if (nan) return false;  // the core says which element
  }
  for_each_piece_of_all(true, [&](const auto& at, void* to, std::size_t n, u64 first) {
    arithmetic(at, to, n, first);
  });
  return true;
}

template <class S>
void run_job(Operation op, std::span<const Array> operands, const Array& out, Format format,
             const Rounding& rounding, const RandomStream& random, std::uint8_t* flags) {
  const Job<S> job{.op = op,
                   .operands = operands,
                   .out = out,
                   .format = format,
                   .rounding = rounding,
                   .random = random,
                   .flags = flags,
                   .bits = leading_bits(format.precision, rounding.mode, random.count),
                   .stochastic = is_stochastic(rounding.mode),
                   .out_as_values = !holds_codes(out.element) && !(out.format == format)};
  const bool may_fail =
      !is_predicate(op) && (rounding.overflow == Overflow::error ||
                            (!format.has_nan() && rounding.nan_to == NanTo::error));
  if (is_arithmetic(op)) {
    if (may_fail) job.template check<true>();
    job.template run<true>();
  } else {
    if (may_fail) job.template check<false>();
    job.template run<false>();
  }
}

// An operation of one operand of 8 or 16 bits: the core's results for all its bit patterns, looked
// up. False if that is not worth while, or if some pattern is an error that only the core can tell
// the element of.
template <class S>
bool apply_by_table(Operation op, const Array& x, const Array& out, Format format,
                    const Rounding& rounding, int threads) {
  const std::size_t bytes = size_of(x.element), result_bytes = size_of(out.element);
  if (bytes > 2 || is_stochastic(rounding.mode)) return false;
  const std::size_t patterns = std::size_t{1} << (8 * bytes);
  if (out.size() < 2 * patterns) return false;
  std::vector<std::uint16_t> every(patterns);
  for (std::size_t k = 0; k < patterns; ++k) every[k] = static_cast<std::uint16_t>(k);
  std::vector<std::byte> table(patterns * result_bytes);
  const auto view = [&](const Array& like, void* data, std::size_t stride) {
    return Array{data,
                 like.element,
                 like.format,
                 {static_cast<std::ptrdiff_t>(patterns)},
                 {static_cast<std::ptrdiff_t>(stride)}};
  };
  const Array all = view(x, every.data(), 2), results = view(out, table.data(), result_bytes);
  try {
    run_job<S>(op, {&all, 1}, results, format, rounding, {}, nullptr);
  } catch (const RoundingError&) {
    return false;
  }
  for_each_piece(x, &out, threads, [&](const void* from, void* to, std::size_t n, u64) {
    look_up(from, bytes, to, result_bytes, n, table.data());
  });
  return true;
}

template <class S>
void compute(Operation op, std::span<const Array> operands, const Array& out, Format format,
             const Rounding& rounding, const RandomStream& random, std::uint8_t* flags,
             int threads) {
  if (operands.size() == 1 && flags == nullptr &&
      apply_by_table<S>(op, operands[0], out, format, rounding, threads))
    return;
  run_job<S>(op, operands, out, format, rounding, random, flags);
}

}  // namespace

bool overlaps(const Array& a, const Array& b) {
  const auto extent = [](const Array& x) {
    std::ptrdiff_t low = 0;
    std::ptrdiff_t high = static_cast<std::ptrdiff_t>(size_of(x.element));
    for (std::size_t d = 0; d < x.shape.size(); ++d) {
      const std::ptrdiff_t reach = (x.shape[d] - 1) * x.strides[d];
      (reach < 0 ? low : high) += reach;
    }
    const std::byte* base = static_cast<const std::byte*>(x.data);
    return std::array<const std::byte*, 2>{base + low, base + high};
  };
  const auto [a0, a1] = extent(a);
  const auto [b0, b1] = extent(b);
  if (a1 <= b0 || b1 <= a0) return false;
  return a.data != b.data || a.strides != b.strides || a.element != b.element;
}

bool repeats_memory(const Array& a) {
  if (a.size() < 2) return false;
  std::vector<std::array<std::ptrdiff_t, 2>> steps;
  for (std::size_t d = 0; d < a.shape.size(); ++d) {
    if (a.shape[d] > 1) steps.push_back({std::abs(a.strides[d]), a.shape[d] - 1});
  }
  std::sort(steps.begin(), steps.end());
  // Elements are apart if each dimension steps over all that the lesser ones reach.
  auto reach = static_cast<std::ptrdiff_t>(size_of(a.element));
  for (const auto& [stride, count] : steps) {
    if (stride < reach) return true;
    reach += stride * count;
  }
  return false;
}

void require_valid(int count, std::span<const Array> operands, const Array& out, Format format,
                   const Rounding& rounding, const RandomStream& random, bool integers) {
  if (static_cast<int>(operands.size()) != count) {
    throw std::invalid_argument("the operation takes " + std::to_string(count) +
                                " operands, but got " + std::to_string(operands.size()));
  }
  if (const auto problem = problem_with(format)) throw std::invalid_argument(*problem);
  if (const auto problem = problem_with(rounding, format)) throw std::invalid_argument(*problem);
  if (is_stochastic(rounding.mode) && out.size() > 0 &&
      random.offset + (out.size() - 1) < random.offset) {
    throw std::invalid_argument("offset is " + std::to_string(random.offset) +
                                ", but must leave room below 2^64 for " +
                                std::to_string(out.size()) + " elements");
  }
  if (repeats_memory(out)) {
    throw std::invalid_argument(
        "the result repeats its memory: elements share bytes; pass an array of its own memory");
  }
  if (is_stochastic(rounding.mode) && (random.count < 1 || random.count > 64)) {
    throw std::invalid_argument("random_bits is " + std::to_string(random.count) +
                                ", but must be 1 to 64");
  }
  if (integers) {
    if (!holds_codes(out.element)) {
      throw std::invalid_argument(
          "the operation gives small integers, so its result is an array of codes");
    }
  } else if (holds_codes(out.element)) {
    const auto room = static_cast<int>(size_of(out.element) * 8);
    if (format.width() > room) {
      throw std::invalid_argument("codes of " + name_of(format) + " have " +
                                  std::to_string(format.width()) +
                                  " bits and do not fit elements of " + std::to_string(room));
    }
  } else if (!holds_every_value(out.format, format)) {
    throw std::invalid_argument(
        "an array of " + name_of(out.format) + " cannot hold every value of " + name_of(format) +
        (format.width() <= 64 ? "; use a wider array type, or encode, which gives codes"
                              : "; no array type does, the command line and C++ compute with it"));
  }
  for (const Array& x : operands) {
    if (x.shape != out.shape)
      throw std::invalid_argument("operands and result must have the same shape");
    if (out.size() != 0 && overlaps(x, out)) {
      throw std::invalid_argument(
          "an operand overlaps the result without being the same array; copy it first");
    }
  }
}

void require_reportable(Flags flags, const std::string& what, Format format,
                        const Rounding& rounding) {
  if ((flags & flag_nan_lost) != 0) {
    std::string remedy = "'largest'";
    if (format.zero) remedy += " or 'zero'";
    if (format.has_negative_zero()) remedy += " or 'negative-zero'";
    const char* why = format.is_signed ? " gives NaN, which " : " gives NaN or is negative, which ";
    throw RoundingError(what + why + name_of(format) + " cannot hold; choose nan_to " + remedy);
  }
  if (rounding.overflow == Overflow::error && (flags & flag_overflow) != 0) {
    throw RoundingError(what + " overflows " + name_of(format) +
                        "; choose another overflow policy than 'error', such as 'saturate'");
  }
}

std::string too_wide(int needed_bits) {
  return "this operation needs a significand of " + std::to_string(needed_bits) +
         " bits, and 128 is the limit of this version; use operands and results of fewer bits of "
         "precision, or fewer random bits";
}

std::size_t size_of(Element e) {
  constexpr std::array<std::size_t, 8> bytes = {2, 2, 4, 8, 1, 2, 4, 8};
  return bytes.at(static_cast<std::size_t>(e));
}

Format format_of(Element e) {
  switch (e) {
    case Element::binary16: return formats::binary16;
    case Element::bfloat16: return formats::bfloat16;
    case Element::binary32: return formats::binary32;
    case Element::binary64: return formats::binary64;
    default: throw std::logic_error("an array of codes has its own format");
  }
}

std::size_t Array::size() const {
  std::size_t n = 1;
  for (const std::ptrdiff_t extent : shape) n *= static_cast<std::size_t>(extent);
  return n;
}

bool Array::is_contiguous() const {
  std::ptrdiff_t expected = static_cast<std::ptrdiff_t>(size_of(element));
  for (std::size_t d = shape.size(); d-- > 0;) {
    if (shape[d] != 1 && strides[d] != expected) return false;
    expected *= shape[d];
  }
  return true;
}

void apply(Operation op, std::span<const Array> operands, const Array& out, Format format,
           const Rounding& rounding, const RandomStream& random, std::uint8_t* flags, int threads) {
  require_valid(operand_count(op), operands, out, format, rounding, random, is_predicate(op));
  if (out.size() == 0) return;

  if (op == Operation::convert && flags == nullptr &&
      round_by_loops(operands[0], out, format, rounding, random, threads))
    return;
  if (is_arithmetic(op) && flags == nullptr &&
      arithmetic_by_loops(op, operands, out, format, rounding, random, threads))
    return;

  int precision = 0;
  int width = holds_codes(out.element) ? format.width() : out.format.width();
  for (const Array& x : operands) {
    precision = x.format.precision > precision ? x.format.precision : precision;
    width = x.format.width() > width ? x.format.width() : width;
  }
  const int needed = required_bits(op, precision, format, width, rounding.mode, random.count);
  if (needed <= width_of<u64>) {
    compute<u64>(op, operands, out, format, rounding, random, flags, threads);
  } else if (needed <= width_of<u128>) {
    compute<u128>(op, operands, out, format, rounding, random, flags, threads);
  } else {
    compute<u256>(op, operands, out, format, rounding, random, flags, threads);
  }
}

}  // namespace halfulp
