// World: the ranks of one run, which are threads of this process, and Member, one rank's place in it. Ranks are given in
// order of arrival. In: joins and groups; out: shared groups. A process may have several worlds, one after another.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "plugins/comm/threads/group.h"

namespace kumiki::threads {

// What one rank has written to another, outside groups.
struct Note {
  uint32_t from;
  std::vector<unsigned char> bytes;
};

class World {
 public:
  World(uint32_t size, bool check) : size_(size), check_(check), notes_(size) {}

  // Joins the world that is gathering in this process, or begins one; waits until it is whole. `rank` is the caller's.
  // NULL if the one that is gathering is of another size. [any]
  static std::shared_ptr<World> join(uint32_t size, bool check, uint32_t* rank);

  uint32_t size() const { return size_; }
  // The `ordinal`-th group of these ranks (a member counts its own); the first member to ask makes it. [any]
  Group* group(const std::vector<uint32_t>& ranks, uint32_t ordinal);
  // Notes wait for their rank to take them, in order of arrival; none is there: false. [any]
  void put_note(uint32_t to, Note note);
  bool take_note(uint32_t to, Note& note);
  // Waits until all ranks are here. [any]
  void wait_for_all();

 private:
  const uint32_t size_;
  const bool check_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint32_t joined_ = 0, arrived_ = 0;
  std::map<std::pair<std::vector<uint32_t>, uint32_t>, std::unique_ptr<Group>> groups_;
  std::mutex notes_mutex_;
  std::vector<std::deque<Note>> notes_; // by receiver
};

} // namespace kumiki::threads
