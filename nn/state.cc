// Names and shapes compared first, so that a file that does not fit changes nothing.
#include "nn/state.h"

#include <cmath>
#include <set>

#include "tensor/io/safetensors.h"

namespace mullion {
namespace {

std::vector<int64_t> sizes_of(const Tensor& t) { return {t.shape().begin(), t.shape().end()}; }

}  // namespace

void load_tensor(const TensorSource& source, const std::string& name, const Tensor& target) {
  const TensorEntry& entry = source.at(name);
  CHECK_AS(Fault::bad_file, entry.shape == sizes_of(target), "loading ", name, ": ",
           shape_text(entry.shape), " in ", source.name(), ", ", target.shape(), " in the model");
  DCHECK(target.is_contiguous());
  const bool here = target.device().type == DeviceType::cpu;
  const Tensor host = here ? target : Tensor::empty(target.shape(), target.dtype());
  if (target.dtype() == DType::bf16)
    source.read_bf16(name, host.data<bf16>());
  else
    source.read_f32(name, host.data<float>());
  if (!here) raw::copy_into(host, target);
}

BlockMatrix load_blocks(const TensorSource& source, const std::string& name, const Shape& shape,
                        Device device) {
  const TensorEntry& entry = source.at(name);
  CHECK_AS(Fault::bad_file, entry.shape == std::vector<int64_t>(shape.begin(), shape.end()),
           "loading ", name, ": ", shape_text(entry.shape), " in ", source.name(), ", ", shape,
           " in the model");
  const BlockMatrix host(entry.type, shape[0], shape[1]);
  uint8_t* bytes = host.bytes().data<uint8_t>();
  source.read_raw(name, {reinterpret_cast<std::byte*>(bytes), entry.bytes});
  try {
    check_scales(host, concat(source.name(), ": ", name));
  } catch (const Error&) {
    std::vector<float> values(entry.count);
    source.read_f32(name, values.data());  // finds it again, and says where in the file it is
    throw;
  }
  return to_device(host, device);
}

void check_tensors(const TensorSource& source, const std::vector<NamedParameter>& tensors) {
  std::set<std::string> expected;
  for (const NamedParameter& t : tensors) expected.insert(t.name);
  for (const TensorEntry& entry : source.entries())
    CHECK_AS(Fault::bad_file, expected.count(entry.name), source.name(), ": tensor ", entry.name,
             " ", shape_text(entry.shape), " is no part of the model");
  for (const NamedParameter& t : tensors) source.at(t.name);
}

void load_tensors(const TensorSource& source, const std::vector<NamedParameter>& tensors) {
  check_tensors(source, tensors);
  for (const NamedParameter& t : tensors) load_tensor(source, t.name, t.value);
}

void save_tensors(const std::filesystem::path& path, const std::vector<NamedParameter>& tensors,
                  const std::map<std::string, std::string>& metadata) {
  std::vector<TensorSpec> specs;
  for (const NamedParameter& t : tensors)
    specs.push_back({t.name, t.value.dtype(), sizes_of(t.value)});
  SafetensorsWriter writer(path, std::move(specs), metadata);
  for (const NamedParameter& t : tensors) {
    const Tensor dense = raw::to_device(raw::contiguous(t.value), Device{});
    const void* bytes = dense.data<void>();
    writer.write(t.name,
                 {static_cast<const std::byte*>(bytes), static_cast<size_t>(dense.bytes())});
  }
  writer.commit();
}

int64_t count_nonfinite(const std::vector<NamedParameter>& tensors) {
  int64_t count = 0;
  for (const NamedParameter& t : tensors) {
    if (t.value.dtype() != DType::f32) continue;
    const Tensor dense = raw::to_device(raw::contiguous(t.value), Device{});
    const float* x = dense.data<float>();
    for (int64_t i = 0; i < dense.numel(); ++i) count += !std::isfinite(x[i]);
  }
  return count;
}

}  // namespace mullion
