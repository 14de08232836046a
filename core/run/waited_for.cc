// Communicator: what a rank keeps on the board of its host, and who is waited for where a message takes too long.
#include <unistd.h>

#include "core/run/communicator.h"

namespace kumiki {
namespace {

constexpr int kStuckExit = 86;

} // namespace

// Who shares a host with whom, for the case that one does not answer.
void Communicator::meet_hosts() {
  struct Entry {
    uint32_t host;
    int32_t process;
    char name[56];
  };
  Entry own{place_.host, static_cast<int32_t>(getpid()), {}};
  gethostname(own.name, sizeof own.name - 1);
  std::vector<Entry> all(place_.size);
  km_message message{};
  message.struct_size = sizeof message;
  message.op = KM_COMM_ALL_GATHER;
  message.dtype = KM_U8;
  message.group = all_;
  message.count = sizeof own;
  message.outer = 1;
  message.input = reinterpret_cast<km_address>(&own);
  message.output = reinterpret_cast<km_address>(all.data());
  wait_all(message);
  for (const Entry& entry : all) {
    if (entry.host >= place_.size) return; // its component cannot say: one host is assumed
    if (host_names_.count(entry.host) == 0) host_names_[entry.host] = entry.name;
  }
  for (const Entry& entry : all) {
    hosts_.push_back(entry.host);
    processes_.push_back(entry.process);
  }
}

void Communicator::open_board() {
  std::string name;
  if (place_.rank == 0)
    name = std::to_string(getpid()) + "-" + std::to_string(static_cast<uint64_t>(Board::now()) & 0xffffffffu) + "-" +
           std::to_string(reinterpret_cast<uintptr_t>(this) >> 4 & 0xffff);
  broadcast(name);
  name += "-" + std::to_string(place_.host); // hosts that are made of one machine have a board each
  board_ = std::make_unique<Board>(name, place_.local_size, host_names_.size() > 1 ? place_.size : 0);
  if (board_->lines() > place_.local_rank) {
    Board::Line& line = board_->line(place_.local_rank);
    line.rank.store(place_.rank);
    line.beat.store(Board::now());
    line.process.store(getpid());
    line_.store(&line, std::memory_order_release);
  }
  barrier();
  if (place_.local_rank == 0) board_->hide();
}

void Communicator::open_inquiry() {
  Board::Line* const line = line_.load(std::memory_order_relaxed);
  if (host_names_.size() < 2 || hosts_.empty() || !line || !table_.ability) return;
  km_comm_notes notes{};
  on_thread([&] { notes = ability_of<km_comm_notes>(table_.ability(self_, KM_COMM_NOTES)); });
  if (!notes.send || !notes.receive) return;
  inquiry_ = std::make_unique<Inquiry>(*board_, *line, hosts_, notes, self_);
  asking_.store(inquiry_.get(), std::memory_order_release);
}

// On the board: since when this rank waits, where that is long; 0: it does not.
void Communicator::tell_waiting(double seconds) {
  Board::Line* const line = line_.load(std::memory_order_relaxed);
  if (!line || (seconds == 0 && line->waiting.load(std::memory_order_relaxed) == 0)) return;
  line->waiting.store(seconds == 0 ? 0 : Board::now() - static_cast<int64_t>(seconds * 1e9));
}

// The number of a collective in its group, the same on all members; and what this rank does, on the board.
uint64_t Communicator::count(const km_message& message) {
  const bool collective = message.op != KM_COMM_SEND && message.op != KM_COMM_RECV;
  Board::Line* const line = line_.load(std::memory_order_relaxed);
  uint64_t number = 0;
  if (collective) {
    const auto [at, is_new] = collectives_.try_emplace(message.group);
    if (is_new) at->second.place = static_cast<uint32_t>(collectives_.size() - 1);
    number = ++at->second.started;
    if (line && at->second.place < Board::kGroups) {
      line->groups[at->second.place].group.store(group_hash_[message.group], std::memory_order_relaxed);
      line->groups[at->second.place].number.store(number, std::memory_order_relaxed);
    }
  }
  if (line) {
    line->group.store(group_hash_[message.group], std::memory_order_relaxed);
    line->number.store(number, std::memory_order_relaxed);
    line->op.store(message.op, std::memory_order_relaxed);
    line->bytes.store(message.count * message.outer * km_dtype_bytes(message.dtype), std::memory_order_relaxed);
  }
  return number;
}

// What the boards say of a rank.
RankState Communicator::state_of(uint32_t rank, int64_t now) {
  RankState out;
  out.rank = rank;
  const Board::Line* line = board_->find(rank);
  const bool here = line != nullptr;
  if (!hosts_.empty()) {
    out.host = hosts_[rank];
    out.process = processes_[rank];
    if (out.host != place_.host) out.host_name = host_names_[out.host];
  }
  if (!here) {
    out.asked = inquiry_ != nullptr;
    if (!out.asked) return out;
    line = &board_->copy(rank);
    out.unanswered = line->heard.load() ? static_cast<double>(now - line->heard.load()) * 1e-9 : -1;
    if (out.unanswered < 0) return out;
    now = line->heard.load();
  }
  out.process = line->process.load();
  out.silent = static_cast<double>(now - line->beat.load()) * 1e-9;
  out.waiting = line->waiting.load() ? static_cast<double>(now - line->waiting.load()) * 1e-9 : 0;
  out.step = line->step.load();
  out.op = line->op.load();
  out.bytes = line->bytes.load();
  out.group = line->group.load();
  out.number = line->number.load();
  for (const Board::Count& each : line->groups)
    if (each.group.load() != 0) out.groups.emplace_back(each.group.load(), each.number.load());
  out.all_groups = out.groups.size() < Board::kGroups;
  return out;
}

std::string Communicator::who_is_missing(const km_message& message, uint64_t collective) {
  Awaited awaited{group_hash_[message.group], collective, {}};
  for (const auto& [ranks, group] : groups_)
    if (group == message.group) awaited.members = ranks;
  if (collective == 0 && message.peer >= 0 && static_cast<size_t>(message.peer) < awaited.members.size())
    awaited.members = {awaited.members[static_cast<size_t>(message.peer)]};
  const int64_t now = Board::now();
  std::vector<RankState> all;
  for (uint32_t rank = 0; rank < place_.size; ++rank)
    if (rank != place_.rank) all.push_back(state_of(rank, now));
  const double limit = time_limit_.load();
  return kumiki::describe(find_culprit(awaited, all, std::min(5.0, limit / 2), limit * 3 / 8));
}

void Communicator::give_up(uint64_t number) {
  const km_message& message = *ring_[number % kRing];
  const uint64_t collective = collective_[number % kRing];
  abort(kStuckExit, "step " + std::to_string(step_.load()) + ": " + describe(message) +
                        (collective ? " (collective " + std::to_string(collective) + " of that group)" : "") +
                        " is not complete after " + std::to_string(static_cast<int64_t>(time_limit_.load())) +
                        " s: " + who_is_missing(message, collective));
}

} // namespace kumiki
