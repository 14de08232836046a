#include "core/cli/doctor_network.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>

#include "core/base/error.h"

namespace kumiki {
namespace {

using Clock = std::chrono::steady_clock;
constexpr uint64_t kSizes[] = {4 << 10, 32 << 10, 256 << 10, 2 << 20, 8 << 20}; // bytes of a message
constexpr double kTime = 0.25;                                                  // seconds for one op and size, about
constexpr int64_t kMostRuns = 400;
constexpr uint64_t kBesideBytes = 8 << 20;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

class Bench {
 public:
  explicit Bench(Communicator& communicator) : communicator_(communicator), size_(communicator.place().size) {
    std::vector<uint32_t> ranks(size_);
    std::iota(ranks.begin(), ranks.end(), 0u);
    group_ = communicator.group(ranks);
    const uint64_t most = std::max(*std::max_element(std::begin(kSizes), std::end(kSizes)), kBesideBytes);
    input_.assign(most / 4, 1.0f);
    output_.assign(most / 4, 0.0f);
    work_.assign(16384, 1.0f);
  }

  // Median of some runs, the same number on all ranks.
  double time(const std::function<void()>& run) {
    run();
    communicator_.barrier();
    auto begin = Clock::now();
    run();
    int64_t runs = std::clamp<int64_t>(static_cast<int64_t>(kTime / seconds_since(begin)), 3, kMostRuns);
    communicator_.all_reduce(&runs, 1, KM_REDUCE_MAX);
    std::vector<double> seconds;
    for (int64_t i = 0; i < runs; ++i) {
      begin = Clock::now();
      run();
      seconds.push_back(seconds_since(begin));
    }
    std::nth_element(seconds.begin(), seconds.begin() + runs / 2, seconds.end());
    return seconds[static_cast<size_t>(runs / 2)];
  }

  // `bytes` of what is gathered, scattered or reduced as a whole.
  double collective(uint32_t op, uint64_t bytes) {
    const uint64_t elements = bytes / 4;
    const bool whole = op == KM_COMM_ALL_REDUCE;
    const km_message message = make(op, whole ? elements : elements / size_, 0, 0);
    return time([&] { wait(communicator_.start(&message)); });
  }

  // Half of there and back between the ranks of a pair: 0 and 1, 2 and 3, … all at once.
  double send(uint64_t bytes) {
    const uint32_t rank = communicator_.place().rank;
    const bool first = rank % 2 == 0;
    const int32_t peer = static_cast<int32_t>(first ? rank + 1 : rank - 1);
    const km_message there = make(first ? KM_COMM_SEND : KM_COMM_RECV, bytes / 4, peer, 1);
    const km_message back = make(first ? KM_COMM_RECV : KM_COMM_SEND, bytes / 4, peer, 2);
    return 0.5 * time([&] {
             if (static_cast<uint32_t>(peer) >= size_) return; // an odd one stands aside
             wait(communicator_.start(&there));
             wait(communicator_.start(&back));
           });
  }

  // Of the time of a message, how much is not missing from what is computed beside it.
  double overlap() {
    const km_message message = make(KM_COMM_ALL_REDUCE, kBesideBytes / 4, 0, 0);
    const double alone = time([&] { wait(communicator_.start(&message)); });
    int64_t rounds = 1;
    const double once = time([&] { compute(rounds); });
    rounds = std::max<int64_t>(1, static_cast<int64_t>(4 * alone / once)); // the message ends before the computing does
    communicator_.all_reduce(&rounds, 1, KM_REDUCE_MAX);
    const double computed = time([&] { compute(rounds); });
    const double beside = time([&] {
      const uint64_t number = communicator_.start(&message);
      compute(rounds);
      wait(number);
    });
    return std::clamp(1 - (beside - computed) / alone, 0.0, 1.0);
  }

 private:
  km_message make(uint32_t op, uint64_t count, int32_t peer, int32_t tag) {
    km_message message{};
    message.struct_size = sizeof message;
    message.op = op;
    message.dtype = KM_F32;
    message.reduce = KM_REDUCE_MAX; // values stay as they are
    message.group = group_;
    message.peer = peer;
    message.tag = tag;
    message.count = count;
    message.outer = 1;
    message.input = reinterpret_cast<km_address>(input_.data());
    message.output = reinterpret_cast<km_address>(output_.data());
    return message;
  }

  void wait(uint64_t number) {
    if (communicator_.wait(number) != KM_OK) throw Error("doctor --measure", communicator_.error());
  }

  void compute(int64_t rounds) {
    for (int64_t r = 0; r < rounds; ++r)
      for (float& x : work_) x = x * 0.999f + 0.001f;
    result_ = work_[0];
  }

  Communicator& communicator_;
  const uint32_t size_;
  km_group* group_ = nullptr;
  std::vector<float> input_, output_, work_;
  volatile float result_ = 0; // so that nothing is computed for nobody
};

} // namespace

HockneyPoint hockney_point(const NetworkSample& sample, uint32_t ranks) {
  const double n = ranks;
  if (sample.op == KM_COMM_SEND) return {1, sample.bytes, sample.seconds};
  const double passes = sample.op == KM_COMM_ALL_REDUCE ? 2 : 1;
  return {passes * (n - 1), passes * (n - 1) / n * sample.bytes, sample.seconds};
}

Hockney fit_hockney(const std::vector<HockneyPoint>& points) {
  // Least squares of (rounds α + moved / β) / seconds − 1, by the normal equations of two unknowns.
  double aa = 0, ab = 0, bb = 0, a = 0, b = 0;
  for (const HockneyPoint& p : points) {
    const double x = p.rounds / p.seconds, y = p.moved / p.seconds;
    aa += x * x, ab += x * y, bb += y * y, a += x, b += y;
  }
  const double determinant = aa * bb - ab * ab;
  double latency = determinant > 0 ? (a * bb - b * ab) / determinant : 0;
  double inverse = determinant > 0 ? (b * aa - a * ab) / determinant : 0;
  if (latency < 0) latency = 0, inverse = bb > 0 ? b / bb : 0;
  if (inverse <= 0) throw Error("doctor --measure", "messages took no time that grows with their size");
  return {latency, 1 / inverse};
}

NetworkFacts measure_network(Communicator& communicator) {
  Bench bench(communicator);
  NetworkFacts facts;
  facts.ranks = communicator.place().size;
  facts.ranks_of_host = communicator.place().local_size;
  for (const uint64_t bytes : kSizes) {
    facts.samples.push_back({KM_COMM_SEND, static_cast<double>(bytes), bench.send(bytes)});
    for (const uint32_t op : {KM_COMM_ALL_REDUCE, KM_COMM_REDUCE_SCATTER, KM_COMM_ALL_GATHER})
      facts.samples.push_back({op, static_cast<double>(bytes), bench.collective(op, bytes)});
  }
  facts.overlap = bench.overlap();
  return facts;
}

} // namespace kumiki
