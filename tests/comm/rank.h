// One rank of a test: an open component, with helpers that start operations and wait for them, and typed buffers whose
// values are exact in every dtype. In: an open instance; a failed check ends the whole job by the component's abort.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/comm/host.h"

namespace kumiki::test {

// Elements of one dtype, read and written as double. bf16 and f16 hold what is exact in them.
class Buffer {
 public:
  Buffer(uint32_t dtype, uint64_t count)
      : dtype_(dtype), bytes_(count * km_dtype_bytes(dtype) + 16, 0x5a), count_(count) {}
  uint64_t size() const { return count_; }
  km_address address() const { return reinterpret_cast<km_address>(bytes_.data()); }
  void set(uint64_t i, double value);
  double get(uint64_t i) const;
  // Nothing was written behind the end.
  bool intact() const;
  bool operator==(const Buffer& other) const { return bytes_ == other.bytes_; }

 private:
  uint32_t dtype_;
  std::vector<unsigned char> bytes_;
  uint64_t count_;
};

class Rank {
 public:
  Rank(const km_comm& table, void* self);

  uint32_t rank() const { return place_.rank; }
  uint32_t size() const { return place_.size; }
  const km_rank_info& place() const { return place_; }
  const km_comm& table() const { return table_; }
  void* self() const { return self_; }

  // A group of these ranks; NULL if the caller is not one of them.
  km_group* group(const std::vector<uint32_t>& ranks);

  uint64_t start(const km_message& message);
  bool test(uint64_t request);
  // Starts all, then asks for them in turn until they are done.
  void run(const std::vector<km_message>& messages);
  // The status of starting and running one, and the text of its error.
  km_status status_of(const km_message& message, std::string* text);

  // Ends the job with `what` unless `good`.
  void check(bool good, const std::string& what) const;

 private:
  const km_comm& table_;
  void* self_;
  km_rank_info place_{};
};

// Rows of uneven parts, or of even ones where `counts` is empty.
km_message message(uint32_t op, uint32_t dtype, km_group* group, uint64_t count, km_address input, km_address output);

// Whole numbers from -7 to 7.
double value_of(uint32_t rank, uint64_t index, uint32_t salt);

} // namespace kumiki::test
