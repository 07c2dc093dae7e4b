#include "studies/cell_file.hpp"

#include <array>
#include <span>

#include "emu/names.hpp"
#include "studies/precision.hpp"

namespace halfulp::studies {
namespace {

template <class T>
void append_from(Hdf5File& file, const std::string& path, const std::vector<T>& values,
                 std::size_t first) {
  file.append(path, std::span<const T>(values).subspan(first));
}

}  // namespace

CellFile::CellFile(const std::filesystem::path& part, bool replace, const CellSpec& spec)
    : spec_(spec), names_(part, replace), file_(names_.part().string()) {
  file_.write("/spec", canonical(spec));
  for (const char* name :
       {"train_loss", "gradient_norm", "learning_rate", "eval_loss", "eval_accuracy"}) {
    file_.make_series(std::string("/metrics/") + name, false);
  }
  file_.make_series("/metrics/eval_step", true);
}

void CellFile::append(const Metrics& m) {
  if (!begun_) {
    file_.write("/metrics/initial_eval_loss", m.initial_eval_loss);
    for (const Baseline& b : m.baselines) file_.write("/metrics/baseline_" + b.name, b.loss);
    begun_ = true;
  }
  append_from(file_, "/metrics/train_loss", m.train_loss, steps_written_);
  append_from(file_, "/metrics/gradient_norm", m.gradient_norm, steps_written_);
  append_from(file_, "/metrics/learning_rate", m.learning_rate, steps_written_);
  append_from(file_, "/metrics/eval_step", m.eval_step, evaluations_written_);
  append_from(file_, "/metrics/eval_loss", m.eval_loss, evaluations_written_);
  append_from(file_, "/metrics/eval_accuracy", m.eval_accuracy, evaluations_written_);
  steps_written_ = m.train_loss.size();
  evaluations_written_ = m.eval_step.size();
  file_.flush();
}

void CellFile::write_counts(const TrainingResult& result) {
  for (const Role role : roles) {
    const RoundingCount& count = result.rounding[static_cast<std::size_t>(role)];
    const std::string group = "/metrics/rounding/" + std::string(name_of(role));
    file_.write(group + "/calls", count.calls);
    file_.write(group + "/elements", count.elements);
  }
}

void CellFile::write_observations(const Observations& seen) {
  const auto series = [&](const std::string& name, const auto& values) {
    file_.write("/metrics/observed/" + name, std::span(values));
  };
  series("step", seen.step);
  for (const Role role : roles) {
    const Observations::OfRole& of = seen.by_role[static_cast<std::size_t>(role)];
    const std::string group = std::string(name_of(role)) + "/";
    series(group + "elements", of.elements);
    series(group + "zeros", of.zeros);
    series(group + "not_finite", of.not_finite);
    series(group + "overflow", of.overflow);
    series(group + "underflow", of.underflow);
    series(group + "to_zero", of.to_zero);
    series(group + "exponents", of.exponents);
  }
  series("update/moved", seen.moved);
  series("update/frozen", seen.frozen);
  series("update/stagnation_law", seen.stagnation_law);
  series("update/adam_law", seen.adam_law);
  for (const Observations::OfGradient& of : seen.gradients) {
    series("gradient/" + of.parameter + "/cosine", of.cosine);
    series("gradient/" + of.parameter + "/relative_error", of.relative_error);
  }
}

void CellFile::abandon() {
  names_.abandon();
}

void CellFile::write_checkpoint(const Parameters<float>& master) {
  const Format format = spec_.precision.of(Role::master).format;
  for (const Parameter<float>& p : master) {
    const std::string path = "/checkpoint/" + p.name;
    const Tensor<float>& x = p.values;
    if (format == formats::binary32) {
      file_.write_matrix(path, x.data, x.rows, x.cols);
      continue;
    }
    std::vector<std::uint32_t> codes;
    codes.reserve(x.size());
    for (const float v : x.data) codes.push_back(code_of(v, format));
    file_.write_codes(path, codes, x.rows, x.cols, format.width(), halfulp::name_of(format));
  }
}

void CellFile::complete(const TrainingResult& result, const Provenance& provenance) {
  append(result.metrics);
  write_counts(result);
  write_observations(result.metrics.observed);
  write_checkpoint(result.master);
  const RoleSpec& weights = spec_.precision.of(Role::weights);
  const std::array<std::pair<const char*, std::string>, 14> texts = {{
      {"halfulp_version", provenance.version},
      {"git_sha", provenance.git_sha},
      {"compiler", provenance.compiler},
      {"flags", provenance.flags},
      {"numerics", provenance.numerics},
      {"libc", provenance.libc},
      {"cpu", provenance.cpu},
      {"device", "cpu"},
      {"format", halfulp::name_of(weights.format)},
      {"rounding", std::string(halfulp::name_of(weights.rounding))},
      {"data_sha256", provenance.data_sha256},
      {"outcome", result.diverged() ? "diverged" : "completed"},
      {"started", provenance.started},
      {"weights_sha256", weights_sha256(result.master)},
  }};
  for (const auto& [name, text] : texts) file_.set_attribute(name, text);
  file_.set_attribute("seed", spec_.training.seed);
  file_.set_attribute("diverged_step", std::int64_t{result.diverged_step});
  file_.set_attribute("wall_seconds", provenance.wall_seconds);
  file_.set_attribute("training_seconds", result.metrics.training_seconds());
  file_.set_attribute("resumed", provenance.resumed);
  file_.flush();
  file_.set_attribute("status", std::string("complete"));
  file_.close();
  names_.commit();
}

}  // namespace halfulp::studies
