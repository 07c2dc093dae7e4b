// Quantising and dequantising, broken in one way each.
#include <algorithm>
#include <string_view>

#include "tests/strength/subject.hpp"

namespace halfulp_strength {

namespace {

// ---------------------------------------------------------------- quantising to E4M3FN
enum class Tie {
  none,
  away,          // ties away from zero
  toward_zero,   // truncation
  through_half,  // rounded to binary16 first
  no_subnormals,
  overflow_nan,  // where saturating is asked
  overflow_448,  // saturates where the largest is not reached yet: from 424
  infinity_nan,  // an infinity gives NaN
  nan_largest,
  unsigned_zero,  // −0 gives +0
  late_carry,     // a carry into the exponent is lost
};

// |x| in E4M3FN, from the definition: the exponent, then quanta.
template <Tie f>
std::uint8_t to_e4m3(float v) {
  const auto sign = static_cast<std::uint8_t>(std::signbit(v) ? 0x80 : 0);
  double x = std::fabs(static_cast<double>(v));
  if (std::isnan(v)) return f == Tie::nan_largest ? 0x7e : 0x7f;
  if (f == Tie::through_half) x = std::fabs(static_cast<double>(View::from_half(View::to_half(v))));
  if (std::isinf(v)) return sign | (f == Tie::infinity_nan ? 0x7f : 0x7e);
  if (f == Tie::overflow_448 && x >= 424) return sign | 0x7e;
  const int exponent = x < 0x1p-6 ? -6 : std::ilogb(x);
  const double quanta = std::ldexp(x, 3 - exponent);
  double whole = std::nearbyint(quanta);
  if constexpr (f == Tie::away) whole = std::floor(quanta + 0.5);
  if constexpr (f == Tie::toward_zero) whole = std::floor(quanta);
  if (f == Tie::late_carry && whole == 16) whole = 15;
  if (f == Tie::no_subnormals && x < 0x1p-6) whole = whole >= 8 ? 8 : 0;
  const double value = std::ldexp(whole, exponent - 3);
  if (value > 448) return sign | (f == Tie::overflow_nan ? 0x7f : 0x7e);
  if (f == Tie::unsigned_zero && whole == 0) return 0;
  const int code =
      x < 0x1p-6 ? static_cast<int>(whole) : ((exponent + 6) << 3) + static_cast<int>(whole);
  return sign | static_cast<std::uint8_t>(code);
}

template <Tie f>
int quantize(void* /*state*/, const halfulp_call* call) {
  const View x = in(call, "x");
  const halfulp_dltensor* codes = halfulp::conformance::find_output(*call, "codes");
  auto* to = static_cast<std::uint8_t*>(codes->data) + codes->byte_offset;
  for (std::int64_t i = 0; i < x.count(); ++i) to[i] = to_e4m3<f>(x[i]);
  return HALFULP_OK;
}

// ---------------------------------------------------------------- any format, and blocks
enum class Fault {
  none,
  by_arithmetic,  // correct: a multiple of the binade's quantum
  ties_away,
  ties_up,
  toward_zero,
  no_subnormals,
  wraps,             // beyond the largest by the code's bits
  overflow_early,    // the largest from halfway to it on
  no_sign,           // of zeros
  stochastic_half,   // the neighbour above for 9/16 and more
  lowest_127,        // −128 of int8 as −127
  scale_up,          // MX: the exponent of amax rounded up
  scale_of_amax,     // MX: the exponent of amax itself
  scale_unrounded,   // codes by the scale before it was rounded
  scale_before,      // codes by the scale of the block before
  row_maximum,       // one maximum for a row
  signed_maximum,    // the largest value for the largest magnitude
  first_maximum,     // of the first half of a block
  block_off_by_one,  // blocks of one element less
  quotient_twice,    // x/tensor rounded to binary32, then divided by the scale
  reciprocal,        // times a reciprocal rounded to binary32
  no_tensor_scale,
  tensor_in_scale,  // codes by the scale without the tensor's
  tail_unwritten,   // the scale of a ragged block
  nan_ignored,      // NaN in a block as if it were 0
};

struct Codes {
  int type;     // DLPack's
  int largest;  // code of the largest value
  double end;   // and that value
};
Codes codes_of(int type) {
  if (type == 0) return {0, 127, 127};
  if (type == 10) return {10, 0x7e, 448};
  if (type == 12) return {12, 0x7b, 57344};
  return {17, 7, 6};
}

// The code of v, from the codes on either side of it and where between them it lies.
template <Fault f>
std::uint8_t quantized(double v, const Codes& t) {
  const auto value = [&](int code) {
    return static_cast<double>(View::from_byte(t.type, static_cast<std::uint8_t>(code)));
  };
  const double x = std::fabs(v);
  bool negative = std::signbit(v);
  int code = t.largest;
  if (!(x >= t.end)) {
    int low = 0;
    int high = t.largest;  // value(low) <= x < value(high)
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (value(middle) <= x ? low : high) = middle;
    }
    const double share = (x - value(low)) / (value(high) - value(low));
    bool up = share > 0.5 || (share == 0.5 && low % 2 == 1);
    if constexpr (f == Fault::ties_away) up = share >= 0.5;
    if constexpr (f == Fault::ties_up) up = share > 0.5 || (share == 0.5 && !negative);
    if constexpr (f == Fault::toward_zero) up = false;
    if constexpr (f == Fault::stochastic_half) up = share >= 0.5625;
    if constexpr (f == Fault::by_arithmetic) {
      const double quantum = value(high) - value(low);
      up = std::nearbyint(x / quantum) * quantum > value(low);
    }
    code = up ? high : low;
    const int normal = t.type == 10 ? 8 : t.type == 12 ? 4 : t.type == 17 ? 2 : 0;
    if (f == Fault::no_subnormals && code < normal) code = 0;
    if (f == Fault::overflow_early && low + 1 == t.largest && share >= 0.25) code = t.largest;
  } else if (f == Fault::wraps) {
    code = static_cast<int>(static_cast<std::int64_t>(std::fmod(x, 256))) & t.largest;
  }
  if (t.type == 0) {
    if (v <= -127.5 && f != Fault::lowest_127) return 0x80;
    return static_cast<std::uint8_t>(negative ? -code : code);
  }
  if (f == Fault::no_sign && code == 0) negative = false;
  const int sign = t.type == 17 ? 8 : 0x80;
  return static_cast<std::uint8_t>(code | (negative ? sign : 0));
}

template <Fault f>
int quantize_plain(void* /*state*/, const halfulp_call* call) {
  const View x = in(call, "x");
  const View y = out(call, "codes");
  const Codes t = codes_of(y.type());
  for (std::int64_t i = 0; i < x.count(); ++i) {
    if (std::isnan(x[i])) {
      y.put_byte(i, t.type == 12 ? 0x7e : t.type == 10 ? 0x7f : 0);
    } else {
      y.put_byte(i, quantized<f>(x[i], t));
    }
  }
  return HALFULP_OK;
}

template <Fault f>
int quantize_blocks(void* /*state*/, const halfulp_call* call) {
  const View x = in(call, "x");
  const View y = out(call, "codes");
  const View scales = out(call, "scale");
  const Codes t = codes_of(y.type());
  const bool nvfp4 = std::string_view(call->variant) == "nvfp4";
  const double tensor = nvfp4 ? static_cast<double>(in(call, "tensor_scale")[0]) : 1;
  const std::int64_t n = x.extent(1);
  const std::int64_t size = nvfp4 ? 16 : 32;
  const std::int64_t blocks = scales.extent(1);
  for (std::int64_t row = 0; row < x.extent(0); ++row) {
    double before = 1;
    for (std::int64_t block = 0; block < blocks; ++block) {
      const std::int64_t from = block * size;
      const std::int64_t to = std::min(n, from + size);
      std::int64_t first = f == Fault::row_maximum ? 0 : from;
      std::int64_t last = f == Fault::row_maximum ? n : to;
      if constexpr (f == Fault::first_maximum) last = from + (to - from + 1) / 2;
      if (f == Fault::block_off_by_one && last - first > 1) --last;
      double amax = 0;
      bool finite = true;
      for (std::int64_t i = first; i < last; ++i) {
        const double v = x[row * n + i];
        if (std::isnan(v) && f == Fault::nan_ignored) continue;
        finite = finite && std::isfinite(v);
        amax = std::max(amax, f == Fault::signed_maximum ? v : std::fabs(v));
      }
      const std::int64_t at = row * blocks + block;
      double exact = 0;  // scale
      std::uint8_t code = 255;
      if (nvfp4) {
        exact = amax / (6 * (f == Fault::no_tensor_scale ? 1 : tensor));
        code = finite ? quantized<Fault::none>(exact, codes_of(10)) : 0x7f;
      } else if (finite) {
        const int emax = f == Fault::scale_of_amax ? 0 : t.type == 17 ? 2 : 8;
        int exponent = amax == 0 ? -127 : std::clamp(std::ilogb(amax) - emax, -127, 127);
        if (f == Fault::scale_up && amax != 0 && amax != std::ldexp(1.0, std::ilogb(amax)))
          exponent = std::min(exponent + 1, 127);
        code = static_cast<std::uint8_t>(exponent + 127);
        exact = amax / t.end;
      }
      const bool ragged = to - from < size;
      if (!(f == Fault::tail_unwritten && ragged)) scales.put_byte(at, code);
      double scale = View::from_byte(scales.type(), code);
      if (f == Fault::scale_unrounded && exact > 0) scale = exact;
      const double own = scale;
      if constexpr (f == Fault::scale_before) scale = before;
      before = own;
      for (std::int64_t i = from; i < to; ++i) {
        double v = x[row * n + i];
        if (std::isnan(v) || !(scale > 0)) v = 0;
        double divisor = scale * (f == Fault::tensor_in_scale ? 1 : tensor);
        double q = v / divisor;
        if constexpr (f == Fault::quotient_twice)
          q = static_cast<double>(static_cast<float>(static_cast<float>(v / tensor)) /
                                  static_cast<float>(scale));
        if constexpr (f == Fault::reciprocal)
          q = static_cast<double>(static_cast<float>(v) * (1 / static_cast<float>(divisor)));
        if (std::isnan(q)) q = 0;
        y.put_byte(row * n + i, quantized<f>(q, t));
      }
    }
  }
  return HALFULP_OK;
}

// ---------------------------------------------------------------- back
enum class Back {
  none,          // in binary64, rounded once
  in_float,      // correct: code times scale is exact in binary32, then the tensor's scale
  scales_first,  // scale times tensor's scale rounded before
  no_scale,
  block_before,
  next_row,          // the next row's scales
  block_off_by_one,  // scales change one element late
  no_tensor_scale,
  nan_as_number,
  scale_nan_as_number,
  flushed_codes,
  flushed_results,
  least_scale_zero,  // E8M0's 2^-127 as 0
  exponent_off,
  unsigned_codes,
  no_negative_zero,
  bfloat16_results,
  saturating,      // infinity becomes the largest number
  tail_unwritten,  // of n mod 8 elements
};

template <Back f>
int dequantize(void* /*state*/, const halfulp_call* call) {
  const View codes = in(call, "codes");
  const View y = out(call, "y");
  const std::string_view variant = call->variant;
  const bool nvfp4 = variant == "nvfp4";
  const bool blocks = nvfp4 || variant.starts_with("mx");
  const std::int64_t n = codes.extent(1);
  const std::int64_t size = nvfp4 ? 16 : 32;
  const float tensor = nvfp4 && f != Back::no_tensor_scale ? in(call, "tensor_scale")[0] : 1;
  for (std::int64_t i = 0; i < codes.count(); ++i) {
    float v = codes[i];
    const int type = codes.type();
    if (f == Back::unsigned_codes) v = type == 0 ? static_cast<float>(codes.byte(i)) : std::fabs(v);
    if (f == Back::nan_as_number && std::isnan(v)) v = 480;
    const float least = type == 10 ? 0x1p-6F : type == 12 ? 0x1p-14F : 1;
    if (f == Back::flushed_codes && std::fabs(v) < least) v = std::copysign(0.0F, v);
    float s = 1;
    if (blocks) {
      const View scale = in(call, "scale");
      std::int64_t row = i / n;
      std::int64_t block = i % n / size;
      if constexpr (f == Back::next_row) row = (row + 1) % codes.extent(0);
      if constexpr (f == Back::block_before) block = std::max<std::int64_t>(block - 1, 0);
      if constexpr (f == Back::block_off_by_one)
        block = std::max<std::int64_t>(i % n - 1, 0) / size;
      s = scale[row * scale.extent(1) + block];
      if (f == Back::scale_nan_as_number && std::isnan(s))
        s = nvfp4 ? 480 : std::numeric_limits<float>::infinity();
      if (f == Back::least_scale_zero && s == 0x1p-127F) s = 0;
      if (f == Back::exponent_off) s *= 2;
      if (f == Back::no_scale) s = 1;
    }
    float r = static_cast<float>(static_cast<double>(v) * static_cast<double>(s) *
                                 static_cast<double>(tensor));
    if constexpr (f == Back::in_float) r = v * s * tensor;
    if constexpr (f == Back::scales_first) r = v * (s * tensor);
    if constexpr (f == Back::flushed_results) r = flushed(r);
    if (f == Back::no_negative_zero && r == 0) r = 0;
    if constexpr (f == Back::bfloat16_results) r = as_bfloat16(r);
    if (f == Back::saturating && std::isinf(r))
      r = std::copysign(std::numeric_limits<float>::max(), r);
    if (f == Back::tail_unwritten && i >= codes.count() - codes.count() % 8) continue;
    y.set(i, r);
  }
  return HALFULP_OK;
}

}  // namespace

