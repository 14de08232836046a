#include "core/run/inquiry.h"

#include <algorithm>
#include <cstring>
#include <map>

namespace kumiki {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
// A rank whose communication thread has not looked up for so long does not ask for its host any more: the next one does.
constexpr int64_t kGone = 3 * kSecond;

// Notes: a head, and in answers lines. All ranks of a run are of one build, so these travel as they lie in memory.
enum : uint32_t { kQuestion = 0x6b6d7131, kAnswer = 0x6b6d6131 };
struct Head {
  uint32_t kind = 0;
  uint32_t lines = 0;
};
struct NoteLine {
  int64_t rank, process, step;
  int64_t silent, waiting; // nanoseconds until now: clocks of hosts differ
  uint64_t group, number, bytes, op;
  uint64_t groups[Board::kGroups][2];
};
constexpr size_t kLinesOfNote = (KM_NOTE_BYTES - sizeof(Head)) / sizeof(NoteLine);
static_assert(kLinesOfNote >= 8);

NoteLine read_line(const Board::Line& line, int64_t now) {
  const int64_t waiting = line.waiting.load();
  NoteLine out{line.rank.load(),
               line.process.load(),
               line.step.load(),
               std::max<int64_t>(0, now - line.beat.load()),
               waiting ? std::max<int64_t>(1, now - waiting) : 0,
               line.group.load(),
               line.number.load(),
               line.bytes.load(),
               line.op.load(),
               {}};
  for (uint32_t i = 0; i < Board::kGroups; ++i) {
    out.groups[i][0] = line.groups[i].group.load();
    out.groups[i][1] = line.groups[i].number.load();
  }
  return out;
}

void write_line(Board::Line& line, const NoteLine& in, int64_t now) {
  line.process.store(in.process);
  line.step.store(in.step);
  line.beat.store(now - in.silent);
  line.waiting.store(in.waiting ? now - in.waiting : 0);
  line.group.store(in.group);
  line.number.store(in.number);
  line.bytes.store(in.bytes);
  line.op.store(static_cast<uint32_t>(in.op));
  for (uint32_t i = 0; i < Board::kGroups; ++i) {
    line.groups[i].group.store(in.groups[i][0]);
    line.groups[i].number.store(in.groups[i][1]);
  }
  line.rank.store(in.rank);
  line.heard.store(now);
}

} // namespace

double seconds_between_questions(double limit) { return std::max(limit / 16, 0.05); }
double seconds_between_looks(double limit) { return std::clamp(limit / 32, 0.02, 1.0); }

Inquiry::Inquiry(Board& board, Board::Line& own, const std::vector<uint32_t>& hosts, const km_comm_notes& notes,
                 void* component)
    : board_(board), own_(own), hosts_(hosts), notes_(notes), component_(component), buffer_(KM_NOTE_BYTES) {}

void Inquiry::turn(double limit, int64_t now) {
  if (broken_ || static_cast<double>(now - looked_) < seconds_between_looks(limit) * kSecond) return;
  looked_ = now;
  for (;;) {
    uint32_t count = 0, from = 0;
    if (notes_.receive(component_, buffer_.data(), &count, &from) != KM_OK) broken_ = true;
    if (broken_ || count == 0) break;
    take(buffer_.data(), count, from, now);
  }
  if (own_.waiting.load(std::memory_order_relaxed) == 0) return; // it does not wait, or not for long
  if (static_cast<double>(now - asked_) < seconds_between_questions(limit) * kSecond || !is_mine_to_ask(now)) return;
  asked_ = now;
  ask();
}

void Inquiry::take(const unsigned char* bytes, uint32_t count, uint32_t from, int64_t now) {
  Head head;
  if (count < sizeof head || from >= hosts_.size()) return;
  std::memcpy(&head, bytes, sizeof head);
  if (head.kind == kQuestion) return answer(from, now);
  if (head.kind != kAnswer || count != sizeof head + head.lines * sizeof(NoteLine)) return;
  for (uint32_t i = 0; i < head.lines; ++i) {
    NoteLine line;
    std::memcpy(&line, bytes + sizeof head + i * sizeof line, sizeof line);
    const auto rank = static_cast<uint64_t>(line.rank);
    if (rank < hosts_.size() && hosts_[rank] == hosts_[from]) write_line(board_.copy(line.rank), line, now);
  }
  for (Other& other : others_)
    if (hosts_[other.ranks[0]] == hosts_[from]) other.answered = true;
}

// All lines of this host, in as many notes as they need.
void Inquiry::answer(uint32_t to, int64_t now) {
  std::vector<unsigned char> note(KM_NOTE_BYTES);
  for (uint32_t at = 0; at < board_.lines(); at += kLinesOfNote) {
    Head head{kAnswer, 0};
    size_t bytes = sizeof head;
    for (uint32_t i = at; i < board_.lines() && i < at + kLinesOfNote; ++i) {
      if (board_.line(i).process.load() == 0) continue; // its rank has not begun
      const NoteLine line = read_line(board_.line(i), now);
      std::memcpy(note.data() + bytes, &line, sizeof line);
      bytes += sizeof line;
      ++head.lines;
    }
    std::memcpy(note.data(), &head, sizeof head);
    send(to, note.data(), static_cast<uint32_t>(bytes));
  }
}

// The first rank of the host that waits and is alive.
bool Inquiry::is_mine_to_ask(int64_t now) {
  for (uint32_t i = 0; i < board_.lines(); ++i) {
    const Board::Line& line = board_.line(i);
    if (&line == &own_) return true;
    if (line.waiting.load() != 0 && now - line.beat.load() < kGone) return false;
  }
  return true;
}

// One rank of each other host: the one that answered the last time, or else the next.
void Inquiry::ask() {
  if (others_.empty()) find_others();
  const Head head{kQuestion, 0};
  for (Other& other : others_) {
    if (!other.answered) other.next = (other.next + 1) % other.ranks.size();
    other.answered = false;
    send(other.ranks[other.next], &head, sizeof head);
  }
}

void Inquiry::find_others() {
  std::map<uint32_t, size_t> found;
  for (uint32_t rank = 0; rank < hosts_.size(); ++rank) {
    if (hosts_[rank] == hosts_[static_cast<size_t>(own_.rank.load())]) continue;
    const auto [at, is_new] = found.try_emplace(hosts_[rank], others_.size());
    if (is_new) others_.emplace_back();
    others_[at->second].ranks.push_back(rank);
  }
}

void Inquiry::send(uint32_t to, const void* bytes, uint32_t count) {
  if (!broken_ && notes_.send(component_, to, bytes, count) != KM_OK) broken_ = true;
}

} // namespace kumiki
