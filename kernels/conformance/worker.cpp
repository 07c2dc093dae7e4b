#include "kernels/conformance/worker.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>
#include <unistd.h>
#ifdef __linux__
  #include <sys/prctl.h>
#endif

#include <algorithm>
#include <cerrno>
#include <cfenv>
#include <chrono>
#include <csignal>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>

#include "kernels/conformance/call.hpp"
#include "kernels/conformance/cuda_library.hpp"

namespace halfulp::conformance {

namespace {

// ---------------------------------------------------------------- messages
class Writer {
 public:
  template <class T>
  void number(T x) {
    const auto* from = reinterpret_cast<const std::byte*>(&x);
    bytes.insert(bytes.end(), from, from + sizeof x);
  }
  void text(const std::string& s) {
    number(s.size());
    const auto* from = reinterpret_cast<const std::byte*>(s.data());
    bytes.insert(bytes.end(), from, from + s.size());
  }
  void tensor(const TensorInfo& t, const Placed& placed) {
    text(t.name);
    number(t.element);
    number(t.shape.size());
    for (const std::int64_t extent : t.shape) number(extent);
    number(placed);
  }
  std::vector<std::byte> bytes;
};

class Reader {
 public:
  explicit Reader(const std::vector<std::byte>& bytes) : at_(bytes.data()) {}
  template <class T>
  T number() {
    T x;
    std::memcpy(&x, at_, sizeof x);
    at_ += sizeof x;
    return x;
  }
  std::string text() {
    const auto size = number<std::size_t>();
    std::string s(reinterpret_cast<const char*>(at_), size);
    at_ += size;
    return s;
  }
  TensorInfo tensor(Placed& placed) {
    TensorInfo t;
    t.name = text();
    t.element = number<Element>();
    t.shape.resize(number<std::size_t>());
    for (std::int64_t& extent : t.shape) extent = number<std::int64_t>();
    placed = number<Placed>();
    return t;
  }

