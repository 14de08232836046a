// message: what can be said about km_message without any other rank: whether it is right, what it is called, and where
// members' messages of one collective differ. In: messages; out: text, empty where all is well.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "kumiki/comm.h"

namespace kumiki::threads {

// Elements of member m's part.
inline uint64_t part(const km_message& message, uint32_t m) {
  return message.counts ? message.counts[m] : message.count;
}
// Elements of one row of all members' parts.
uint64_t row(const km_message& message, uint32_t members);

inline bool is_point_to_point(uint32_t op) { return op == KM_COMM_SEND || op == KM_COMM_RECV; }

// What is wrong with a message in a group of so many members, or "".
std::string fault_of(const km_message& message, uint32_t members);

// "all_reduce of 12 f32 (sum)".
std::string describe(const km_message& message, uint32_t members);

// How the members' messages of one collective differ: names the ranks that do not call what most do. "" if they agree.
std::string difference(std::span<const km_message* const> messages, const std::vector<uint32_t>& ranks);

} // namespace kumiki::threads
