// A training that is stopped and goes on has the bits of one that was not.
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "studies/random.hpp"
#include "studies/read_file.hpp"
#include "studies/resume_file.hpp"
#include "studies/sha256.hpp"
#include "studies/state.hpp"
#include "studies/train.hpp"
#include "tests/unit/folder.hpp"

using namespace halfulp;
using namespace halfulp::studies;

namespace {

namespace fs = std::filesystem;

ImageData images() {
  const auto some = [](int count, std::uint32_t tensor) {
    Images made{Tensor<float>(count, 6), {}};
    fill_normal(made.pixels, 1.0, {.seed = 4, .tensor = tensor});
    for (int i = 0; i < count; ++i) made.labels.push_back(i % 3);
    return made;
  };
  return {some(14, 0), some(6, 1), 3, "none"};
}

// Batches of 4 out of 14: every fourth step begins an epoch.
const std::string small_network =
    "model.hidden = [5]\ntraining = { steps = 9, batch = 4, evaluate_every = 3 }\n";
const std::string stochastic =
    "[precision.weights]\nformat = 'float8_e4m3fn'\nscaling = 'power-of-two'\n"
    "[precision.gradients]\nformat = 'float8_e5m2'\nrounding = 'stochastic'\n"
    "[precision.master]\nformat = 'bfloat16'\nrounding = 'stochastic'\n";
const std::string small_transformer =
    "data.name = 'kjv'\nmodel = { kind = 'transformer', layers = 1, heads = 2, width = 8, context "
    "= 6, feed_forward = 'swiglu', qk_norm = true }\n"
    "training = { steps = 5, batch = 3, evaluate_every = 2 }\nobserve.gradients = true\n";

TextData text() {
  std::string characters;
  for (int i = 0; i < 2000; ++i) characters += static_cast<char>('a' + i * i % 7 + i % 3);
  return make_text(characters, 0.1, 10);
}

// The digest of all that a training leaves, but times.
std::string everything(TrainingResult result) {
  result.metrics.timed_seconds = 0;
  StateWriter writer;
  writer(result.metrics, result.rounding, result.diverged_step);
  return sha256(writer.result() + weights_sha256(result.master));
}

void check_every_stop(const CellSpec& spec, const Dataset& data) {
  const std::string undisturbed = everything(train(spec, data));
  std::optional<std::string> state;
  for (int stops = 0;; ++stops) {  // stopped after each single step
    REQUIRE(stops < 100);
    Training training(spec, data);
    if (state) training.restore(*state);
    if (!training.advance()) {
      CHECK(everything(std::move(training).result()) == undisturbed);
      break;
    }
    state = training.state();
    Training rest(spec, data);
    rest.restore(*state);
    while (rest.advance()) {
    }
    INFO("stopped after " << stops);
    CHECK(everything(std::move(rest).result()) == undisturbed);
  }
}

void write(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace

TEST_CASE("a training goes on from any step with the same bits") {
  const Dataset data = images();
  check_every_stop(parse_spec(small_network), data);
  check_every_stop(parse_spec(small_network + stochastic), data);
  CellSpec risen = parse_spec(
      small_network + "divergence = { window = 1, margin = 1e30, rise = 0.01, patience = 3 }\n");
  risen.optimizer.learning_rate = 2;
  CHECK(train(risen, data).diverged_step > 3);
  check_every_stop(risen, data);
  check_every_stop(
      parse_spec(small_network + "precision.path = 'general'\nfault.flip_rounding = 900\n"), data);
}

TEST_CASE("a transformer goes on from any step with the same bits") {
  const Dataset data = text();
  check_every_stop(parse_spec(small_transformer), data);
  check_every_stop(parse_spec(small_transformer + stochastic), data);
}

TEST_CASE("a state of wrong length is refused") {
  const Dataset data = images();
  const CellSpec spec = parse_spec(small_network);
  Training training(spec, data);
  training.advance();
  const std::string state = training.state();
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, state.size() - 1}) {
    Training other(spec, data);
    CHECK_THROWS_AS(other.restore(state.substr(0, size)), StateError);
  }
  Training other(spec, data);
  CHECK_THROWS_AS(other.restore(state + "x"), StateError);
}

TEST_CASE("a checkpoint's file comes back whole or not at all") {
  const Folder folder;
  const fs::path path = folder / "cell.h5.resume";
  const ResumeFile file(path);
  const Saved saved{"{}", "numerics", "data", 1.5, 3, std::string("state\0with zeros", 16)};
  std::string why;
  CHECK_FALSE(file.read(saved, why));
  CHECK(why.empty());

  file.write({"{}", "numerics", "data", 0.5, 1, "an older one"});
  file.write(saved);
  const auto back = file.read(saved, why);
  REQUIRE(back);
  CHECK(why.empty());
  CHECK(back->state == saved.state);
  CHECK(back->wall_seconds == 1.5);
  CHECK(back->attempts == 3);
  CHECK(std::distance(fs::directory_iterator(path.parent_path()), {}) == 1);

  const auto refused = [&](const Saved& expected, const char* because) {
    why.clear();
    CHECK_FALSE(file.read(expected, why));
    CHECK(why.find(because) != std::string::npos);
    CHECK(why.find(path.string()) != std::string::npos);
  };
  refused({"{1}", "numerics", "data", 0, 1, ""}, "another specification");
  refused({"{}", "others", "data", 0, 1, ""}, "another build");
  refused({"{}", "numerics", "others", 0, 1, ""}, "other data");

  const std::string bytes = read_file<FileError>("", path);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 4);
    write(path, damaged);
    why.clear();
    CHECK_FALSE(file.read(saved, why));
    CHECK_FALSE(why.empty());
    write(path, bytes.substr(0, i));
    CHECK_FALSE(file.read(saved, why));
  }
  file.remove();
  CHECK_FALSE(fs::exists(path));
}