 private:
  const std::byte* at_;
};

// ---------------------------------------------------------------- faults
struct Watched {
  std::uintptr_t guard_begin, guard_end, data, data_end;
  std::int32_t input, place;
};
constexpr std::size_t most_watched = 64;
Watched watched[most_watched];
volatile std::size_t watched_count = 0;
Control* control_of_handler = nullptr;

// Says what was touched and lets the signal come again, now by default.
void on_fault(int signal, siginfo_t* facts, [[maybe_unused]] void* context) {
  const auto address = reinterpret_cast<std::uintptr_t>(facts->si_addr);
  for (std::size_t i = 0; i < watched_count; ++i) {
    const Watched& w = watched[i];
    if (address < w.guard_begin || address >= w.guard_end) continue;
    Control& control = *control_of_handler;
    control.fault_input = w.input;
    control.fault_tensor = w.place;
    control.fault_inside = address >= w.data && address < w.data_end ? 1 : 0;
    control.fault_offset = static_cast<std::int64_t>(address - w.data);
    control.fault = Control::unknown;
#if defined(__x86_64__) && defined(__linux__)
    const auto error = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR];
    control.fault = (error & 2) != 0 ? Control::write_fault : Control::read_fault;
#endif
    break;
  }
  std::signal(signal, SIG_DFL);
  raise(signal);  // blocked until this returns
}

void watch_faults() {
  static char stack[64 * 1024];
  stack_t alternative{};
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof stack;
  sigaltstack(&alternative, nullptr);
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

template <std::size_t N>
void copy_text(char (&to)[N], const char* from) {
  std::strncpy(to, from == nullptr ? "" : from, N - 1);
  to[N - 1] = '\0';
}

// ---------------------------------------------------------------- the kernel
class Kernel {
 public:
  Kernel(const Suite& suite, const std::string& name, Control& control) {
    if (name.starts_with("builtin:")) {
      for (const Builtin& builtin : suite.builtins()) {
        if (name.substr(8) == builtin.name) run_ = builtin.run;
      }
      copy_text(control.name, name.c_str());
      info_.device_type = 1;
      control.device_type = 1;
      return;
    }
    void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      throw std::runtime_error(name + " cannot be loaded as a shared library: " + dlerror());
    }
    const auto query =
        reinterpret_cast<decltype(&halfulp_kernel_query)>(symbol(library, name, "query"));
    run_ = reinterpret_cast<decltype(&halfulp_kernel_run)>(symbol(library, name, "run"));
    destroy_ =
        reinterpret_cast<decltype(&halfulp_kernel_destroy)>(symbol(library, name, "destroy"));
    info_.abi = HALFULP_KERNEL_ABI;
    info_.device_type = 1;
    const int status = query(HALFULP_KERNEL_ABI, suite.name(), &info_);
    control.query_status = status;
    if (status == HALFULP_UNSUPPORTED) return;
    if (status != HALFULP_OK) {
      throw std::runtime_error("halfulp_kernel_query of " + name + " returned " +
                               std::to_string(status) +
                               "; HALFULP_OK (0) and HALFULP_UNSUPPORTED (1) are no faults");
    }
    if (info_.abi != HALFULP_KERNEL_ABI) {
      throw std::runtime_error(name + " speaks version " + std::to_string(info_.abi) +
                               " of the interface, but this is version " +
                               std::to_string(HALFULP_KERNEL_ABI) +
                               "; compile it with this version's halfulp_kernel.h");
    }
    if (info_.device_type != 1 && info_.device_type != 2) {
      throw std::runtime_error(name + " asks for device_type " + std::to_string(info_.device_type) +
                               ", but there are 1 (host) and 2 (CUDA)");
    }
    copy_text(control.name, info_.name);
    copy_text(control.version, info_.version);
    copy_text(control.promise, info_.promise);
    control.device_type = info_.device_type;
    if (info_.device_type == 2) {
      cuda_.emplace();
      copy_text(control.device, cuda_->device.c_str());
      copy_text(control.driver, cuda_->driver.c_str());
      copy_text(control.runtime, cuda_->runtime.c_str());
      stream_ = cuda_->new_stream();
    }
  }

  int run(const halfulp_call& call) const { return run_(info_.state, &call); }
  void destroy() const {
    if (destroy_ != nullptr) destroy_(info_.state);
  }
  const std::optional<CudaLibrary>& cuda() const { return cuda_; }
  void* stream() const { return stream_; }

 private:
  static void* symbol(void* library, const std::string& name, const char* what) {
    const std::string full = std::string("halfulp_kernel_") + what;
    void* address = dlsym(library, full.c_str());
    if (address == nullptr)
      throw std::runtime_error(name + " exports no function " + full + "; see halfulp_kernel.h");
    return address;
  }

  int (*run_)(void*, const halfulp_call*) = nullptr;
  void (*destroy_)(void*) = nullptr;
  halfulp_kernel_info info_{};
  std::optional<CudaLibrary> cuda_;
  void* stream_ = nullptr;
};

void redirect_streams() {
  // What a kernel prints must not get into records.
  dup2(2, 1);
  const int null = open("/dev/null", O_RDONLY);
  if (null >= 0) dup2(null, 0);
}

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Reply run_on_host(const Suite& suite, const Kernel& kernel, std::byte* base, const Job& job) {
  std::vector<void*> inputs, outputs;
  watched_count = 0;
  std::size_t count = 0;
  const auto place = [&](const std::vector<Placed>& list, bool input, const auto& infos,
                         std::vector<void*>& data) {
    for (std::size_t i = 0; i < list.size(); ++i) {
      const Placed& p = list[i];
      std::byte* begin = base + p.begin;
      mprotect(begin - page, page, PROT_NONE);
      mprotect(base + p.end, page, PROT_NONE);
      if (input && p.end > p.begin) mprotect(begin, p.end - p.begin, PROT_READ);
      data.push_back(base + p.data);
      if (count == most_watched) continue;
      const auto at = reinterpret_cast<std::uintptr_t>(base);
      const std::size_t bytes =
          infos[i].count() * static_cast<std::size_t>(info(infos[i].element).bytes);
      watched[count++] = {at + p.begin - page, at + p.end + page, at + p.data,
                          at + p.data + bytes, input ? 1 : 0,     static_cast<std::int32_t>(i)};
    }
  };
  place(job.inputs, true, job.c.inputs, inputs);
  place(job.outputs, false, job.c.outputs, outputs);
  watched_count = count;
  const Call call(suite.name(), job.c, inputs, outputs);
  std::fesetenv(FE_DFL_ENV);
  const Clock::time_point start = Clock::now();
  const int status = kernel.run(call.get());
  const double seconds = seconds_since(start);
  std::fesetenv(FE_DFL_ENV);
  return {job.sequence, status, seconds};
}

// One image of all tensors with slack of a page around each goes to the device and comes back.
Reply run_on_device(const Suite& suite, const Kernel& kernel, std::byte* base, const Job& job) {
  const CudaLibrary& cuda = *kernel.cuda();
  struct Part {
    const TensorInfo* tensor;
    const Placed* placed;
    bool input;
    std::size_t at, bytes;
  };
  std::vector<Part> parts;
  std::size_t size = 0;
  const auto add = [&](const TensorInfo& t, const Placed& placed, bool input) {
    const std::size_t bytes = t.count() * static_cast<std::size_t>(info(t.element).bytes);
    parts.push_back({&t, &placed, input, size + page, bytes});
    size += 2 * page + (bytes + page - 1) / page * page;
  };
  for (std::size_t i = 0; i < job.inputs.size(); ++i) add(job.c.inputs[i], job.inputs[i], true);
  for (std::size_t i = 0; i < job.outputs.size(); ++i) add(job.c.outputs[i], job.outputs[i], false);
  std::vector<std::byte> image(size), after(size);
  std::vector<void*> inputs, outputs;
  static std::byte* memory = nullptr;
  static std::size_t allocated = 0;
  if (allocated < size) {
    if (memory != nullptr) cuda.free(memory);
    memory = nullptr;
    allocated = std::max<std::size_t>(2 * size, std::size_t{1} << 24);
    memory = static_cast<std::byte*>(cuda.allocate(allocated));
  }
  for (const Part& part : parts) {
    std::fill_n(image.begin() + static_cast<std::ptrdiff_t>(part.at - page),
                2 * page + (part.bytes + page - 1) / page * page,
                std::byte{part.input ? input_slack : output_slack});
    std::memcpy(image.data() + part.at, base + part.placed->data, part.bytes);
    (part.input ? inputs : outputs).push_back(memory + part.at);
  }
  cuda.copy_in(memory, image.data(), size);
  const Call made(suite.name(), job.c, inputs, outputs, {2, 0});
  halfulp_call call = made.get();
  call.stream = kernel.stream();
  std::fesetenv(FE_DFL_ENV);
  const Clock::time_point start = Clock::now();
  const int status = kernel.run(call);
  cuda.synchronize();
  const double seconds = seconds_since(start);
  cuda.copy_out(after.data(), memory, size);
  for (const Part& part : parts) {
    const std::size_t from = part.at - page;
    const std::size_t to = part.at + (part.bytes + page - 1) / page * page + page;
    const auto width = static_cast<std::int64_t>(info(part.tensor->element).bytes);
    for (std::size_t i = from; i < to; ++i) {
      const bool inside = i >= part.at && i < part.at + part.bytes;
      if (after[i] == image[i] || (inside && !part.input)) continue;
      const std::int64_t offset = static_cast<std::int64_t>(i) - static_cast<std::int64_t>(part.at);
      const std::int64_t element = offset >= 0 ? offset / width : -((width - 1 - offset) / width);
      throw std::runtime_error(std::string("wrote ") +
                               (inside       ? "to"
                                : offset < 0 ? "before"
                                             : "beyond") +
                               (part.input ? " input " : " output ") + part.tensor->name +
                               " (at element " + std::to_string(element) + ")");
    }
    if (!part.input) std::memcpy(base + part.placed->data, after.data() + part.at, part.bytes);
  }
  return {job.sequence, status, seconds};
}

}  // namespace

