// Group: some ranks of a world, and the transfers under way between them. Members' collectives meet by their number, sends
// and recvs by source, destination and tag, first in, first out. In: messages; out: the transfer that each belongs to.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "plugins/comm/threads/transfer.h"

namespace kumiki::threads {

class Group {
 public:
  Group(std::vector<uint32_t> ranks, bool check) : ranks_(std::move(ranks)), check_(check) {}

  const std::vector<uint32_t>& ranks() const { return ranks_; }
  uint32_t size() const { return static_cast<uint32_t>(ranks_.size()); }

  // Member `me` brings a message (a right one: fault_of); `number` counts that member's collectives. Never waits for
  // another member. [any]
  Transfer* start(uint32_t me, uint64_t number, const km_message* message);
  // A member knows that the transfer is done. [any]
  void leave(Transfer* transfer);

 private:
  Transfer* fresh(uint32_t members, uint64_t number);
  Transfer* start_collective(uint32_t me, uint64_t number, const km_message* message);
  Transfer* start_point_to_point(uint32_t me, const km_message* message);

  // A send or recv that waits for the other.
  struct Waiting {
    uint32_t source, destination;
    int32_t tag;
    Transfer* transfer;
  };

  const std::vector<uint32_t> ranks_;
  const bool check_;
  std::mutex mutex_; // all below
  std::vector<std::unique_ptr<Transfer>> all_;
  std::vector<Transfer*> free_;
  std::deque<Transfer*> collectives_; // that some member has not brought yet, from number first_number_ on
  uint64_t first_number_ = 0;
  std::vector<Waiting> waiting_;
};

} // namespace kumiki::threads
