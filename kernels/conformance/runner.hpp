// Calls a kernel in a process of its own, so that whatever it does is told and ends nothing.
//
//   this process ── fork ── keeper ── fork ── worker: loads the kernel, runs case after case
//
// The keeper is forked before this process may have threads; it forks a new worker when one has
// died. Tensors are in memory that all share:
//
//   | guard page | slack, the tensor, slack | guard page | …
//
// In the worker guard pages cannot be touched and inputs cannot be written. Placement::start puts a
// tensor at the start of its pages; Placement::end as far to their end as its alignment allows. The
// slack of inputs is NaN in every float type; that of outputs has a pattern and must keep it, as
// must no element of an output.
//
// Kernels for a device (device_type 2) get device memory with patterns around each tensor in place
// of guard pages; patterns and inputs are looked at after the call.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/conformance/judge.hpp"
#include "kernels/conformance/session.hpp"
#include "kernels/conformance/suite.hpp"

namespace halfulp::conformance {

struct RunnerOptions {
  double seconds = 10;         // for a case
  std::size_t alignment = 64;  // of tensors in host memory, a power of two up to 4096
};

enum class Placement { start, end };

struct RunResult {
  Outcome outcome = Outcome::pass;  // pass: it returned HALFULP_OK; fail, unsupported
  std::string reason;               // where it is not pass
  std::vector<Tensor> outputs;
  double seconds = 0;
};

// Of run_both: `second` differs from `first` in where tensors lie.
struct BothResult : RunResult {
  std::vector<Tensor> second;
};

// A kernel that cannot be tried at all.
class KernelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
class UnsupportedSuite : public KernelError {
 public:
  using KernelError::KernelError;
};
class NoDevice : public KernelError {
 public:
  using KernelError::KernelError;
};

class Arena;

class Runner {
 public:
  // `kernel`: the path of a shared library, or builtin:NAME. Loads it and queries it; throws
  // KernelError and std::invalid_argument with one sentence. Call it before any thread is made.
  Runner(const Suite& suite, const std::string& kernel, const RunnerOptions& options = {});
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  const KernelIdentity& kernel() const { return identity_; }
  const std::string& promise() const { return promise_; }  // the kernel's own; "bound" if none
  // What it found of the device: for the record of the run.
  const std::map<std::string, std::string>& environment() const { return environment_; }

  RunResult run(const Case& c, Placement placement);
  // In both placements; outputs that neither wrote are a failure.
  BothResult run_both(const Case& c);

 private:
  void start_worker();
  void shut_down();
  std::string death_sentence(int status) const;
  void kill_worker();

  const Suite* suite_;
  RunnerOptions options_;
  KernelIdentity identity_;
  std::string promise_ = "bound";
  std::map<std::string, std::string> environment_;
  std::unique_ptr<Arena> arena_;
  pid_t keeper_ = -1, worker_ = -1;
  int command_ = -1, events_ = -1, channel_ = -1;
  std::uint32_t sequence_ = 0;
};

}  // namespace halfulp::conformance