std::vector<std::byte> packed(const Job& job) {
  Writer out;
  out.number(job.sequence);
  out.text(job.c.key.variant);
  out.number(job.inputs.size());
  for (std::size_t i = 0; i < job.inputs.size(); ++i) out.tensor(job.c.inputs[i], job.inputs[i]);
  out.number(job.outputs.size());
  for (std::size_t i = 0; i < job.outputs.size(); ++i) out.tensor(job.c.outputs[i], job.outputs[i]);
  out.number(job.c.attributes.size());
  for (const Attribute& a : job.c.attributes) {
    out.text(a.name);
    out.number(a.value);
  }
  return out.bytes;
}

Job unpacked(const std::vector<std::byte>& bytes) {
  Reader in(bytes);
  Job job;
  job.sequence = in.number<std::uint32_t>();
  job.c.key.variant = in.text();
  job.inputs.resize(in.number<std::size_t>());
  for (Placed& placed : job.inputs) {
    Tensor t;
    static_cast<TensorInfo&>(t) = in.tensor(placed);
    job.c.inputs.push_back(std::move(t));
  }
  job.outputs.resize(in.number<std::size_t>());
  for (Placed& placed : job.outputs) job.c.outputs.push_back(in.tensor(placed));
  job.c.attributes.resize(in.number<std::size_t>());
  for (Attribute& a : job.c.attributes) {
    a.name = in.text();
    a.value = in.number<double>();
  }
  return job;
}

