// The specification of a cell (docs/cells.md): what a training run is, parsed, checked and written
// canonically.
#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "emu/core/formats.hpp"
#include "emu/core/rounding.hpp"

namespace halfulp::studies {

enum class Activation : std::uint8_t { relu, tanh };
enum class FeedForward : std::uint8_t { gelu, swiglu };
enum class Path : std::uint8_t { array, general };
enum class Scaling : std::uint8_t { none, power_of_two };

// The tensors that a precision policy tells apart.
enum class Role : std::uint8_t { weights, activations, gradients, master, accumulation };
inline constexpr std::array<Role, 5> roles = {Role::weights, Role::activations, Role::gradients,
                                              Role::master, Role::accumulation};

inline constexpr std::array<std::string_view, 2> data_names = {"digits", "kjv"};

struct DataSpec {
  std::string name = "digits";
  int held_out = 360;              // examples for evaluation: images, or windows of a text
  double held_out_fraction = 0.1;  // of a text
};

struct ModelSpec {
  std::string kind = "mlp";
  std::vector<int> hidden = {128, 128};
  Activation activation = Activation::relu;
  // transformer
  int layers = 2;
  int heads = 4;
  int width = 64;
  int context = 64;
  FeedForward feed_forward = FeedForward::gelu;
  bool qk_norm = false;
  double z_loss = 0;
};

struct TrainingSpec {
  int steps = 600;
  int batch = 64;
  std::int64_t seed = 0;
  int evaluate_every = 50;
};

struct OptimizerSpec {
  double learning_rate = 3e-3;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 1e-4;
  double warmup_fraction = 0.1;
  double final_fraction = 0.0;
  double clip_norm = 1.0;
};

struct RoleSpec {
  Format format = formats::binary32;
  Mode rounding = Mode::nearest_even;
  Overflow overflow = Overflow::ieee;
  Scaling scaling = Scaling::none;
  int random_bits = 32;
};

struct PrecisionSpec {
  std::string label = "fp32";
  Path path = Path::array;
  std::array<RoleSpec, roles.size()> by_role{};

  RoleSpec& of(Role role) { return by_role[static_cast<std::size_t>(role)]; }
  const RoleSpec& of(Role role) const { return by_role[static_cast<std::size_t>(role)]; }
};

struct DivergenceSpec {
  int window = 20;
  double margin = 1.0;
  double rise = 1.0;
  int patience = 0;  // steps; 0: `rise` is not looked at
};

struct ObserveSpec {
  bool gradients = false;
};

struct FaultSpec {
  std::int64_t flip_rounding = -1;
};

struct CellSpec {
  DataSpec data;
  ModelSpec model;
  TrainingSpec training;
  OptimizerSpec optimizer;
  PrecisionSpec precision;
  DivergenceSpec divergence;
  ObserveSpec observe;
  FaultSpec fault;
};

// One sentence: the value, the limit, the remedy.
struct SpecError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// TOML, or JSON if the first character that is no space is '{'. Throws SpecError.
CellSpec parse_spec(std::string_view text);

// JSON of the specification: every key of version 0.1, of later ones those that do not have their
// default; keys sorted, no white space, formats by canonical name, shortest doubles.
std::string canonical(const CellSpec& spec);

std::string_view name_of(Role role);

}  // namespace halfulp::studies
