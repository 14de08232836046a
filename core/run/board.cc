#include "core/run/board.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>

namespace kumiki {

static_assert(std::atomic<int64_t>::is_always_lock_free, "lines are shared between processes");

Board::Board(const std::string& name, uint32_t lines, uint32_t ranks) : name_("/kumiki-" + name) {
  const int file = shm_open(name_.c_str(), O_CREAT | O_RDWR, 0600);
  if (file < 0) return;
  const size_t bytes = (size_t{lines} + ranks) * sizeof(Line);
  void* memory = ftruncate(file, static_cast<off_t>(bytes)) == 0
                     ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
                     : MAP_FAILED;
  close(file);
  if (memory == MAP_FAILED) return;
  memory_ = static_cast<Line*>(memory); // zeros at first, which each line's rank writes over
  lines_ = lines;
  bytes_ = bytes;
}

Board::~Board() {
  if (memory_) munmap(memory_, bytes_);
}

void Board::hide() { shm_unlink(name_.c_str()); }

Board::Line* Board::find(int64_t rank) {
  for (uint32_t i = 0; i < lines_; ++i)
    if (memory_[i].rank.load() == rank && memory_[i].process.load() != 0) return &memory_[i];
  return nullptr;
}

int64_t Board::now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

} // namespace kumiki
