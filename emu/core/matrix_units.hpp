// The table of matrix units: one row for each architecture, instruction and pair of types. A new
// row is a line here; everything else takes it from the table.
//
// Names: architecture.instruction[.kN].operands.result, the operands once where both have one type;
// kN where an architecture has several k of one type and this is not the largest.
#pragma once

#include "emu/core/matrix_unit.hpp"

namespace halfulp {

enum class Evidence : std::uint8_t {
  none,       // somebody's claim, or ours, that no recorded result supports
  published,  // compared with results of the hardware that others published
  hardware,   // compared with results that this project recorded: data/hardware
};
inline constexpr const char* evidence_names[] = {"none", "published", "hardware"};

struct NamedUnit {
  const char* name;
  MatrixUnit unit;
  Evidence evidence;
  const char* source;
};

namespace units {

using namespace formats;

// A fused sum of binary32 results: B products and c, F fraction bits, cut to 23.
constexpr MatrixUnit f32(Format a, Format b, int k, int block, int fraction_bits) {
  MatrixUnit u;
  u.a = a;
  u.b = b;
  u.k = k;
  u.block = block;
  u.fraction_bits = fraction_bits;
  if (a == tf32) u.dropped_bits = 13;
  u.floor_exponent = -133;
  return u;
}

// The same with c and d of binary16, rounded to nearest even.
constexpr MatrixUnit f16(Format a, Format b, int k, int block, int fraction_bits) {
  MatrixUnit u = f32(a, b, k, block, fraction_bits);
  u.d = u.sum = binary16;
  u.floor_exponent = -21;
  u.mode = Mode::nearest_even;
  return u;
}

// FP8 on wgmma, and on Ada: results cut to 13 fraction bits, in a binary32 word.
constexpr MatrixUnit f8(Format a, Format b, int k, int block) {
  MatrixUnit u = f32(a, b, k, block, 13);
  u.sum = e8m13;
  return u;
}

// FP8 on Hopper's mma.sync: operands become binary16; two sums from +0, k mod 4 in {0, 1} before
// {2, 3}, chained; then c is added.
constexpr MatrixUnit through_f16(MatrixUnit u) {
  u.operand_emin = binary16.emin();
  u.split = UnitSplit::pairs;
  u.block = u.k / 2;
  u.c = CEntry::after;
  return u;
}

// Each term's exponent is raised by the exponents of its two E8M0 scales, of 32 elements each.
constexpr MatrixUnit scaled(MatrixUnit u) {
  u.scale_block = 32;
  return u;
}

// k64 of E2M1: exact sums of 16 products, each times the significands of its scales.
constexpr MatrixUnit fp4(Format scale, int scale_block) {
  MatrixUnit u = f32(float4_e2m1fn, float4_e2m1fn, 64, 64, 35);
  u.group = 16;
  u.scale = scale;
  u.scale_block = scale_block;
  return u;
}

constexpr MatrixUnit f64(int k) {
  MatrixUnit u;
  u.kind = UnitKind::fma_chain;
  u.a = u.b = u.d = u.sum = binary64;
  u.k = u.block = k;
  u.mode = Mode::nearest_even;
  return u;
}

constexpr MatrixUnit integers(int a_bits, bool a_signed, int b_bits, bool b_signed, int k,
                              bool saturate = false) {
  MatrixUnit u;
  u.kind = UnitKind::integer;
  u.k = u.block = k;
  u.a_bits = a_bits;
  u.b_bits = b_bits;
  u.a_signed = a_signed;
  u.b_signed = b_signed;
  u.saturate = saturate;
  return u;
}

constexpr MatrixUnit bits(UnitKind kind, int k) {
  MatrixUnit u;
  u.kind = kind;
  u.k = u.block = k;
  return u;
}

inline constexpr Format e4m3 = float8_e4m3fn;
inline constexpr Format e5m2 = float8_e5m2;
inline constexpr Format e3m2 = float6_e3m2fn;
inline constexpr Format e2m3 = float6_e2m3fn;
inline constexpr Format e2m1 = float4_e2m1fn;
inline constexpr const char* recorded = "data/hardware/h200";
inline constexpr const char* silicon =
    "an exact port of the model agreed with published results of the chips; not repeated here";
inline constexpr const char* claimed = "claimed by MMA-Sim or arXiv 2512.07004, or by analogy";

}  // namespace units

// clang-format off
inline constexpr NamedUnit named_units[] = {
    // Volta: m8n8k4.
    {"volta.mma.f16.f32", units::f32(formats::binary16, formats::binary16, 4, 4, 23), Evidence::published, units::silicon},
    {"volta.mma.f16.f16", units::f16(formats::binary16, formats::binary16, 4, 4, 23), Evidence::none, units::claimed},
    // Turing.
    {"turing.mma.f16.f32", units::f32(formats::binary16, formats::binary16, 8, 8, 24), Evidence::none, units::claimed},
    {"turing.mma.f16.f16", units::f16(formats::binary16, formats::binary16, 8, 8, 24), Evidence::none, units::claimed},
    {"turing.mma.s8.s32", units::integers(8, true, 8, true, 16), Evidence::none, units::claimed},
    // Ampere: k16 is two blocks of 8, TF32's k8 two of 4.
    {"ampere.mma.f16.f32", units::f32(formats::binary16, formats::binary16, 16, 8, 24), Evidence::published, units::silicon},
    {"ampere.mma.f16.f16", units::f16(formats::binary16, formats::binary16, 16, 8, 24), Evidence::none, units::claimed},
    {"ampere.mma.bf16.f32", units::f32(formats::bfloat16, formats::bfloat16, 16, 8, 24), Evidence::published, units::silicon},
    {"ampere.mma.tf32.f32", units::f32(formats::tf32, formats::tf32, 8, 4, 24), Evidence::published, units::silicon},
    {"ampere.mma.f64.f64", units::f64(4), Evidence::none, units::claimed},
    {"ampere.mma.s8.s32", units::integers(8, true, 8, true, 32), Evidence::none, units::claimed},
    // Ada: as Ampere, and FP8, two blocks of 16.
    {"ada.mma.f16.f32", units::f32(formats::binary16, formats::binary16, 16, 8, 24), Evidence::published, units::silicon},
    {"ada.mma.f16.f16", units::f16(formats::binary16, formats::binary16, 16, 8, 24), Evidence::none, units::claimed},
    {"ada.mma.bf16.f32", units::f32(formats::bfloat16, formats::bfloat16, 16, 8, 24), Evidence::published, units::silicon},
    {"ada.mma.tf32.f32", units::f32(formats::tf32, formats::tf32, 8, 4, 24), Evidence::published, units::silicon},
    {"ada.mma.e4m3.f32", units::f8(units::e4m3, units::e4m3, 32, 16), Evidence::published, units::silicon},
    {"ada.mma.e4m3.e5m2.f32", units::f8(units::e4m3, units::e5m2, 32, 16), Evidence::published, units::silicon},
    {"ada.mma.e5m2.e4m3.f32", units::f8(units::e5m2, units::e4m3, 32, 16), Evidence::published, units::silicon},
    {"ada.mma.e5m2.f32", units::f8(units::e5m2, units::e5m2, 32, 16), Evidence::published, units::silicon},
    {"ada.mma.s8.s32", units::integers(8, true, 8, true, 32), Evidence::none, units::claimed},
    // Hopper.
    {"hopper.wgmma.f16.f32",       units::f32(formats::binary16, formats::binary16, 16, 16, 25), Evidence::hardware, units::recorded},
    {"hopper.wgmma.f16.f16",       units::f16(formats::binary16, formats::binary16, 16, 16, 25), Evidence::hardware, units::recorded},
    {"hopper.wgmma.bf16.f32",      units::f32(formats::bfloat16, formats::bfloat16, 16, 16, 25), Evidence::hardware, units::recorded},
    {"hopper.wgmma.tf32.f32",      units::f32(formats::tf32, formats::tf32, 8, 8, 25), Evidence::hardware, units::recorded},
    {"hopper.wgmma.e4m3.f32",      units::f8(units::e4m3, units::e4m3, 32, 32), Evidence::hardware, units::recorded},
    {"hopper.wgmma.e4m3.e5m2.f32", units::f8(units::e4m3, units::e5m2, 32, 32), Evidence::hardware, units::recorded},
    {"hopper.wgmma.e5m2.e4m3.f32", units::f8(units::e5m2, units::e4m3, 32, 32), Evidence::hardware, units::recorded},
    {"hopper.wgmma.e5m2.f32",      units::f8(units::e5m2, units::e5m2, 32, 32), Evidence::hardware, units::recorded},
    {"hopper.wgmma.e4m3.f16",      units::f16(units::e4m3, units::e4m3, 32, 32, 13), Evidence::hardware, units::recorded},
    {"hopper.wgmma.e4m3.e5m2.f16", units::f16(units::e4m3, units::e5m2, 32, 32, 13), Evidence::hardware, units::recorded},
    {"hopper.wgmma.e5m2.e4m3.f16", units::f16(units::e5m2, units::e4m3, 32, 32, 13), Evidence::hardware, units::recorded},
    {"hopper.wgmma.e5m2.f16",      units::f16(units::e5m2, units::e5m2, 32, 32, 13), Evidence::hardware, units::recorded},
    {"hopper.wgmma.s8.s32",        units::integers(8, true, 8, true, 32), Evidence::hardware, units::recorded},
    {"hopper.wgmma.s8.u8.s32",     units::integers(8, true, 8, false, 32), Evidence::hardware, units::recorded},
    {"hopper.wgmma.u8.s8.s32",     units::integers(8, false, 8, true, 32), Evidence::hardware, units::recorded},
    {"hopper.wgmma.u8.s32",        units::integers(8, false, 8, false, 32), Evidence::hardware, units::recorded},
    {"hopper.wgmma.s8.s32.satfinite", units::integers(8, true, 8, true, 32, true), Evidence::hardware, units::recorded},
    {"hopper.wgmma.b1.and.s32",    units::bits(UnitKind::bits_and, 256), Evidence::hardware, units::recorded},
    {"hopper.mma.f16.f32",         units::f32(formats::binary16, formats::binary16, 16, 16, 25), Evidence::hardware, units::recorded},
    {"hopper.mma.k8.f16.f32",      units::f32(formats::binary16, formats::binary16, 8, 8, 25), Evidence::hardware, units::recorded},
    {"hopper.mma.f16.f16",         units::f16(formats::binary16, formats::binary16, 16, 16, 25), Evidence::hardware, units::recorded},
    {"hopper.mma.k8.f16.f16",      units::f16(formats::binary16, formats::binary16, 8, 8, 25), Evidence::hardware, units::recorded},
    {"hopper.mma.bf16.f32",        units::f32(formats::bfloat16, formats::bfloat16, 16, 16, 25), Evidence::hardware, units::recorded},
    {"hopper.mma.k8.bf16.f32",     units::f32(formats::bfloat16, formats::bfloat16, 8, 8, 25), Evidence::hardware, units::recorded},
    {"hopper.mma.tf32.f32",        units::f32(formats::tf32, formats::tf32, 8, 8, 25), Evidence::hardware, units::recorded},
    {"hopper.mma.k4.tf32.f32",     units::f32(formats::tf32, formats::tf32, 4, 4, 25), Evidence::hardware, units::recorded},
    {"hopper.mma.e4m3.f32",        units::through_f16(units::f32(units::e4m3, units::e4m3, 32, 16, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.e4m3.e5m2.f32",   units::through_f16(units::f32(units::e4m3, units::e5m2, 32, 16, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.e5m2.e4m3.f32",   units::through_f16(units::f32(units::e5m2, units::e4m3, 32, 16, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.e5m2.f32",        units::through_f16(units::f32(units::e5m2, units::e5m2, 32, 16, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.k16.e4m3.f32",      units::through_f16(units::f32(units::e4m3, units::e4m3, 16, 8, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.k16.e4m3.e5m2.f32", units::through_f16(units::f32(units::e4m3, units::e5m2, 16, 8, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.k16.e5m2.e4m3.f32", units::through_f16(units::f32(units::e5m2, units::e4m3, 16, 8, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.k16.e5m2.f32",      units::through_f16(units::f32(units::e5m2, units::e5m2, 16, 8, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.e4m3.f16",        units::through_f16(units::f16(units::e4m3, units::e4m3, 32, 16, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.e4m3.e5m2.f16",   units::through_f16(units::f16(units::e4m3, units::e5m2, 32, 16, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.e5m2.e4m3.f16",   units::through_f16(units::f16(units::e5m2, units::e4m3, 32, 16, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.e5m2.f16",        units::through_f16(units::f16(units::e5m2, units::e5m2, 32, 16, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.k16.e4m3.f16",      units::through_f16(units::f16(units::e4m3, units::e4m3, 16, 8, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.k16.e4m3.e5m2.f16", units::through_f16(units::f16(units::e4m3, units::e5m2, 16, 8, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.k16.e5m2.e4m3.f16", units::through_f16(units::f16(units::e5m2, units::e4m3, 16, 8, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.k16.e5m2.f16",      units::through_f16(units::f16(units::e5m2, units::e5m2, 16, 8, 25)), Evidence::hardware, units::recorded},
    {"hopper.mma.s8.s32",          units::integers(8, true, 8, true, 32), Evidence::hardware, units::recorded},
    {"hopper.mma.s8.u8.s32",       units::integers(8, true, 8, false, 32), Evidence::hardware, units::recorded},
    {"hopper.mma.u8.s8.s32",       units::integers(8, false, 8, true, 32), Evidence::hardware, units::recorded},
    {"hopper.mma.u8.s32",          units::integers(8, false, 8, false, 32), Evidence::hardware, units::recorded},
    {"hopper.mma.s8.s32.satfinite", units::integers(8, true, 8, true, 32, true), Evidence::hardware, units::recorded},
    {"hopper.mma.k16.s8.s32",      units::integers(8, true, 8, true, 16), Evidence::hardware, units::recorded},
    {"hopper.mma.k16.s8.u8.s32",   units::integers(8, true, 8, false, 16), Evidence::hardware, units::recorded},
    {"hopper.mma.k16.u8.s8.s32",   units::integers(8, false, 8, true, 16), Evidence::hardware, units::recorded},
    {"hopper.mma.k16.u8.s32",      units::integers(8, false, 8, false, 16), Evidence::hardware, units::recorded},
    {"hopper.mma.k16.s8.s32.satfinite", units::integers(8, true, 8, true, 16, true), Evidence::hardware, units::recorded},
    {"hopper.mma.s4.s32",          units::integers(4, true, 4, true, 64), Evidence::hardware, units::recorded},
    {"hopper.mma.s4.u4.s32",       units::integers(4, true, 4, false, 64), Evidence::hardware, units::recorded},
    {"hopper.mma.u4.s4.s32",       units::integers(4, false, 4, true, 64), Evidence::hardware, units::recorded},
    {"hopper.mma.u4.s32",          units::integers(4, false, 4, false, 64), Evidence::hardware, units::recorded},
    {"hopper.mma.s4.s32.satfinite", units::integers(4, true, 4, true, 64, true), Evidence::hardware, units::recorded},
    {"hopper.mma.k32.s4.s32",      units::integers(4, true, 4, true, 32), Evidence::hardware, units::recorded},
    {"hopper.mma.k32.u4.s32",      units::integers(4, false, 4, false, 32), Evidence::hardware, units::recorded},
    {"hopper.mma.b1.and.s32",      units::bits(UnitKind::bits_and, 256), Evidence::hardware, units::recorded},
    {"hopper.mma.b1.xor.s32",      units::bits(UnitKind::bits_xor, 256), Evidence::hardware, units::recorded},
    {"hopper.mma.k128.b1.and.s32", units::bits(UnitKind::bits_and, 128), Evidence::hardware, units::recorded},
    {"hopper.mma.k128.b1.xor.s32", units::bits(UnitKind::bits_xor, 128), Evidence::hardware, units::recorded},
    {"hopper.mma.f64.f64",         units::f64(16), Evidence::hardware, units::recorded},
    {"hopper.mma.k8.f64.f64",      units::f64(8), Evidence::hardware, units::recorded},
    {"hopper.mma.k4.f64.f64",      units::f64(4), Evidence::hardware, units::recorded},
    {"hopper.mma.m8k4.f64.f64",    units::f64(4), Evidence::hardware, units::recorded},
    // Blackwell: tcgen05 (sm_100) and mma (sm_120).
    {"blackwell.tcgen05.f16.f32", units::f32(formats::binary16, formats::binary16, 16, 16, 25), Evidence::published, units::silicon},
    {"blackwell.tcgen05.bf16.f32", units::f32(formats::bfloat16, formats::bfloat16, 16, 16, 25), Evidence::published, units::silicon},
    {"blackwell.tcgen05.tf32.f32", units::f32(formats::tf32, formats::tf32, 8, 8, 25), Evidence::published, units::silicon},
    {"blackwell.tcgen05.e4m3.f32", units::f32(units::e4m3, units::e4m3, 32, 32, 25), Evidence::none, units::claimed},
    {"blackwell.tcgen05.e4m3.e5m2.f32", units::f32(units::e4m3, units::e5m2, 32, 32, 25), Evidence::none, units::claimed},
    {"blackwell.tcgen05.e5m2.e4m3.f32", units::f32(units::e5m2, units::e4m3, 32, 32, 25), Evidence::none, units::claimed},
    {"blackwell.tcgen05.e5m2.f32", units::f32(units::e5m2, units::e5m2, 32, 32, 25), Evidence::none, units::claimed},
    {"blackwell.tcgen05.e3m2.f32", units::f32(units::e3m2, units::e3m2, 32, 32, 25), Evidence::none, units::claimed},
    {"blackwell.tcgen05.e2m3.f32", units::f32(units::e2m3, units::e2m3, 32, 32, 25), Evidence::none, units::claimed},
    {"blackwell.tcgen05.e2m1.f32", units::f32(units::e2m1, units::e2m1, 32, 32, 25), Evidence::none, units::claimed},
    {"blackwell.tcgen05.mxf8f6f4.e4m3.f32", units::scaled(units::f32(units::e4m3, units::e4m3, 32, 32, 25)), Evidence::none, units::claimed},
    {"blackwell.tcgen05.mxf8f6f4.e5m2.f32", units::scaled(units::f32(units::e5m2, units::e5m2, 32, 32, 25)), Evidence::none, units::claimed},
    {"blackwell.tcgen05.mxf8f6f4.e3m2.f32", units::scaled(units::f32(units::e3m2, units::e3m2, 32, 32, 25)), Evidence::none, units::claimed},
    {"blackwell.tcgen05.mxf8f6f4.e2m3.f32", units::scaled(units::f32(units::e2m3, units::e2m3, 32, 32, 25)), Evidence::none, units::claimed},
    {"blackwell.tcgen05.mxf8f6f4.e2m1.f32", units::scaled(units::f32(units::e2m1, units::e2m1, 32, 32, 25)), Evidence::none, units::claimed},
    {"blackwell.tcgen05.mxf4.f32", units::fp4(formats::float8_e8m0fnu, 32), Evidence::none, units::claimed},
    {"blackwell.tcgen05.nvf4.f32", units::fp4(formats::ue4m3, 16), Evidence::none, units::claimed},
    {"blackwell.mma.f16.f32", units::f32(formats::binary16, formats::binary16, 16, 16, 25), Evidence::none, units::claimed},
    {"blackwell.mma.bf16.f32", units::f32(formats::bfloat16, formats::bfloat16, 16, 16, 25), Evidence::none, units::claimed},
    {"blackwell.mma.tf32.f32", units::f32(formats::tf32, formats::tf32, 8, 8, 25), Evidence::none, units::claimed},
    {"blackwell.mma.e4m3.f32", units::f32(units::e4m3, units::e4m3, 32, 32, 25), Evidence::none, units::claimed},
    {"blackwell.mma.e4m3.e5m2.f32", units::f32(units::e4m3, units::e5m2, 32, 32, 25), Evidence::none, units::claimed},
    {"blackwell.mma.e5m2.e4m3.f32", units::f32(units::e5m2, units::e4m3, 32, 32, 25), Evidence::none, units::claimed},
    {"blackwell.mma.e5m2.f32", units::f32(units::e5m2, units::e5m2, 32, 32, 25), Evidence::none, units::claimed},
    {"blackwell.mma.e3m2.f32", units::f32(units::e3m2, units::e3m2, 32, 32, 25), Evidence::none, units::claimed},
    {"blackwell.mma.e2m3.f32", units::f32(units::e2m3, units::e2m3, 32, 32, 25), Evidence::none, units::claimed},
    {"blackwell.mma.e2m1.f32", units::f32(units::e2m1, units::e2m1, 32, 32, 25), Evidence::none, units::claimed},
    {"blackwell.mma.mxf8f6f4.e4m3.f32", units::scaled(units::f32(units::e4m3, units::e4m3, 32, 32, 25)), Evidence::none, units::claimed},
    {"blackwell.mma.mxf8f6f4.e5m2.f32", units::scaled(units::f32(units::e5m2, units::e5m2, 32, 32, 25)), Evidence::none, units::claimed},
    {"blackwell.mma.mxf8f6f4.e3m2.f32", units::scaled(units::f32(units::e3m2, units::e3m2, 32, 32, 25)), Evidence::none, units::claimed},
    {"blackwell.mma.mxf8f6f4.e2m3.f32", units::scaled(units::f32(units::e2m3, units::e2m3, 32, 32, 25)), Evidence::none, units::claimed},
    {"blackwell.mma.mxf8f6f4.e2m1.f32", units::scaled(units::f32(units::e2m1, units::e2m1, 32, 32, 25)), Evidence::none, units::claimed},
    {"blackwell.mma.mxf4.f32", units::fp4(formats::float8_e8m0fnu, 32), Evidence::none, units::claimed},
    {"blackwell.mma.nvf4.f32", units::fp4(formats::ue4m3, 16), Evidence::none, units::claimed},
};
// clang-format on

}  // namespace halfulp
