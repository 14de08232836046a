// The board of a host: a page of shared memory in which each of its ranks keeps what it is doing, so that a rank that waits
// too long can say for whom. Behind the lines of the host's ranks is room for copies of all ranks' lines: what other hosts
// answer (inquiry.h). It is touched only then, so it takes no memory in a run that goes well. Floor: run.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace kumiki {

class Board {
 public:
  static constexpr uint32_t kGroups = 8;
  // How far a rank is in one of its groups.
  struct Count {
    std::atomic<uint64_t> group{0};  // 0: none
    std::atomic<uint64_t> number{0}; // collectives started, from 1
  };
  // One line of the board, written by its rank alone (a copy: by the rank that asks) and read by all.
  struct Line {
    std::atomic<int64_t> rank{-1};
    std::atomic<int64_t> process{0};
    std::atomic<int64_t> beat{0};    // nanoseconds of the host's steady clock: its communication thread is alive
    std::atomic<int64_t> waiting{0}; // since when it waits for others, once that is half its time limit; 0: it does not
    std::atomic<int64_t> heard{0};   // of a copy: when its host answered last
    std::atomic<int64_t> step{0};    // under way
    std::atomic<uint64_t> group{0};  // of the message that it started last
    std::atomic<uint64_t> number{0}; // which collective of that group it was, from 1; 0: a send or receive
    std::atomic<uint32_t> op{0};     // KM_COMM_*
    std::atomic<uint64_t> bytes{0};
    Count groups[kGroups]; // of the first groups in which it had a collective
  };

  // All ranks of a host give one name, which no other run of the host has. A board that cannot be made is empty. `ranks`: of
  // the whole run, for copies; 0 where there is one host.
  Board(const std::string& name, uint32_t lines, uint32_t ranks);
  ~Board();
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;
  // The name goes from the file system; the board stays until its last rank ends. After all have opened it.
  void hide();

  uint32_t lines() const { return lines_; }
  Line& line(uint32_t i) { return memory_[i]; }
  // What another host answered of a rank.
  Line& copy(uint32_t rank) { return memory_[lines_ + rank]; }
  // The line of a rank of this host; null: it is on another.
  Line* find(int64_t rank);
  static int64_t now(); // nanoseconds

 private:
  std::string name_;
  uint32_t lines_ = 0;
  size_t bytes_ = 0;
  Line* memory_ = nullptr;
};

} // namespace kumiki
