#include "plugins/comm/threads/world.h"

namespace kumiki::threads {

std::shared_ptr<World> World::join(uint32_t size, bool check, uint32_t* rank) {
  static std::mutex gathering_mutex;
  static std::shared_ptr<World> gathering;
  std::shared_ptr<World> world;
  {
    const std::lock_guard lock(gathering_mutex);
    if (!gathering) gathering = std::make_shared<World>(size, check);
    world = gathering;
    if (world->size_ != size) return nullptr;
    *rank = world->joined_++;
    if (world->joined_ == size) gathering.reset();
  }
  world->wait_for_all();
  return world;
}

Group* World::group(const std::vector<uint32_t>& ranks, uint32_t ordinal) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<Group>& group = groups_[{ranks, ordinal}];
  if (!group) group = std::make_unique<Group>(ranks, check_);
  return group.get();
}

void World::put_note(uint32_t to, Note note) {
  const std::lock_guard lock(notes_mutex_);
  notes_[to].push_back(std::move(note));
}

bool World::take_note(uint32_t to, Note& note) {
  const std::lock_guard lock(notes_mutex_);
  if (notes_[to].empty()) return false;
  note = std::move(notes_[to].front());
  notes_[to].pop_front();
  return true;
}

void World::wait_for_all() {
  std::unique_lock lock(mutex_);
  // Rounds are counted through: the first `size` arrivals are the first round.
  const uint32_t round = arrived_++ / size_;
  if (arrived_ % size_ == 0) changed_.notify_all();
  changed_.wait(lock, [&] { return arrived_ / size_ > round; });
}

} // namespace kumiki::threads
