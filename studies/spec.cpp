#include "studies/spec.hpp"

#include <cmath>
#include <limits>
#include <optional>

#include <toml++/toml.h>

#include "emu/names.hpp"
#include "studies/spec_json.hpp"

namespace halfulp::studies {
namespace {

constexpr std::array<std::string_view, 2> activation_names = {"relu", "tanh"};
constexpr std::array<std::string_view, 2> feed_forward_names = {"gelu", "swiglu"};
constexpr std::array<std::string_view, 2> path_names = {"array", "general"};
constexpr std::array<std::string_view, 2> scaling_names = {"none", "power-of-two"};
constexpr std::array<std::string_view, 2> model_names = {"mlp", "transformer"};
constexpr std::array<std::string_view, roles.size()> role_names = {
    "weights", "activations", "gradients", "master", "accumulation"};

template <class V, class Spec>
void visit_transformer(V& v, Spec& s) {
  const ModelSpec initial;
  v.added_later(s.layers, initial.layers, [&] { v.integer("layers", s.layers, 1, 1000); });
  v.added_later(s.heads, initial.heads, [&] { v.integer("heads", s.heads, 1, 1024); });
  v.added_later(s.width, initial.width, [&] { v.integer("width", s.width, 2, 65536); });
  v.added_later(s.context, initial.context, [&] { v.integer("context", s.context, 1, 65536); });
  v.added_later(s.feed_forward, initial.feed_forward,
                [&] { v.choice("feed_forward", s.feed_forward, feed_forward_names); });
  v.added_later(s.qk_norm, initial.qk_norm, [&] { v.boolean("qk_norm", s.qk_norm); });
  v.added_later(s.z_loss, initial.z_loss, [&] { v.number("z_loss", s.z_loss, 0, 1e6); });
}

// Every key of the specification, once: parsing, the canonical text and the messages all follow
// from this list. V is Reader or Writer; Spec is CellSpec, const for Writer. A key that came after
// version 0.1 must not rename the cells that were there before it (docs/cells.md): it stands in
// added_later.
template <class V, class Spec>
void visit_keys(V& v, Spec& s) {
  v.table("data", [&] {
    v.one_of("name", s.data.name, data_names);
    v.integer("held_out", s.data.held_out, 1, 1'000'000);
    v.added_later(s.data.held_out_fraction, DataSpec{}.held_out_fraction,
                  [&] { v.number("held_out_fraction", s.data.held_out_fraction, 1e-6, 1 - 1e-6); });
  });
  v.table("model", [&] {
    v.one_of("kind", s.model.kind, model_names);
    v.integers("hidden", s.model.hidden, 1, 65536, 16);
    v.choice("activation", s.model.activation, activation_names);
    visit_transformer(v, s.model);
  });
  v.table("training", [&] {
    v.integer("steps", s.training.steps, 1, 10'000'000);
    v.integer("batch", s.training.batch, 1, 1'000'000);
    v.integer("seed", s.training.seed, 0, std::numeric_limits<std::int64_t>::max());
    v.integer("evaluate_every", s.training.evaluate_every, 1, 10'000'000);
  });
  v.table("optimizer", [&] {
    v.number("learning_rate", s.optimizer.learning_rate, 0, 1e6);
    v.number("beta1", s.optimizer.beta1, 0, std::nextafter(1.0, 0.0));
    v.number("beta2", s.optimizer.beta2, 0, std::nextafter(1.0, 0.0));
    v.number("epsilon", s.optimizer.epsilon, 1e-30, 1);
    v.number("weight_decay", s.optimizer.weight_decay, 0, 1e6);
    v.number("warmup_fraction", s.optimizer.warmup_fraction, 0, 1);
    v.number("final_fraction", s.optimizer.final_fraction, 0, 1);
    v.number("clip_norm", s.optimizer.clip_norm, 0, 1e30);
  });
  v.table("precision", [&] {
    v.text("label", s.precision.label, 64);
    v.choice("path", s.precision.path, path_names);
    for (const Role role : roles) {
      auto& r = s.precision.of(role);
      v.table(name_of(role), [&] {
        v.named("format", r.format, [](std::string_view name) { return parse_format(name); });
        v.named("rounding", r.rounding, [](std::string_view name) { return parse_mode(name); });
        v.named("overflow", r.overflow, [](std::string_view name) { return parse_overflow(name); });
        v.choice("scaling", r.scaling, scaling_names);
        v.integer("random_bits", r.random_bits, 1, 64);
      });
    }
  });
  v.table("divergence", [&] {
    v.integer("window", s.divergence.window, 1, 10'000'000);
    v.number("margin", s.divergence.margin, 0, 1e30);
    v.added_later(s.divergence.rise, DivergenceSpec{}.rise,
                  [&] { v.number("rise", s.divergence.rise, 0, 1e30); });
    v.added_later(s.divergence.patience, DivergenceSpec{}.patience,
                  [&] { v.integer("patience", s.divergence.patience, 0, 10'000'000); });
  });
  v.table("observe", [&] {
    v.added_later(s.observe.gradients, ObserveSpec{}.gradients,
                  [&] { v.boolean("gradients", s.observe.gradients); });
  });
  v.table("fault", [&] {
    v.integer("flip_rounding", s.fault.flip_rounding, -1, std::numeric_limits<std::int64_t>::max());
  });
}

// What no single key can show: keys that do not fit together, or that the kind of model would not
// look at.
void check_model(const ModelSpec& spec) {
  const ModelSpec initial;
  const auto foreign = [&](std::string_view key, std::string_view kind) {
    throw SpecError("model." + std::string(key) + " is set, but model.kind is '" + spec.kind +
                    "', which has no such key; leave it out or set model.kind = '" +
                    std::string(kind) + "'");
  };
  if (spec.kind != "transformer") {
    if (spec.layers != initial.layers) foreign("layers", "transformer");
    if (spec.heads != initial.heads) foreign("heads", "transformer");
    if (spec.width != initial.width) foreign("width", "transformer");
    if (spec.context != initial.context) foreign("context", "transformer");
    if (spec.feed_forward != initial.feed_forward) foreign("feed_forward", "transformer");
    if (spec.qk_norm != initial.qk_norm) foreign("qk_norm", "transformer");
    if (spec.z_loss != initial.z_loss) foreign("z_loss", "transformer");
    return;
  }
  if (spec.hidden != initial.hidden) foreign("hidden", "mlp");
  if (spec.activation != initial.activation) foreign("activation", "mlp");
  if (spec.width % (2 * spec.heads) != 0) {
    throw SpecError("model.width is " + std::to_string(spec.width) + " with " +
                    std::to_string(spec.heads) +
                    " heads, but rotary attention needs an even width of each head; use a multiple "
                    "of " +
                    std::to_string(2 * spec.heads));
  }
}

void check_divergence(const DivergenceSpec& spec) {
  if (spec.rise != DivergenceSpec{}.rise && spec.patience == 0) {
    throw SpecError("divergence.rise is " + shortest(spec.rise) +
                    ", but divergence.patience is 0, so that it is not looked at; set patience to "
                    "the number of steps, or leave rise out");
  }
}

// What no single key can show: formats that the roles cannot use.
void check_role(Role role, const RoleSpec& spec) {
  const std::string name = "precision." + std::string(name_of(role));
  const Format f = spec.format;
  const std::string given = name + ".format is " + halfulp::name_of(f);
  const bool operand =
      role == Role::weights || role == Role::activations || role == Role::gradients;
  if (!f.is_signed)
    throw SpecError(given + ", which has no negative numbers; choose a signed format");
  if (!holds_every_value(formats::binary32, f)) {
    throw SpecError(
        given +
        ", but a cell keeps its values in binary32, which does not hold all of them; choose a "
        "format of at most 24 bits of precision within binary32's range");
  }
  if (role == Role::accumulation && !f.has_nan()) {
    throw SpecError(
        given + ", which has no NaN, so a diverging sum would go unseen; choose a format with NaN");
  }
  if (spec.overflow == Overflow::error) {
    throw SpecError(
        name +
        ".overflow is 'error', but a cell takes overflows as results; use 'ieee' or 'saturate'");
  }
  if (const auto problem =
          problem_with(Rounding{.mode = spec.rounding, .overflow = spec.overflow}, f)) {
    throw SpecError(name + ": " + *problem);
  }
  if (!operand && spec.scaling != Scaling::none) {
    throw SpecError(
        name +
        ".scaling is 'power-of-two', but only weights, activations and gradients can be scaled; "
        "use 'none'");
  }
}

json json_of(const toml::node& node) {
  if (const auto* table = node.as_table()) {
    json object = json::object();
    for (const auto& [key, value] : *table) object[std::string(key.str())] = json_of(value);
    return object;
  }
  if (const auto* list = node.as_array()) {
    json array = json::array();
    for (const auto& value : *list) array.push_back(json_of(value));
    return array;
  }
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* integer = node.as_integer()) return integer->get();
  if (const auto* number = node.as_floating_point()) return number->get();
  if (const auto* boolean = node.as_boolean()) return boolean->get();
  return nullptr;  // dates and times, which no key takes
}

json read_json(std::string_view text) {
  try {
    return json::parse(text);
  } catch (const json::parse_error& error) {
    throw SpecError("the specification is not valid JSON at byte " + std::to_string(error.byte));
  }
}

json read_toml(std::string_view text) {
  try {
    return json_of(toml::parse(text));
  } catch (const toml::parse_error& error) {
    const auto at = error.source().begin;
    throw SpecError("the specification is not valid TOML at line " + std::to_string(at.line) +
                    ", column " + std::to_string(at.column) + ": " +
                    std::string(error.description()));
  }
}

}  // namespace

std::string_view name_of(Role role) {
  return role_names.at(static_cast<std::size_t>(role));
}

CellSpec parse_spec(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_json = first != std::string_view::npos && text[first] == '{';
  const json root = is_json ? read_json(text) : read_toml(text);
  CellSpec spec;
  Reader reader(root);
  visit_keys(reader, spec);
  reader.reject_unknown_keys();
  check_model(spec.model);
  check_divergence(spec.divergence);
  for (const Role role : roles) check_role(role, spec.precision.of(role));
  return spec;
}

std::string canonical(const CellSpec& spec) {
  Writer writer;
  visit_keys(writer, spec);
  return canonical_text(writer.result());
}

}  // namespace halfulp::studies
