#include "plugins/comm/threads/transfer.h"

#include <algorithm>
#include <cstring>

#include "plugins/comm/threads/message.h"
#include "plugins/comm/threads/reduce.h"

namespace kumiki::threads {
namespace {

constexpr uint64_t kChunkBytes = 256 << 10;
constexpr uint32_t kChunksAtATime = 16; // about a millisecond: the thread that asks has other requests too

void copy_elements(km_address to, uint64_t to_at, km_address from, uint64_t from_at, uint64_t count, uint64_t width) {
  if (to + to_at * width == from + from_at * width || count == 0) return;
  std::memcpy(reinterpret_cast<char*>(to) + to_at * width, reinterpret_cast<const char*>(from) + from_at * width,
              count * width);
}

} // namespace

void Transfer::reset(uint32_t members, uint64_t number) {
  messages_.assign(members, nullptr);
  number_ = number;
  brought_ = 0;
  error_.clear();
  ready_.store(false, std::memory_order_relaxed);
  next_.store(0, std::memory_order_relaxed);
  finished_.store(0, std::memory_order_relaxed);
  leaving_.store(members, std::memory_order_relaxed);
}

bool Transfer::bring(uint32_t m, const km_message* message) {
  messages_[m] = message;
  return ++brought_ == messages_.size();
}

void Transfer::open_for_work(const std::string& error) {
  error_ = error;
  const km_message& first = *messages_[0];
  const uint32_t members = static_cast<uint32_t>(messages_.size());
  inputs_.clear();
  outputs_.clear();
  for (const km_message* message : messages_) {
    inputs_.push_back(message->input);
    outputs_.push_back(message->output);
  }
  // Of the side that holds all members' parts.
  elements_ = first.count;
  if (first.op == KM_COMM_REDUCE_SCATTER || first.op == KM_COMM_ALL_GATHER)
    elements_ = first.outer * row(first, members);
  if (first.op == KM_COMM_ALL_TO_ALL) elements_ = first.count * members * members;
  chunk_elements_ = kChunkBytes / km_dtype_bytes(first.dtype);
  chunks_ = error.empty() ? (elements_ + chunk_elements_ - 1) / chunk_elements_ : 0;
  ready_.store(true, std::memory_order_release);
}

bool Transfer::work() {
  if (!ready_.load(std::memory_order_acquire)) return false;
  for (uint32_t i = 0; i < kChunksAtATime; ++i) {
    if (next_.load(std::memory_order_relaxed) >= chunks_) break;
    const uint64_t chunk = next_.fetch_add(1, std::memory_order_relaxed);
    if (chunk >= chunks_) break;
    // The messages may be read here: no member can see the end before this chunk is counted.
    move_chunk(chunk);
    finished_.fetch_add(1, std::memory_order_acq_rel);
  }
  return finished_.load(std::memory_order_acquire) == chunks_;
}

void Transfer::move_chunk(uint64_t chunk) {
  const uint64_t begin = chunk * chunk_elements_, end = std::min(elements_, begin + chunk_elements_);
  const km_message& first = *messages_[0];
  const uint32_t members = static_cast<uint32_t>(messages_.size());
  switch (first.op) {
    case KM_COMM_ALL_REDUCE:
      return reduce_range(first.dtype, first.reduce, inputs_.data(), members, begin, outputs_.data(), members, begin,
                          end - begin);
    case KM_COMM_REDUCE_SCATTER:
    case KM_COMM_ALL_GATHER: return reduce_or_gather(begin, end);
    case KM_COMM_ALL_TO_ALL: return all_to_all(begin, end);
    default: return copy(begin, end);
  }
}

// The range lies in rows of all members' parts: it is cut where a part ends.
void Transfer::reduce_or_gather(uint64_t begin, uint64_t end) {
  const km_message& first = *messages_[0];
  const uint32_t members = static_cast<uint32_t>(messages_.size());
  const uint64_t width = km_dtype_bytes(first.dtype), row_elements = row(first, members);
  uint64_t r = begin / row_elements, at = begin % row_elements; // where in the part, once m is found
  uint32_t m = 0;
  for (; at >= part(first, m); ++m) at -= part(first, m);
  while (begin < end) {
    const uint64_t own = part(first, m), n = std::min(own - at, end - begin);
    const uint64_t own_at = r * own + at;
    if (first.op == KM_COMM_REDUCE_SCATTER) {
      if (n) reduce_range(first.dtype, first.reduce, inputs_.data(), members, begin, &outputs_[m], 1, own_at, n);
    } else {
      for (const km_address output : outputs_) copy_elements(output, begin, inputs_[m], own_at, n, width);
    }
    begin += n;
    at = 0;
    if (++m == members) m = 0, ++r;
  }
}

// The range lies in the members' outputs, one after another.
void Transfer::all_to_all(uint64_t begin, uint64_t end) {
  const uint64_t members = messages_.size(), count = messages_[0]->count, width = km_dtype_bytes(messages_[0]->dtype);
  while (begin < end) {
    const uint64_t at = begin % count, source = begin / count % members, destination = begin / count / members;
    const uint64_t n = std::min(count - at, end - begin);
    copy_elements(outputs_[destination], source * count + at, inputs_[source], destination * count + at, n, width);
    begin += n;
  }
}

void Transfer::copy(uint64_t begin, uint64_t end) {
  const km_message& first = *messages_[0];
  const uint64_t width = km_dtype_bytes(first.dtype);
  if (is_point_to_point(first.op)) return copy_elements(outputs_[1], begin, inputs_[0], begin, end - begin, width);
  for (const km_address output : outputs_) {
    copy_elements(output, begin, inputs_[static_cast<uint32_t>(first.peer)], begin, end - begin, width);
  }
}

} // namespace kumiki::threads
