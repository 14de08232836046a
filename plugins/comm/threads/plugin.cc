// The components "self" (one rank) and "threads" (N ranks as threads of one process) of kind "comm".
#include "kumiki/plugin.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <new>

#include "kumiki/comm.h"
#include "plugins/comm/threads/message.h"
#include "plugins/comm/threads/world.h"

// One member's view of a group. At global scope: the ABI names it.
struct km_group {
  kumiki::threads::Group* shared;
  uint32_t me;
  uint64_t collectives; // begun by this member
};

namespace kumiki::threads {
namespace {

struct Member {
  const km_host* host;
  std::shared_ptr<World> world;
  uint32_t rank;
  uint32_t hosts;                                 // that the ranks pretend to be on, a range of ranks on each
  std::map<std::vector<uint32_t>, uint32_t> made; // how many groups of these ranks
  std::vector<std::unique_ptr<km_group>> groups;
};

// A request is the address of one of these, which the member keeps for the next.
struct Request {
  Transfer* transfer;
  Group* group;
};

Member& member_of(void* self) { return *static_cast<Member*>(self); }

// Nothing is thrown across the ABI: memory is what can be lacking.
template <class Function>
km_status guarded(const km_host* host, Function function) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return host->fail(host, KM_ERROR_SYSTEM, "comm: out of memory; run fewer ranks in this process");
  } catch (const std::exception& error) {
    return host->fail(host, KM_ERROR_PLUGIN, "comm: %s", error.what());
  }
}

km_status one_rank(const km_host*, const km_options*, uint32_t* ranks) {
  *ranks = 1;
  return KM_OK;
}

km_status ranks_of_option(const km_host*, const km_options* options, uint32_t* ranks) {
  *ranks = static_cast<uint32_t>(km_option_i64(options, "ranks"));
  return KM_OK;
}

km_status open_self(const km_host* host, const km_options*, void** self) {
  return guarded(host, [&] {
    *self = new Member{host, std::make_shared<World>(1, false), 0, 1, {}, {}};
    return KM_OK;
  });
}

km_status open_threads(const km_host* host, const km_options* options, void** self) {
  return guarded(host, [&] {
    const uint32_t size = static_cast<uint32_t>(km_option_i64(options, "ranks"));
    const uint32_t hosts = static_cast<uint32_t>(km_option_i64(options, "hosts"));
    if (hosts > size)
      return host->fail(host, KM_ERROR_USER, "comm threads: hosts = %u, but there are %u ranks; give at most as many",
                        hosts, size);
    auto member = std::make_unique<Member>(Member{host, nullptr, 0, hosts, {}, {}});
    member->world = World::join(size, km_option_i64(options, "check") != 0, &member->rank);
    if (!member->world) {
      return host->fail(host, KM_ERROR_USER,
                        "comm threads: ranks = %u, but a run with another number of ranks is being joined in this "
                        "process; give all its ranks the same options",
                        size);
    }
    *self = member.release();
    return KM_OK;
  });
}

void close(void* self) {
  if (!self) return;
  const std::unique_ptr<Member> member(static_cast<Member*>(self));
  member->world->wait_for_all();
}

km_status place(void* self, km_rank_info* info) {
  const Member& member = member_of(self);
  const uint64_t rank = member.rank, size = member.world->size(), hosts = member.hosts;
  const uint64_t host = ((rank + 1) * hosts - 1) / size; // host h begins at rank floor(h size / hosts)
  const uint64_t first = host * size / hosts, end = (host + 1) * size / hosts;
  info->rank = member.rank;
  info->size = member.world->size();
  info->local_rank = static_cast<uint32_t>(rank - first);
  info->local_size = static_cast<uint32_t>(end - first);
  if (KM_HAS(km_rank_info, info, host)) info->host = static_cast<uint32_t>(first);
  return KM_OK;
}

km_status group(void* self, const uint32_t* ranks, uint32_t n, km_group** group) {
  Member& member = member_of(self);
  return guarded(member.host, [&] {
    const std::vector<uint32_t> list(ranks, ranks + n);
    const auto mine = std::find(list.begin(), list.end(), member.rank);
    if (mine == list.end() || list.back() >= member.world->size() ||
        !std::is_sorted(list.begin(), list.end(), std::less_equal<>())) {
      return member.host->fail(member.host, KM_ERROR_HOST,
                               "comm: the %u ranks of a group must rise, lie below %u and include the caller, %u", n,
                               member.world->size(), member.rank);
    }
    Group* const shared = member.world->group(list, member.made[list]++);
    const auto me = static_cast<uint32_t>(mine - list.begin());
    *group = member.groups.emplace_back(new km_group{shared, me, 0}).get();
    return KM_OK;
  });
}

