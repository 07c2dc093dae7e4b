// The process that a kernel runs in; runner.cpp is the other side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/conformance/suite.hpp"

namespace halfulp::conformance {

// At the start of the shared memory: what a dying worker still can tell.
struct Control {
  enum Fault : std::int32_t { none, unknown, read_fault, write_fault };
  std::int32_t fault;
  std::int32_t fault_input;   // 1: an input, 0: an output
  std::int32_t fault_tensor;  // its place among them
  std::int32_t fault_inside;  // inside it, not around
  std::int64_t fault_offset;  // bytes from its start
  char reason[1024];          // why a worker ended itself
  char name[256], version[256], promise[1024], device[256], driver[256], runtime[256];
  std::int32_t device_type;
  std::int32_t query_status;
  std::uint32_t first_sequence;  // what a worker before this one left unread is not run
};

// Where a tensor lies in the shared memory, in bytes from its start.
struct Placed {
  std::uint64_t begin = 0, end = 0;  // its pages; a guard page stands before and after
  std::uint64_t data = 0;
};

struct Job {
  std::uint32_t sequence = 0;
  Case c;  // inputs without bytes
  std::vector<Placed> inputs, outputs;
};
std::vector<std::byte> packed(const Job& job);
Job unpacked(const std::vector<std::byte>& bytes);

struct Reply {
  std::uint32_t sequence = 0;
  std::int32_t status = 0;
  double seconds = 0;
};

constexpr std::size_t page = 4096;
constexpr std::size_t control_bytes = 16 * page;
constexpr int exit_with_reason = 70;
constexpr unsigned char input_slack = 0xff, output_slack = 0xa5;

// Runs until the channel is closed. `base`: the shared memory.
[[noreturn]] void worker_main(const Suite& suite, const std::string& kernel, std::byte* base,
                              int channel);

// Whole messages; false at the end of the stream.
bool send_all(int fd, const void* data, std::size_t bytes);
bool receive_all(int fd, void* data, std::size_t bytes);

}  // namespace halfulp::conformance
