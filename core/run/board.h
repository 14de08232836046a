// The board of a host: a page of shared memory in which each of its ranks keeps what it is doing, so that a rank that waits
// too long can say for whom. Floor: run.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace kumiki {

class Board {
 public:
  // One line of the board, written by its rank alone and read by all.
  struct Line {
    std::atomic<int64_t> rank{-1};
    std::atomic<int64_t> process{0};
    std::atomic<int64_t> beat{0};    // nanoseconds of the host's steady clock: its communication thread is alive
    std::atomic<int64_t> step{0};    // under way
    std::atomic<uint64_t> group{0};  // of the message that it started last
    std::atomic<uint64_t> number{0}; // which collective of that group it was, from 1; 0: a send or receive
    std::atomic<uint32_t> op{0};     // KM_COMM_*
    std::atomic<uint64_t> bytes{0};
  };

  // All ranks of a host give one name, which no other run of the host has. A board that cannot be made is empty.
  Board(const std::string& name, uint32_t lines);
  ~Board();
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;
  // The name goes from the file system; the board stays until its last rank ends. After all have opened it.
  void hide();

  uint32_t lines() const { return lines_; }
  Line& line(uint32_t i) { return memory_[i]; }
  // The line of a rank; null: it is on another host.
  Line* find(int64_t rank);
  static int64_t now(); // nanoseconds

 private:
  std::string name_;
  uint32_t lines_ = 0;
  Line* memory_ = nullptr;
};

} // namespace kumiki
