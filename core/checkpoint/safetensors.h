// The safetensors format, exactly: 8 bytes little-endian header length, a JSON header {name: {dtype, shape,
// data_offsets}} with an optional "__metadata__" of strings, padded with spaces to 8 bytes, then the tensors' bytes
// without holes. Source: https://huggingface.co/docs/safetensors. In and out: bytes; files are opened by the callers.
// Floor: checkpoint.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/regions.h"

namespace kumiki {

struct SafetensorsEntry {
  std::string name;
  uint32_t dtype = 0;     // KM_*; 0: a type that kumiki does not have (bool, i8, fp8, …), told by dtype_name
  std::string dtype_name; // "F32"
  Shape shape;
  uint64_t begin = 0; // of the data, from the end of the header
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors; // by place in the file
  std::map<std::string, std::string> metadata;
  uint64_t data_begin = 0;                                     // bytes before the data
  const SafetensorsEntry* find(const std::string& name) const; // nullptr: none
};

// "F32" and back; "" and 0 where there is none.
std::string safetensors_dtype(uint32_t dtype);
uint32_t dtype_from_safetensors(const std::string& name);

// Reads the header of a whole file in memory. Whatever the bytes are, either all entries lie inside the file, without
// overlap or hole, and their sizes fit dtype and shape, or Error (exit_code 4) naming `where` is thrown.
SafetensorsHeader parse_safetensors(const std::string& where, const void* bytes, uint64_t size);

// The bytes in front of the data. Sets begin and end of the entries, in their order, from dtype and shape. The data
// follow in that order; align 8-byte types first if a reader by memory map must find them aligned. Throws Error where
// two names are equal.
std::string make_safetensors_header(std::vector<SafetensorsEntry>& entries,
                                    const std::map<std::string, std::string>& metadata);

} // namespace kumiki
