#include "plugins/comm/threads/message.h"

#include <algorithm>

#include "plugins/comm/threads/reduce.h"

namespace kumiki::threads {
namespace {

constexpr const char* kOps[] = {"",           "all_reduce", "reduce_scatter", "all_gather",
                                "all_to_all", "broadcast",  "send",           "recv"};
constexpr const char* kDtypes[] = {"", "f32", "bf16", "f16", "f64", "i32", "i64", "u8"};

bool reduces(uint32_t op) { return op == KM_COMM_ALL_REDUCE || op == KM_COMM_REDUCE_SCATTER; }
bool has_rows(uint32_t op) { return op == KM_COMM_REDUCE_SCATTER || op == KM_COMM_ALL_GATHER; }
bool has_peer(uint32_t op) { return op == KM_COMM_BROADCAST || is_point_to_point(op); }

bool agree(const km_message& a, const km_message& b, uint32_t members) {
  if (a.op != b.op || a.dtype != b.dtype || a.outer != b.outer) return false;
  if (reduces(a.op) && a.reduce != b.reduce) return false;
  if (has_peer(a.op) && a.peer != b.peer) return false;
  if (!a.counts && !b.counts) return a.count == b.count;
  for (uint32_t m = 0; m < members; ++m) {
    if (part(a, m) != part(b, m)) return false;
  }
  return true;
}

} // namespace

uint64_t row(const km_message& message, uint32_t members) {
  if (!message.counts) return message.count * members;
  uint64_t sum = 0;
  for (uint32_t m = 0; m < members; ++m) sum += message.counts[m];
  return sum;
}

std::string fault_of(const km_message& message, uint32_t members) {
  if (message.op < KM_COMM_ALL_REDUCE || message.op > KM_COMM_RECV) return "it has no such op";
  if (km_dtype_bytes(message.dtype) == 0) return "it has no such dtype";
  if (reduces(message.op)) {
    if (message.reduce != KM_REDUCE_SUM && message.reduce != KM_REDUCE_MAX) return "it has no such reduction";
    if (!can_reduce(message.dtype)) return "u8 is moved, not reduced";
  }
  if (has_peer(message.op) && (message.peer < 0 || static_cast<uint32_t>(message.peer) >= members)) {
    return "member " + std::to_string(message.peer) + " is not in its group of " + std::to_string(members);
  }
  if (is_point_to_point(message.op) && (message.tag < 0 || message.tag > 32767)) {
    return "its tag " + std::to_string(message.tag) + " is not in 0 … 32767";
  }
  if (!has_rows(message.op) && (message.outer != 1 || message.counts)) {
    return "only reduce_scatter and all_gather have rows or uneven parts";
  }
  return "";
}

std::string describe(const km_message& message, uint32_t members) {
  std::string text = message.op <= KM_COMM_RECV ? kOps[message.op] : "op " + std::to_string(message.op);
  text += " of ";
  if (message.outer != 1) text += std::to_string(message.outer) + " rows of ";
  if (message.counts) {
    for (uint32_t m = 0; m < members && m < 8; ++m) text += (m ? "+" : "") + std::to_string(message.counts[m]);
    if (members > 8) text += "+…";
  } else {
    text += std::to_string(message.count);
  }
  text += std::string(" ") + (message.dtype <= KM_U8 ? kDtypes[message.dtype] : "?");
  if (reduces(message.op)) text += message.reduce == KM_REDUCE_SUM ? " (sum)" : " (max)";
  if (message.op == KM_COMM_BROADCAST) text += " from member " + std::to_string(message.peer);
  return text;
}

std::string difference(std::span<const km_message* const> messages, const std::vector<uint32_t>& ranks) {
  const uint32_t members = static_cast<uint32_t>(messages.size());
  const auto differs_from = [&](uint32_t m) {
    return [&, m](const km_message* b) { return !agree(*messages[m], *b, members); };
  };
  if (std::none_of(messages.begin(), messages.end(), differs_from(0))) return "";
  // What most members call; the first of those that are as many.
  uint32_t usual = 0;
  int64_t fewest = members;
  for (uint32_t m = 0; m < members; ++m) {
    const int64_t others = std::count_if(messages.begin(), messages.end(), differs_from(m));
    if (others < fewest) usual = m, fewest = others;
  }
  std::string text;
  uint32_t named = 0;
  for (uint32_t m = 0; m < members; ++m) {
    if (agree(*messages[usual], *messages[m], members)) continue;
    if (++named > 4) continue;
    text += (named > 1 ? ", rank " : "rank ") + std::to_string(ranks[m]) + " calls " + describe(*messages[m], members);
  }
  if (named > 4) text += " and " + std::to_string(named - 4) + " more differ";
  return text + ", where rank " + std::to_string(ranks[usual]) + " calls " + describe(*messages[usual], members);
}

} // namespace kumiki::threads