bool send_all(int fd, const void* data, std::size_t bytes) {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t sent = write(fd, from, bytes);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    from += sent;
    bytes -= static_cast<std::size_t>(sent);
  }
  return true;
}

bool receive_all(int fd, void* data, std::size_t bytes) {
  auto* to = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = read(fd, to, bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to += got;
    bytes -= static_cast<std::size_t>(got);
  }
  return true;
}

void worker_main(const Suite& suite, const std::string& name, std::byte* base, int channel) {
  auto& control = *reinterpret_cast<Control*>(base);
  setpgid(0, 0);
#ifdef __linux__
  prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  // Of the program that forked: a test runner's, Python's.
  for (const int signal : {SIGABRT, SIGFPE, SIGILL, SIGTERM, SIGINT, SIGPIPE})
    std::signal(signal, SIG_DFL);
  redirect_streams();
  control_of_handler = &control;
  const auto end_with = [&](const std::string& reason) {
    copy_text(control.reason, reason.c_str());
    _exit(exit_with_reason);
  };
  watch_faults();
  std::optional<Kernel> kernel;
  try {
    kernel.emplace(suite, name, control);
  } catch (const std::exception& e) {
    end_with(e.what());
  }
  const Reply hello{0, 0, 0};
  send_all(channel, &hello, sizeof hello);
  std::vector<std::byte> message;
  std::uint64_t size = 0;
  std::uint64_t used = control_bytes;
  while (receive_all(channel, &size, sizeof size)) {
    message.resize(size);
    if (!receive_all(channel, message.data(), size)) break;
    const Job job = unpacked(message);
    if (job.sequence < control.first_sequence) continue;
    mprotect(base + control_bytes, used - control_bytes, PROT_READ | PROT_WRITE);
    for (const auto* list : {&job.inputs, &job.outputs}) {
      for (const Placed& p : *list) used = std::max(used, p.end + page);
    }
    watch_faults();  // a kernel may have put its own handlers there
    try {
      const Reply reply = kernel->cuda() ? run_on_device(suite, *kernel, base, job)
                                         : run_on_host(suite, *kernel, base, job);
      if (!send_all(channel, &reply, sizeof reply)) break;
    } catch (const std::exception& e) {
      end_with(kernel->cuda() ? e.what() : std::string("threw an exception: ") + e.what());
    } catch (...) {
      end_with("threw an exception");
    }
  }
  kernel->destroy();
  _exit(0);
}

}  // namespace halfulp::conformance