km_status start(void* self, const km_message* message, uint64_t* request) {
  Member& member = member_of(self);
  return guarded(member.host, [&] {
    km_group& group = *message->group;
    const std::string fault = fault_of(*message, group.shared->size());
    if (!fault.empty()) {
      return member.host->fail(member.host, KM_ERROR_HOST, "comm: rank %u starts %s: %s", member.rank,
                               describe(*message, group.shared->size()).c_str(), fault.c_str());
    }
    auto begun = std::make_unique<Request>(Request{nullptr, group.shared});
    begun->transfer = group.shared->start(group.me, group.collectives, message);
    if (!is_point_to_point(message->op)) ++group.collectives;
    *request = reinterpret_cast<uint64_t>(begun.release());
    return KM_OK;
  });
}

km_status test(void* self, uint64_t request, uint32_t* done) {
  const Member& member = member_of(self);
  return guarded(member.host, [&] {
    auto* const begun = reinterpret_cast<Request*>(request);
    if (!begun->transfer->work()) {
      *done = 0;
      return KM_OK;
    }
    const std::unique_ptr<Request> ended(begun);
    const std::string error = ended->transfer->error();
    ended->group->leave(ended->transfer);
    if (!error.empty()) return member.host->fail(member.host, KM_ERROR_HOST, "comm: %s", error.c_str());
    *done = 1;
    return KM_OK;
  });
}

void abort(void* self, int32_t exit_code, const char* text) {
  const Member& member = member_of(self);
  std::fprintf(stderr, "kumiki: rank %u of %u: %s\n", member.rank, member.world->size(), text);
  std::fflush(nullptr);
  std::_Exit(exit_code);
}

km_status send_note(void* self, uint32_t to, const void* bytes, uint32_t count) {
  const Member& member = member_of(self);
  return guarded(member.host, [&] {
    if (to >= member.world->size() || count == 0 || count > KM_NOTE_BYTES) {
      return member.host->fail(member.host, KM_ERROR_HOST, "comm: rank %u sends a note of %u bytes to rank %u of %u",
                               member.rank, count, to, member.world->size());
    }
    const auto* const begin = static_cast<const unsigned char*>(bytes);
    member.world->put_note(to, {member.rank, {begin, begin + count}});
    return KM_OK;
  });
}

km_status receive_note(void* self, void* bytes, uint32_t* count, uint32_t* from) {
  const Member& member = member_of(self);
  *count = 0;
  Note note;
  if (!member.world->take_note(member.rank, note)) return KM_OK;
  std::copy(note.bytes.begin(), note.bytes.end(), static_cast<unsigned char*>(bytes));
  *count = static_cast<uint32_t>(note.bytes.size());
  *from = note.from;
  return KM_OK;
}

constexpr km_comm_notes notes = {sizeof(km_comm_notes), 0, send_note, receive_note};

const void* ability(void*, const char* id) { return std::strcmp(id, KM_COMM_NOTES) == 0 ? &notes : nullptr; }

constexpr km_comm table_with(decltype(km_comm::ranks_here) ranks_here, decltype(km_comm::open) open) {
  return {sizeof(km_comm), 0, ranks_here, open, close, place, group, start, test, abort, ability};
}
constexpr km_comm self_table = table_with(one_rank, open_self);
constexpr km_comm threads_table = table_with(ranks_of_option, open_threads);

const km_option threads_options[] = {
    {"ranks", KM_OPTION_I64, 0, "2", 1, 4096, nullptr, "ranks of the run, each a thread of this process"},
    {"check", KM_OPTION_BOOL, 0, "true", 0, 0, nullptr,
     "compare what the ranks call in each collective, and say which differs"},
    {"hosts", KM_OPTION_I64, 0, "1", 1, 4096, nullptr, "hosts that the ranks pretend to be on, for tests"},
};

const km_component components[] = {
    {"comm", "self", KM_COMM_VERSION, 0, &self_table, nullptr, "one rank: every operation is a copy"},
    {"comm", "threads", KM_COMM_VERSION, 3, &threads_table, threads_options,
     "N ranks as threads of one process, for tests and authors of strategies"},
};

const km_plugin plugin = {sizeof(km_plugin),    KM_ABI_MINOR,      "comm", "0.1", "Kumiki", "Apache-2.0", components, 2,
                          sizeof(km_component), sizeof(km_option), 0};

} // namespace
} // namespace kumiki::threads

KM_PLUGIN(kumiki::threads::plugin)
