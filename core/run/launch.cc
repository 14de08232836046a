#include "core/run/launch.h"

#include <atomic>
#include <chrono>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/signals.h"
#include "core/base/threads.h"
#include "core/plugin/options.h"

namespace kumiki {
namespace {

// One rank of several, from its configuration to its end.
int run_rank(const std::string& config_path, const std::vector<std::string>& sets, const RankBody& body,
             bool own_process) {
  const Config config = Config::load(config_path, sets);
  Registry registry(config);
  Host host;
  Communicator communicator(host, choose_comm(config, registry));
  const km_rank_info& place = communicator.place();
  if (own_process) set_log_prefix("rank " + std::to_string(place.rank) + ": ");
  int code = 1;
  std::string text;
  try {
    return body(config, registry, &communicator);
  } catch (const Error& error) {
    code = error.exit_code;
    text = error.what();
  } catch (const std::exception& error) {
    text = error.what();
  }
  // What is wrong for all ranks is said by the first: the others leave it the time to.
  if (place.rank != 0) std::this_thread::sleep_for(std::chrono::seconds(2));
  communicator.abort(code, text);
}

} // namespace

int run_ranks(const std::string& config_path, const std::vector<std::string>& sets, const RankBody& body) {
  const StopSignals signals; // asked for between steps
  uint32_t ranks = 1;
  {
    const Config config = Config::load(config_path, sets);
    Registry registry(config);
    check_components(config, registry);
    const CommChoice choice = choose_comm(config, registry);
    if (!choice.component) return body(config, registry, nullptr);
    Host host;
    ranks = ranks_of_process(choice, host);
  }
  if (ranks == 1) return run_rank(config_path, sets, body, true);
  std::atomic<int> code{0};
  std::vector<std::thread> threads;
  for (uint32_t r = 0; r < ranks; ++r)
    threads.push_back(start_thread([&] {
      try {
        code = run_rank(config_path, sets, body, false);
      } catch (const std::exception& error) { // before it joined: nobody can be told but here
        log_error(error.what());
        flush_log();
        std::_Exit(1);
      }
    }));
  for (std::thread& thread : threads) thread.join();
  return code;
}

} // namespace kumiki
