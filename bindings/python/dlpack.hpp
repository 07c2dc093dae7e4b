// The structures of DLPack 1.x, declared from its specification (dlpack.org; version 1.1 of the
// header names the codes below). Only what a host needs.
#pragma once

#include <cstdint>

namespace halfulp::python::dlpack {

// Another major version moves fields: then only the deleter may be called.
constexpr std::uint32_t major_version = 1;

struct Version {
  std::uint32_t major, minor;
};

struct Device {
  std::int32_t type, id;
};

constexpr std::int32_t host_devices[] = {1, 3, 11};  // kDLCPU, kDLCUDAHost, kDLROCMHost

struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};
constexpr std::uint8_t bool_code = 6;
constexpr std::uint8_t sub_byte_code = 15;  // those from there on have less than 8 bits
// Those below float8_e3m4 need their bits to be complete; the others are whole names.
constexpr const char* data_type_names[] = {"int",
                                           "uint",
                                           "float",
                                           "handle",
                                           "bfloat",
                                           "complex",
                                           "bool",
                                           "float8_e3m4",
                                           "float8_e4m3",
                                           "float8_e4m3b11fnuz",
                                           "float8_e4m3fn",
                                           "float8_e4m3fnuz",
                                           "float8_e5m2",
                                           "float8_e5m2fnuz",
                                           "float8_e8m0fnu",
                                           "float6_e2m3fn",
                                           "float6_e3m2fn",
                                           "float4_e2m1fn"};

struct Tensor {
  void* data;
  Device device;
  std::int32_t dimensions;
  DataType type;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; before 1.2 null for a C-contiguous tensor
  std::uint64_t byte_offset;
};

// What a capsule "dltensor" holds: before 1.0.
struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

// What a capsule "dltensor_versioned" holds.
struct ManagedTensorVersioned {
  Version version;
  void* context;
  void (*deleter)(ManagedTensorVersioned*);
  std::uint64_t flags;
  Tensor tensor;
};
constexpr std::uint64_t flag_read_only = 1;
constexpr std::uint64_t flag_sub_byte_padded = 4;

static_assert(sizeof(void*) != 8 || (sizeof(Tensor) == 48 && sizeof(ManagedTensor) == 64 &&
                                     sizeof(ManagedTensorVersioned) == 80));

}  // namespace halfulp::python::dlpack
