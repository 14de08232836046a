// Transfer: one collective, or one pair of send and recv, shared by its members. Once all have brought their messages its
// work lies there in chunks, and whoever asks whether it is done takes some: one member that asks can finish it alone.
// What a chunk computes does not depend on who takes it, so the bits are the same whatever the timing.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "kumiki/comm.h"

namespace kumiki::threads {

class Transfer {
 public:
  // Makes it empty again, for so many members. Nobody else may know it.
  void reset(uint32_t members, uint64_t number);

  // Member `m` brings its message; true when it is the last. Behind the group's lock.
  bool bring(uint32_t m, const km_message* message);
  bool has(uint32_t m) const { return messages_[m] != nullptr; }
  const km_message& message(uint32_t m) const { return *messages_[m]; }
  const std::vector<const km_message*>& messages() const { return messages_; }
  uint64_t number() const { return number_; }

  // Opens it for work, or (with a text) as failed. By the last member, behind the group's lock.
  void open_for_work(const std::string& error);

  // Takes some chunks, if there are any; true if all is done. [any]
  bool work();
  // Why it failed, or "". Once it is done.
  const std::string& error() const { return error_; }
  // The caller has seen that it is done; true for the last member to say so, after whom nobody knows it. [any]
  bool leave() { return leaving_.fetch_sub(1, std::memory_order_acq_rel) == 1; }

 private:
  void move_chunk(uint64_t chunk);
  void reduce_or_gather(uint64_t begin, uint64_t end);
  void all_to_all(uint64_t begin, uint64_t end);
  void copy(uint64_t begin, uint64_t end);

  std::vector<const km_message*> messages_; // by member; of send and recv: the two
  std::vector<km_address> inputs_, outputs_;
  uint64_t number_ = 0;
  uint32_t brought_ = 0;
  uint64_t elements_ = 0, chunk_elements_ = 1, chunks_ = 0;
  std::string error_;
  std::atomic<bool> ready_{false};
  std::atomic<uint64_t> next_{0}, finished_{0};
  std::atomic<uint32_t> leaving_{0};
};

} // namespace kumiki::threads
