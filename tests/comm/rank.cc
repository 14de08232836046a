#include "tests/comm/rank.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <thread>

namespace kumiki::test {
namespace {

template <class T>
void put(unsigned char* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

template <class T>
T take(const unsigned char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// Of values that are exact in f16: no rounding. Subnormals are not needed.
uint16_t f16_of(double value) {
  if (value == 0) return 0;
  if (std::isnan(value)) return 0x7e00;
  int exponent = 0;
  const double fraction = std::frexp(std::fabs(value), &exponent); // 0.5 … 1
  const auto mantissa = static_cast<uint16_t>(std::ldexp(fraction, 11)) & 0x3ff;
  return static_cast<uint16_t>((value < 0 ? 0x8000 : 0) | (exponent + 14) << 10 | mantissa);
}

double value_of_f16(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
  const double magnitude = exponent == 31  ? (mantissa ? NAN : INFINITY)
                           : exponent == 0 ? std::ldexp(mantissa, -24)
                                           : std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

} // namespace

void Buffer::set(uint64_t i, double value) {
  unsigned char* const at = bytes_.data() + i * km_dtype_bytes(dtype_);
  switch (dtype_) {
    case KM_F32: return put(at, static_cast<float>(value));
    case KM_BF16: return put(at, static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16));
    case KM_F16: return put(at, f16_of(value));
    case KM_F64: return put(at, value);
    case KM_I32: return put(at, static_cast<int32_t>(value));
    case KM_I64: return put(at, static_cast<int64_t>(value));
    default: return put(at, static_cast<uint8_t>(static_cast<int>(value)));
  }
}

double Buffer::get(uint64_t i) const {
  const unsigned char* const at = bytes_.data() + i * km_dtype_bytes(dtype_);
  switch (dtype_) {
    case KM_F32: return take<float>(at);
    case KM_BF16: return std::bit_cast<float>(uint32_t{take<uint16_t>(at)} << 16);
    case KM_F16: return value_of_f16(take<uint16_t>(at));
    case KM_F64: return take<double>(at);
    case KM_I32: return take<int32_t>(at);
    case KM_I64: return static_cast<double>(take<int64_t>(at));
    default: return static_cast<int8_t>(take<uint8_t>(at));
  }
}

bool Buffer::intact() const {
  for (uint64_t i = bytes_.size() - 16; i < bytes_.size(); ++i) {
    if (bytes_[i] != 0x5a) return false;
  }
  return true;
}

Rank::Rank(const km_comm& table, void* self) : table_(table), self_(self) {
  place_.struct_size = sizeof place_;
  check(table_.place(self_, &place_) == KM_OK, "place failed: " + last_error());
}

km_group* Rank::group(const std::vector<uint32_t>& ranks) {
  bool mine = false;
  for (const uint32_t rank : ranks) mine |= rank == place_.rank;
  if (!mine) return nullptr;
  km_group* group = nullptr;
  const km_status status = table_.group(self_, ranks.data(), static_cast<uint32_t>(ranks.size()), &group);
  check(status == KM_OK, "group failed: " + last_error());
  return group;
}

uint64_t Rank::start(const km_message& message) {
  uint64_t request = 0;
  check(table_.start(self_, &message, &request) == KM_OK, "start failed: " + last_error());
  return request;
}

bool Rank::test(uint64_t request) {
  uint32_t done = 0;
  check(table_.test(self_, request, &done) == KM_OK, "test failed: " + last_error());
  return done == 1;
}

void Rank::run(const std::vector<km_message>& messages) {
  std::vector<uint64_t> open;
  open.reserve(messages.size());
  for (const km_message& each : messages) open.push_back(start(each));
  while (!open.empty()) {
    if (std::erase_if(open, [&](uint64_t request) { return test(request); }) == 0) std::this_thread::yield();
  }
}

km_status Rank::status_of(const km_message& message, std::string* text) {
  uint64_t request = 0;
  uint32_t done = 0;
  km_status status = table_.start(self_, &message, &request);
  while (status == KM_OK && done == 0) {
    status = table_.test(self_, request, &done);
    std::this_thread::yield();
  }
  *text = status == KM_OK ? "" : last_error();
  return status;
}

void Rank::check(bool good, const std::string& what) const {
  if (!good) table_.abort(self_, 1, what.c_str());
}

km_message message(uint32_t op, uint32_t dtype, km_group* group, uint64_t count, km_address input, km_address output) {
  km_message out{};
  out.struct_size = sizeof out;
  out.op = op;
  out.dtype = dtype;
  out.reduce = KM_REDUCE_SUM;
  out.group = group;
  out.count = count;
  out.outer = 1;
  out.input = input;
  out.output = output;
  return out;
}

double value_of(uint32_t rank, uint64_t index, uint32_t salt) {
  uint64_t mixed = (index + 1) * 0x9e3779b97f4a7c15 + rank * 0xbf58476d1ce4e5b9 + salt * 0x94d049bb133111eb;
  mixed ^= mixed >> 29;
  mixed *= 0xbf58476d1ce4e5b9;
  return static_cast<double>((mixed >> 32) % 15) - 7;
}

} // namespace kumiki::test