void add_codes(Subjects& all) {
#define QUANTIZE(fault, what, correct) \
  all.push_back({"quantize", "float8_e4m3fn", #fault, what, correct, quantize<Tie::fault>});
  QUANTIZE(none, "by its definition", true)
  QUANTIZE(away, "ties away from zero", false)
  QUANTIZE(toward_zero, "truncated", false)
  QUANTIZE(through_half, "through binary16: rounded twice", false)
  QUANTIZE(no_subnormals, "no subnormal codes", false)
  QUANTIZE(overflow_nan, "NaN beyond the largest", false)
  QUANTIZE(overflow_448, "the largest from 424 on", false)
  QUANTIZE(infinity_nan, "NaN for infinities", false)
  QUANTIZE(nan_largest, "the largest for NaN", false)
  QUANTIZE(unsigned_zero, "-0 becomes +0", false)
  QUANTIZE(late_carry, "a carry into the exponent lost", false)
#undef QUANTIZE
#define PLAIN(variant, fault, what, correct) \
  all.push_back({"quantize", variant, #fault, what, correct, quantize_plain<Fault::fault>});
  PLAIN("float8_e4m3fn", by_arithmetic, "a multiple of the binade's quantum", true)
  for (const char* variant : {"float8_e5m2", "float4_e2m1fn", "int8"}) {
    const bool is_int = std::string_view(variant) == "int8";
    PLAIN(variant, none, "between neighbours", true)
    PLAIN(variant, by_arithmetic, "a multiple of the binade's quantum", true)
    PLAIN(variant, ties_away, "ties away from zero", false)
    PLAIN(variant, ties_up, "ties upward", false)
    PLAIN(variant, toward_zero, "truncated", false)
    PLAIN(variant, wraps, "wraps beyond the largest", false)
    PLAIN(variant, stochastic_half, "the neighbour above from 9/16 on", false)
    if (!is_int) {
      PLAIN(variant, no_subnormals, "no subnormal codes", false)
      PLAIN(variant, overflow_early, "the largest too early", false)
      PLAIN(variant, no_sign, "-0 becomes +0", false)
    }
  }
  PLAIN("int8", lowest_127, "-128 becomes -127", false)
#undef PLAIN
#define BLOCKS(fault, what, correct) \
  all.push_back({"quantize", variant, #fault, what, correct, quantize_blocks<Fault::fault>});
  for (const char* variant : {"mxfp8_e4m3", "mxfp4", "nvfp4"}) {
    const bool nvfp4 = std::string_view(variant) == "nvfp4";
    BLOCKS(none, "between neighbours", true)
    BLOCKS(by_arithmetic, "a multiple of the binade's quantum", true)
    BLOCKS(ties_away, "ties away from zero", false)
    BLOCKS(toward_zero, "truncated", false)
    BLOCKS(no_subnormals, "no subnormal codes", false)
    BLOCKS(no_sign, "-0 becomes +0", false)
    BLOCKS(scale_unrounded, "codes by the scale before it was rounded", false)
    BLOCKS(scale_before, "codes by the scale of the block before", false)
    BLOCKS(row_maximum, "one maximum for a row", false)
    BLOCKS(signed_maximum, "the largest value for the largest magnitude", false)
    BLOCKS(first_maximum, "the maximum of half a block", false)
    BLOCKS(block_off_by_one, "the last of a block not in its maximum", false)
    BLOCKS(tail_unwritten, "the scale of a ragged block not written", false)
    BLOCKS(nan_ignored, "NaN does not make the scale NaN", false)
    if (nvfp4) {
      BLOCKS(quotient_twice, "divided twice, rounded each time", false)
      BLOCKS(reciprocal, "times a rounded reciprocal", false)
      BLOCKS(no_tensor_scale, "scales without the tensor's", false)
      BLOCKS(tensor_in_scale, "codes without the tensor's scale", false)
    } else {
      BLOCKS(scale_up, "the scale's exponent rounded up", false)
      BLOCKS(scale_of_amax, "the exponent of the maximum itself", false)
    }
  }
#undef BLOCKS
#define BACK(fault, what, correct) \
  all.push_back({"dequantize", variant, #fault, what, correct, dequantize<Back::fault>});
  for (const char* variant :
       {"float8_e4m3fn", "float8_e5m2", "float4_e2m1fn", "int8", "mxfp8_e4m3", "mxfp4", "nvfp4"}) {
    const std::string_view v = variant;
    const bool mx = v.starts_with("mx");
    const bool e4m3 = v == "float8_e4m3fn" || v == "mxfp8_e4m3";
    BACK(none, "in binary64, rounded once", true)
    BACK(in_float, "code times scale in binary32, which is exact", true)
    BACK(unsigned_codes, "the sign lost", false)
    BACK(tail_unwritten, "the last n mod 8 elements not written", false)
    if (v != "int8") {
      BACK(no_negative_zero, "-0 becomes +0", false)
      BACK(flushed_codes, "subnormal codes flushed", false)
    }
    if (e4m3) {
      BACK(nan_as_number, "NaN is 480", false)
    }
    if (v == "float8_e5m2") {
      BACK(saturating, "infinity becomes the largest number", false)
    }
    if (mx || v == "nvfp4") {
      BACK(no_scale, "scales left out", false)
      BACK(block_before, "the scale of the block before", false)
      BACK(next_row, "the next row's scales", false)
      BACK(block_off_by_one, "scales change one element late", false)
      BACK(scale_nan_as_number, "the scale's NaN is a number", false)
      BACK(flushed_results, "subnormal results flushed", false)
      BACK(exponent_off, "scales twice as large", false)
    }
    if (mx) {
      BACK(least_scale_zero, "the scale 2^-127 is 0", false)
    }
    if (v == "nvfp4") {
      BACK(scales_first, "the scales' product rounded first", false)
      BACK(no_tensor_scale, "the tensor's scale left out", false)
      BACK(bfloat16_results, "results rounded to bfloat16", false)
    }
  }
#undef BACK
}

}  // namespace halfulp_strength
