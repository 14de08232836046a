#include "plugins/comm/threads/group.h"

#include <string>

#include "plugins/comm/threads/message.h"

namespace kumiki::threads {

Transfer* Group::start(uint32_t me, uint64_t number, const km_message* message) {
  const std::lock_guard lock(mutex_);
  return is_point_to_point(message->op) ? start_point_to_point(me, message) : start_collective(me, number, message);
}

void Group::leave(Transfer* transfer) {
  if (!transfer->leave()) return;
  const std::lock_guard lock(mutex_);
  free_.push_back(transfer);
}

Transfer* Group::fresh(uint32_t members, uint64_t number) {
  if (free_.empty()) free_.push_back(all_.emplace_back(std::make_unique<Transfer>()).get());
  Transfer* const transfer = free_.back();
  free_.pop_back();
  transfer->reset(members, number);
  return transfer;
}

Transfer* Group::start_collective(uint32_t me, uint64_t number, const km_message* message) {
  while (number - first_number_ >= collectives_.size()) {
    collectives_.push_back(fresh(size(), first_number_ + collectives_.size()));
  }
  Transfer* const transfer = collectives_[number - first_number_];
  if (!transfer->bring(me, message)) return transfer;
  // Each member brings its own in order, so the first is the first that is whole.
  collectives_.pop_front();
  ++first_number_;
  std::string error;
  if (check_) error = difference(transfer->messages(), ranks_);
  if (!error.empty()) {
    std::string names;
    for (const uint32_t rank : ranks_) names += (names.empty() ? "" : " ") + std::to_string(rank);
    error = "collective " + std::to_string(number) + " of the group of ranks " + names + " differs: " + error;
  }
  transfer->open_for_work(error);
  return transfer;
}

Transfer* Group::start_point_to_point(uint32_t me, const km_message* message) {
  const bool sends = message->op == KM_COMM_SEND;
  const uint32_t peer = static_cast<uint32_t>(message->peer), side = sends ? 0 : 1;
  const uint32_t source = sends ? me : peer, destination = sends ? peer : me;
  for (auto other = waiting_.begin(); other != waiting_.end(); ++other) {
    if (other->source != source || other->destination != destination || other->tag != message->tag) continue;
    Transfer* const transfer = other->transfer;
    if (transfer->has(side)) continue;
    waiting_.erase(other);
    transfer->bring(side, message);
    const km_message& sent = transfer->message(0);
    const km_message& received = transfer->message(1);
    std::string error;
    if (sent.count != received.count || sent.dtype != received.dtype) {
      error = "rank " + std::to_string(ranks_[source]) + " calls " + describe(sent, 1) + ", where rank " +
              std::to_string(ranks_[destination]) + " calls " + describe(received, 1) + " (tag " +
              std::to_string(message->tag) + ")";
    }
    transfer->open_for_work(error);
    return transfer;
  }
  Transfer* const transfer = fresh(2, 0);
  transfer->bring(side, message);
  waiting_.push_back({source, destination, message->tag, transfer});
  return transfer;
}

} // namespace kumiki::threads
