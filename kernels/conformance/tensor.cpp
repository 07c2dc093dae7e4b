#include "kernels/conformance/tensor.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "emu/core/formats.hpp"
#include "emu/core/round_pack.hpp"

namespace halfulp::conformance {

namespace {

constexpr Format none{};
constexpr ElementInfo elements[] = {
    {"float32", 4, true, 2, 32, formats::binary32},
    {"float64", 8, true, 2, 64, formats::binary64},
    {"float16", 2, true, 2, 16, formats::binary16},
    {"bfloat16", 2, true, 4, 16, formats::bfloat16},
    {"float8_e4m3fn", 1, true, 10, 8, formats::float8_e4m3fn},
    {"float8_e5m2", 1, true, 12, 8, formats::float8_e5m2},
    {"float8_e8m0fnu", 1, true, 14, 8, formats::float8_e8m0fnu},
    {"float4_e2m1fn", 1, true, 17, 4, formats::float4_e2m1fn},
    {"int8", 1, false, 0, 8, none},
    {"uint8", 1, false, 1, 8, none},
    {"int32", 4, false, 0, 32, none},
    {"int64", 8, false, 0, 64, none},
};

std::int64_t sign_extended(std::uint64_t code, int bits) {
  const int unused = 64 - bits;
  return static_cast<std::int64_t>(code << unused) >> unused;
}

}  // namespace

const ElementInfo& info(Element e) {
  return elements[static_cast<std::size_t>(e)];
}

Element element_named(std::string_view name) {
  std::string known;
  for (std::size_t i = 0; i < std::size(elements); ++i) {
    if (elements[i].name == name) return static_cast<Element>(i);
    known += (i == 0 ? "" : ", ") + std::string(elements[i].name);
  }
  throw std::invalid_argument("no element type \"" + std::string(name) + "\"; there are " + known);
}

std::size_t TensorInfo::count() const {
  std::size_t n = 1;
  for (const std::int64_t extent : shape) n *= static_cast<std::size_t>(extent);
  return n;
}

Tensor::Tensor(TensorInfo what) : TensorInfo(std::move(what)) {
  bytes.resize(count() * static_cast<std::size_t>(info(element).bytes));
}

std::uint64_t Tensor::code(std::size_t i) const {
  const auto width = static_cast<std::size_t>(info(element).bytes);
  std::uint64_t code = 0;
  std::memcpy(&code, bytes.data() + i * width, width);
  return code;
}

void Tensor::set_code(std::size_t i, std::uint64_t code) {
  const auto width = static_cast<std::size_t>(info(element).bytes);
  std::memcpy(bytes.data() + i * width, &code, width);
}

double Tensor::value(std::size_t i) const {
  const std::uint64_t bits = code(i);
  switch (element) {
    case Element::float32: return std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    case Element::float64: return std::bit_cast<double>(bits);
    case Element::uint8: return static_cast<double>(bits);
    case Element::int8:
    case Element::int32:
    case Element::int64: return static_cast<double>(sign_extended(bits, 8 * info(element).bytes));
    default: break;
  }
  const auto x = unpack<u64>(bits, info(element).format);
  double magnitude = 0;
  switch (x.kind) {
    case Kind::nan: return std::numeric_limits<double>::quiet_NaN();
    case Kind::infinite: magnitude = std::numeric_limits<double>::infinity(); break;
    case Kind::zero: break;
    case Kind::finite:
      magnitude = std::ldexp(static_cast<double>(x.significand), x.exponent);
      break;
  }
  return x.negative ? -magnitude : magnitude;
}

void Tensor::set(std::size_t i, double value) {
  if (!info(element).is_float) {
    set_code(i, static_cast<std::uint64_t>(static_cast<std::int64_t>(value)));
    return;
  }
  const auto x = unpack<u64>(std::bit_cast<std::uint64_t>(value), formats::binary64);
  set_code(i, static_cast<std::uint64_t>(
                  round_pack(x, info(element).format, Rounding{}, RandomBits{}).code));
}

std::vector<double> Tensor::values() const {
  std::vector<double> all(count());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = value(i);
  return all;
}

Tensor sliced(const Tensor& t, std::size_t dimension, std::int64_t begin, std::int64_t end) {
  TensorInfo what = t;
  what.shape[dimension] = end - begin;
  Tensor part(what);
  std::size_t outer = 1;
  auto inner = static_cast<std::size_t>(info(t.element).bytes);
  for (std::size_t d = 0; d < t.shape.size(); ++d) {
    if (d != dimension) (d < dimension ? outer : inner) *= static_cast<std::size_t>(t.shape[d]);
  }
  const std::size_t whole = inner * static_cast<std::size_t>(t.shape[dimension]);
  const std::size_t taken = inner * static_cast<std::size_t>(end - begin);
  if (taken == 0) return part;
  for (std::size_t i = 0; i < outer; ++i) {
    std::memcpy(part.bytes.data() + i * taken,
                t.bytes.data() + i * whole + static_cast<std::size_t>(begin) * inner, taken);
  }
  return part;
}

}  // namespace halfulp::conformance
