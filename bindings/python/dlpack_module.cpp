// DLPack in halfulp._core: other libraries' tensors in the memory of the host as NumPy buffers, and
// NumPy's own capsules under a dtype that NumPy cannot name. The public face is _dlpack.py.
#include "bindings/python/dlpack.hpp"

#include "bindings/python/arguments.hpp"

namespace halfulp::python {
namespace {

constexpr const char* name = "dltensor";
constexpr const char* used_name = "used_dltensor";
constexpr const char* versioned_name = "dltensor_versioned";
constexpr const char* used_versioned_name = "used_dltensor_versioned";
constexpr std::int32_t most_dimensions = 64;  // NumPy's

template <class Managed>
void release(void* pointer) {
  auto* managed = static_cast<Managed*>(pointer);
  if (managed->deleter != nullptr) managed->deleter(managed);
}

// Takes the tensor out of its capsule, as the protocol wants: whoever renames it has to delete it.
template <class Managed>
Managed* taken(const py::object& capsule, const char* from, const char* to) {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), from));
  if (managed == nullptr || PyCapsule_SetName(capsule.ptr(), to) != 0)
    throw py::error_already_set();
  return managed;
}

std::string type_name(const dlpack::DataType& type) {
  if (type.code >= std::size(dlpack::data_type_names))
    return "number " + std::to_string(type.code) + " of DLPack";
  std::string text = dlpack::data_type_names[type.code];
  if (type.code < dlpack::bool_code) text += std::to_string(type.bits);
  return text;
}

// (the memory as an array of unsigned integers, one per element; the name of its dtype)
py::tuple buffer_of(const dlpack::Tensor& tensor, bool read_only, bool padded,
                    const py::capsule& owner) {
  const dlpack::DataType type = tensor.type;
  const std::string dtype = type_name(type);
  if (type.lanes != 1) {
    throw py::type_error("elements of " + std::to_string(type.lanes) + " " + dtype +
                         " are not taken; pass an array of single ones");
  }
  if (type.bits < 8 && !padded)
    throw py::type_error("packed " + dtype + " is not taken; pass it with a byte for each element");
  const int bytes = type.bits < 8 ? 1 : type.bits / 8;
  if ((bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8) ||
      (type.bits > 8 && type.bits % 8 != 0))
    throw py::type_error("dtype " + dtype + " is not taken; pass numbers of 8 to 64 bits");
  // Its device is asked for before; a tensor that says otherwise may not be touched.
  const bool host = std::find(std::begin(dlpack::host_devices), std::end(dlpack::host_devices),
                              tensor.device.type) != std::end(dlpack::host_devices);
  if (!host) {
    throw py::type_error("its tensor is on device " + std::to_string(tensor.device.type) +
                         ", not in the memory of the host as __dlpack_device__ says");
  }
  if (tensor.dimensions < 0 || tensor.dimensions > most_dimensions) {
    throw py::type_error("its tensor has " + std::to_string(tensor.dimensions) +
                         " dimensions, but NumPy's arrays have 0 to " +
                         std::to_string(most_dimensions));
  }
  if (tensor.dimensions > 0 && tensor.shape == nullptr)
    throw py::type_error("its tensor has dimensions but no shape");
  std::vector<py::ssize_t> shape(tensor.shape, tensor.shape + tensor.dimensions);
  std::vector<py::ssize_t> strides(shape.size());
  py::ssize_t step = bytes;
  for (std::size_t d = shape.size(); d-- > 0; step *= shape[d])
    strides[d] = tensor.strides != nullptr ? tensor.strides[d] * bytes : step;
  const py::dtype bits("u" + std::to_string(bytes));
  // Where there are no elements there need be no memory.
  if (std::find(shape.begin(), shape.end(), 0) != shape.end())
    return py::make_tuple(py::array(bits, shape), dtype);
  if (tensor.data == nullptr) throw py::type_error("its tensor has elements but no memory");
  py::array array(bits, shape, strides, static_cast<std::byte*>(tensor.data) + tensor.byte_offset,
                  owner);
  if (read_only) array.attr("flags").attr("writeable") = false;
  return py::make_tuple(array, dtype);
}

py::tuple read(const py::object& capsule) {
  if (PyCapsule_IsValid(capsule.ptr(), versioned_name) != 0) {
    auto* managed =
        taken<dlpack::ManagedTensorVersioned>(capsule, versioned_name, used_versioned_name);
    const py::capsule owner(managed, release<dlpack::ManagedTensorVersioned>);
    if (managed->version.major != dlpack::major_version) {
      throw py::type_error("version " + std::to_string(managed->version.major) +
                           " of DLPack is not understood; this is version 1");
    }
    return buffer_of(managed->tensor, (managed->flags & dlpack::flag_read_only) != 0,
                     (managed->flags & dlpack::flag_sub_byte_padded) != 0, owner);
  }
  if (PyCapsule_IsValid(capsule.ptr(), name) != 0) {
    auto* managed = taken<dlpack::ManagedTensor>(capsule, name, used_name);
    const py::capsule owner(managed, release<dlpack::ManagedTensor>);
    // It cannot say whether it may be written: arrays of JAX may not.
    return buffer_of(managed->tensor, true, false, owner);
  }
  throw py::type_error("no capsule of DLPack, or one that was used already");
}

// Gives the elements of a capsule that nobody has taken yet another dtype of the same size, of a
// byte or more.
void rename_type(const py::object& capsule, const std::string& dtype) {
  dlpack::Tensor* tensor = nullptr;
  if (PyCapsule_IsValid(capsule.ptr(), versioned_name) != 0)
    tensor = &static_cast<dlpack::ManagedTensorVersioned*>(
                  PyCapsule_GetPointer(capsule.ptr(), versioned_name))
                  ->tensor;
  else if (PyCapsule_IsValid(capsule.ptr(), name) != 0)
    tensor =
        &static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), name))->tensor;
  else
    throw py::type_error("no capsule of DLPack, or one that was used already");
  for (std::size_t code = 0; code < dlpack::sub_byte_code; ++code) {
    const dlpack::DataType type{static_cast<std::uint8_t>(code), tensor->type.bits, 1};
    if (type_name(type) != dtype) continue;
    tensor->type = type;
    return;
  }
  throw py::value_error("DLPack has no dtype " + dtype + " of " +
                        std::to_string(tensor->type.bits) + " bits");
}

}  // namespace

void define_dlpack(py::module_& m) {
  m.def("read_dlpack", &read, py::arg("capsule"));
  m.def("rename_dlpack_type", &rename_type, py::arg("capsule"), py::arg("dtype"));
}

}  // namespace halfulp::python
