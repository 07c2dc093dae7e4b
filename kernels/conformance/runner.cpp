#include "kernels/conformance/runner.hpp"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
  #include <sys/prctl.h>
#endif

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "kernels/conformance/worker.hpp"

namespace halfulp::conformance {

namespace {

constexpr std::size_t arena_bytes = std::size_t{1} << 32;  // of addresses; memory as it is touched
constexpr unsigned char fill[] = {0xa7, 0x5b};             // of outputs, by placement

struct Event {
  pid_t pid;
  std::int32_t ended;
  std::int32_t status;
};

void set_death_signal() {
#ifdef __linux__
  prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
}

// Forks a worker for each byte that comes, and tells when it has ended.
[[noreturn]] void keeper_main(const Suite& suite, const std::string& kernel, std::byte* base,
                              int command, int events, int channel) {
  set_death_signal();
  std::signal(SIGINT, SIG_IGN);  // the terminal's ^C goes to all; the parent ends us
  char byte = 0;
  while (receive_all(command, &byte, 1)) {
    const pid_t pid = fork();
    if (pid == 0) {
      close(command);
      close(events);
      std::signal(SIGINT, SIG_DFL);
      worker_main(suite, kernel, base, channel);
    }
    const Event started{pid, 0, 0};
    if (!send_all(events, &started, sizeof started)) break;
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    kill(-pid, SIGKILL);  // what it has left behind
    const Event ended{pid, 1, status};
    if (!send_all(events, &ended, sizeof ended)) break;
  }
  _exit(0);
}

std::string absolute(const std::string& path) {
  char resolved[PATH_MAX];
  return realpath(path.c_str(), resolved) != nullptr ? resolved : path;
}

[[noreturn]] void fail(const char* what) {
  throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

}  // namespace

class Arena {
 public:
  Arena() {
    void* memory = mmap(nullptr, arena_bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("no address space for tensors of 4 GiB");
    base = static_cast<std::byte*>(memory);
  }
  ~Arena() { munmap(base, arena_bytes); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  Control& control() const { return *reinterpret_cast<Control*>(base); }

  // Throws std::runtime_error where a case is too large.
  Placed place(std::size_t bytes, Placement placement, std::size_t alignment) {
    Placed p;
    p.begin = used + page;
    p.end = p.begin + (bytes + page - 1) / page * page;
    p.data = placement == Placement::start ? p.begin : (p.end - bytes) / alignment * alignment;
    used = p.end + page;
    if (used + page > arena_bytes)
      throw std::runtime_error(
          "the case has more than 4 GiB of tensors, which the runner cannot place");
    return p;
  }
  void reset() {
#ifdef __linux__
    if (used > (std::size_t{64} << 20))
      madvise(base + control_bytes, used - control_bytes, MADV_REMOVE);
#endif
    used = control_bytes;
  }

  std::byte* base = nullptr;
  std::size_t used = control_bytes;
};

Runner::Runner(const Suite& suite, const std::string& kernel, const RunnerOptions& options)
    : suite_(&suite), options_(options), arena_(std::make_unique<Arena>()) {
  if (!std::has_single_bit(options.alignment) || options.alignment > page) {
    throw std::invalid_argument("an alignment is a power of two from 1 to 4096, not " +
                                std::to_string(options.alignment));
  }
  std::string loaded = kernel;
  if (kernel.starts_with("builtin:")) {
    std::string known;
    bool found = false;
    for (const Builtin& b : suite.builtins()) {
      found = found || kernel.substr(8) == b.name;
      known += (known.empty() ? "builtin:" : ", builtin:") + std::string(b.name);
    }
    if (!found) {
      throw std::invalid_argument(std::string("suite ") + suite.name() + " has no " + kernel +
                                  "; there are " + known);
    }
  } else {
    struct stat facts {};
    if (stat(kernel.c_str(), &facts) != 0) {
      throw KernelError("there is no kernel at " + kernel +
                        "; give the path of a shared library, or builtin:NAME");
    }
    if (!S_ISREG(facts.st_mode)) throw KernelError(kernel + " is no file");
    loaded = absolute(kernel);
  }
  identity_.path = kernel;
  int command[2], events[2], channel[2];
  if (pipe(command) != 0 || pipe(events) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, channel) != 0)
    fail("no pipe to a process of the kernel's own");
  keeper_ = fork();
  if (keeper_ < 0) fail("no process of the kernel's own");
  if (keeper_ == 0) {
    close(command[1]);
    close(events[0]);
    close(channel[0]);
    keeper_main(suite, loaded, arena_->base, command[0], events[1], channel[1]);
  }
  close(command[0]);
  close(events[1]);
  close(channel[1]);
  command_ = command[1];
  events_ = events[0];
  channel_ = channel[0];
  Control& control = arena_->control();
  try {
    start_worker();
  } catch (...) {
    const std::string reason = control.reason;
    shut_down();
    if (reason.starts_with("not run: ")) throw NoDevice(reason);
    throw;
  }
  identity_.name = control.name[0] != '\0' ? control.name : kernel;
  identity_.version = control.version;
  identity_.device = control.device_type == 2 ? "cuda" : "cpu";
  if (control.promise[0] != '\0') promise_ = control.promise;
  if (control.device_type == 2) {
    environment_["device"] = control.device;
    environment_["driver"] = control.driver;
    environment_["libraries/cudart"] = control.runtime;
  }
}

Runner::~Runner() {
  shut_down();
}

void Runner::shut_down() {
  if (keeper_ < 0) return;
  close(channel_);  // the worker ends, its kernel destroyed
  close(command_);
  if (worker_ > 0) {
    pollfd wait{events_, POLLIN, 0};
    if (poll(&wait, 1, 2000) <= 0) kill(-worker_, SIGKILL);
  }
  close(events_);
  int status = 0;
  while (waitpid(keeper_, &status, 0) < 0 && errno == EINTR) {
  }
  keeper_ = worker_ = -1;
}

void Runner::kill_worker() {
  if (worker_ <= 0) return;
  kill(-worker_, SIGKILL);
  kill(worker_, SIGKILL);  // before it made its group
  Event event{};
  do {
    if (!receive_all(events_, &event, sizeof event))
      fail("the keeper of the kernel's process is gone");
  } while (event.ended == 0);
  worker_ = -1;
}

std::string Runner::death_sentence(int status) const {
  const Control& control = arena_->control();
  if (WIFEXITED(status)) {
    if (WEXITSTATUS(status) == exit_with_reason && control.reason[0] != '\0') return control.reason;
    return "ended its process with exit(" + std::to_string(WEXITSTATUS(status)) + ")";
  }
  const int signal = WTERMSIG(status);
  return "died by signal " + std::to_string(signal) + " (" + strsignal(signal) + ")";
}

void Runner::start_worker() {
  Control& control = arena_->control();
  std::memset(static_cast<void*>(&control), 0, sizeof control);
  control.first_sequence = sequence_ + 1;
  Event event{};
  if (!send_all(command_, "w", 1) || !receive_all(events_, &event, sizeof event))
    fail("the keeper of the kernel's process is gone");
  if (event.pid < 0) throw std::runtime_error("no process of the kernel's own could be made");
  worker_ = event.pid;
  const auto limit = static_cast<int>(std::max(options_.seconds, 60.0) * 1000);
  pollfd wait[2] = {{channel_, POLLIN, 0}, {events_, POLLIN, 0}};
  if (poll(wait, 2, limit) <= 0) {
    kill_worker();
    throw KernelError(identity_.path + " took more than " + std::to_string(limit / 1000) +
                      " s to load and to answer halfulp_kernel_query");
  }
  if ((wait[0].revents & POLLIN) != 0) {
    Reply hello;
    if (receive_all(channel_, &hello, sizeof hello)) {
      if (control.query_status == HALFULP_UNSUPPORTED) {
        throw UnsupportedSuite(identity_.path + " does not support suite " + suite_->name() +
                               " (its query says so)");
      }
      return;
    }
  }
  if (!receive_all(events_, &event, sizeof event))
    fail("the keeper of the kernel's process is gone");
  worker_ = -1;
  if (WIFEXITED(event.status) && WEXITSTATUS(event.status) == exit_with_reason)
    throw KernelError(control.reason);
  throw KernelError(identity_.path + " " + death_sentence(event.status) +
                    " while it was loaded or in halfulp_kernel_query");
}

RunResult Runner::run(const Case& c, Placement placement) {
  if (worker_ < 0) start_worker();
  arena_->reset();
  Control& control = arena_->control();
  control.fault = Control::none;
  control.reason[0] = '\0';
  Job job;
  job.sequence = ++sequence_;
  job.c.key = c.key;
  job.c.attributes = c.attributes;
  job.c.outputs = c.outputs;
  const auto set = [&](const Placed& p, unsigned char value) {
    std::memset(arena_->base + p.begin, value, p.end - p.begin);
  };
  for (const Tensor& t : c.inputs) {
    const Placed p = arena_->place(t.bytes.size(), placement, options_.alignment);
    set(p, input_slack);
    if (!t.bytes.empty()) std::memcpy(arena_->base + p.data, t.bytes.data(), t.bytes.size());
    job.inputs.push_back(p);
    Tensor bare;
    static_cast<TensorInfo&>(bare) = t;
    job.c.inputs.push_back(std::move(bare));
  }
  std::vector<Tensor> outputs = outputs_of(c);
  for (const Tensor& t : outputs) {
    const Placed p = arena_->place(t.bytes.size(), placement, options_.alignment);
    set(p, output_slack);
    std::memset(arena_->base + p.data, fill[static_cast<int>(placement)], t.bytes.size());
    job.outputs.push_back(p);
  }
  const auto failed = [](std::string reason, double seconds) {
    RunResult result;
    result.outcome = Outcome::fail;
    result.reason = std::move(reason);
    result.seconds = seconds;
    return result;
  };
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  const std::vector<std::byte> message = packed(job);
  const std::uint64_t size = message.size();
  send_all(channel_, &size, sizeof size);
  send_all(channel_, message.data(), message.size());
  Reply reply;
  for (;;) {
    pollfd wait[2] = {{channel_, POLLIN, 0}, {events_, POLLIN, 0}};
    const double left = options_.seconds - elapsed();
    const int ready = left <= 0 ? 0 : poll(wait, 2, static_cast<int>(left * 1000) + 1);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      kill_worker();
      return failed("ran past " + number_text(options_.seconds) + " s", elapsed());
    }
    if ((wait[0].revents & POLLIN) != 0) {
      if (!receive_all(channel_, &reply, sizeof reply)) continue;
      if (reply.sequence == job.sequence) break;
      continue;  // of a worker that died after it had answered
    }
    if ((wait[1].revents & POLLIN) == 0) fail("the keeper of the kernel's process is gone");
    Event event{};
    if (!receive_all(events_, &event, sizeof event))
      fail("the keeper of the kernel's process is gone");
    worker_ = -1;
    std::string reason = death_sentence(event.status);
    if (control.fault != Control::none) {
      const bool input = control.fault_input != 0;
      const TensorInfo& t = input ? c.inputs[static_cast<std::size_t>(control.fault_tensor)]
                                  : c.outputs[static_cast<std::size_t>(control.fault_tensor)];
      const auto width = static_cast<std::int64_t>(info(t.element).bytes);
      const std::int64_t offset = control.fault_offset;
      const std::int64_t element = offset >= 0 ? offset / width : -((width - 1 - offset) / width);
      const char* verb = control.fault == Control::read_fault    ? "read "
                         : control.fault == Control::write_fault ? "wrote "
                                                                 : "touched ";
      reason = verb +
               std::string(control.fault_inside != 0 ? "to"
                           : offset < 0              ? "before"
                                                     : "beyond") +
               (input ? " input " : " output ") + t.name + " (at element " +
               std::to_string(element) + "): " + reason;
    }
    return failed(reason, elapsed());
  }
  if (reply.status == HALFULP_UNSUPPORTED) {
    RunResult result;
    result.outcome = Outcome::unsupported;
    result.reason = "the kernel does not support this case";
    result.seconds = reply.seconds;
    return result;
  }
  if (reply.status != HALFULP_OK) {
    return failed(
        "returned " + std::to_string(reply.status) +
            (reply.status == HALFULP_FAILED ? " (HALFULP_FAILED)" : ", which is no status"),
        reply.seconds);
  }
  for (std::size_t o = 0; o < outputs.size(); ++o) {
    Tensor& t = outputs[o];
    const Placed& p = job.outputs[o];
    if (!t.bytes.empty()) std::memcpy(t.bytes.data(), arena_->base + p.data, t.bytes.size());
    for (std::uint64_t i = p.begin; i < p.end; ++i) {
      if (i >= p.data && i < p.data + t.bytes.size()) continue;
      if (arena_->base[i] == std::byte{output_slack}) continue;
      const auto width = static_cast<std::int64_t>(info(t.element).bytes);
      const std::int64_t offset = static_cast<std::int64_t>(i) - static_cast<std::int64_t>(p.data);
      const std::int64_t element = offset >= 0 ? offset / width : -((width - 1 - offset) / width);
      return failed(std::string("wrote ") + (offset < 0 ? "before" : "beyond") + " output " +
                        t.name + " (at element " + std::to_string(element) + ")",
                    reply.seconds);
    }
  }
  RunResult result;
  result.outputs = std::move(outputs);
  result.seconds = reply.seconds;
  return result;
}

BothResult Runner::run_both(const Case& c) {
  BothResult both;
  static_cast<RunResult&>(both) = run(c, Placement::start);
  if (both.outcome != Outcome::pass) return both;
  RunResult end = run(c, Placement::end);
  if (end.outcome != Outcome::pass) {
    both.outcome = Outcome::fail;
    both.reason =
        (end.outcome == Outcome::unsupported ? "supported it once, and then not" : end.reason) +
        " (in the second call, whose tensors end at guard pages)";
    both.outputs.clear();
    return both;
  }
  both.second = std::move(end.outputs);
  std::uint64_t unwritten = 0;
  std::string first;
  for (std::size_t o = 0; o < both.outputs.size(); ++o) {
    const Tensor &x = both.outputs[o], &y = both.second[o];
    const auto width = static_cast<std::size_t>(info(x.element).bytes);
    const auto untouched = [&](const Tensor& t, std::size_t i, unsigned char value) {
      return std::all_of(t.bytes.begin() + static_cast<std::ptrdiff_t>(i * width),
                         t.bytes.begin() + static_cast<std::ptrdiff_t>((i + 1) * width),
                         [&](std::byte b) { return b == std::byte{value}; });
    };
    for (std::size_t i = 0; i < x.count(); ++i) {
      if (!untouched(x, i, fill[0]) || !untouched(y, i, fill[1])) continue;
      if (unwritten++ == 0) first = place_text(x.name, index_of(i, x.shape));
    }
  }
  if (unwritten > 0) {
    both.outcome = Outcome::fail;
    both.reason =
        "left " + first + " unwritten" +
        (unwritten > 1 ? ", and " + std::to_string(unwritten - 1) + " more elements" : "");
    both.outputs.clear();
  }
  return both;
}

}  // namespace halfulp::conformance
