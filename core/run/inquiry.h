// What ranks ask the ranks of other hosts once a message has taken half its time limit: notes of the comm component that
// carry lines of boards. One rank of a host asks, one of each other host answers for all of it, by the page that they share;
// so a stopped rank is answered for, and a host sends as many notes as there are hosts. In: notes, the own host's board; out:
// answers and copies of other hosts' lines on that board, where all ranks of the host read them. Floor: run.
#pragma once

#include <cstdint>
#include <vector>

#include "core/run/board.h"
#include "kumiki/comm.h"

namespace kumiki {

// Seconds between questions, where a message may take `limit` seconds; and between looks for notes.
double seconds_between_questions(double limit);
double seconds_between_looks(double limit);

class Inquiry {
 public:
  // `hosts`: of each rank, the lowest rank of its host. `own`: this rank's line, of the board's. All stay as long as this.
  Inquiry(Board& board, Board::Line& own, const std::vector<uint32_t>& hosts, const km_comm_notes& notes,
          void* component);

  // Answers what others ask and takes what they answer; asks where that is this rank's task. Does nothing where it looked
  // shortly before `now` (Board::now). Never waits. [the communication thread]
  void turn(double limit, int64_t now);

 private:
  // Another host; and whom of it to ask next.
  struct Other {
    std::vector<uint32_t> ranks;
    size_t next = 0;
    bool answered = false; // the last question
  };
  void take(const unsigned char* bytes, uint32_t count, uint32_t from, int64_t now);
  void answer(uint32_t to, int64_t now);
  bool is_mine_to_ask(int64_t now);
  void ask();
  void find_others();
  void send(uint32_t to, const void* bytes, uint32_t count);

  Board& board_;
  Board::Line& own_;
  const std::vector<uint32_t>& hosts_;
  const km_comm_notes notes_;
  void* const component_;
  bool broken_ = false; // the component can send no notes: nothing is known of others then
  int64_t looked_ = 0, asked_ = 0;
  std::vector<Other> others_; // once it asks
  std::vector<unsigned char> buffer_;
};

} // namespace kumiki
