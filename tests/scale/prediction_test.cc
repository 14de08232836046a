// Predictions of a small GPT: bubbles as published, memory as the strategies promise, and output that can be read.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/plan/scale/plan_run.h"
#include "core/plan/scale/report.h"
#include "core/plan/scale/suggest.h"

namespace kumiki {
namespace {

const char* const kConfig = R"([run]
steps = 1
sequence = 64
micro_batch = 1
global_batch = 8
[model]
use = "gpt"
layers = 8
width = 64
heads = 4
vocabulary = 64
[kernels]
use = ["no such kernels: a machine brings its own"]
[optimizer]
use = "adamw"
[[data]]
use = "no such data, either"
)";

Registry& registry() {
  static Registry registry({"plugins/parallel", "plugins/models/transformer/gpt", "plugins/optimizers/standard/adamw"});
  return registry;
}

// Messages and memory cost nothing.
Machine quiet() {
  Machine machine = parse_machine("name = \"quiet\"\nf32_flops = 1e12\nbytes_per_second = 1e12\n", "quiet.toml");
  machine.network = {{"all", 0, 0, 1e18, 1, 0}};
  return machine;
}

Prediction plan(const Machine& machine, int64_t ranks, std::vector<std::string> sets, bool spans = false) {
  return plan_run(registry(), Config::parse(kConfig, "test.toml", sets), machine, ranks, spans);
}

std::vector<std::string> pipeline(int64_t degree, const std::string& schedule, int64_t micros, int64_t chunks = 0) {
  return {"parallel.pipeline.degree=" + std::to_string(degree), "parallel.pipeline.schedule=" + schedule,
          "parallel.pipeline.chunks=" + std::to_string(chunks), "run.global_batch=" + std::to_string(micros)};
}

TEST_CASE("gpipe and 1f1b leave (p - 1) / (m + p - 1) of the time idle, where stages are equal and messages free") {
  for (const char* schedule : {"gpipe", "1f1b"})
    for (const int64_t degree : {2, 4, 8})
      for (const int64_t micros : {1, 4, 7, 16}) {
        INFO(schedule << " " << degree << " stages, " << micros << " micro-batches");
        const double published = static_cast<double>(degree - 1) / static_cast<double>(micros + degree - 1);
        const Prediction p = plan(quiet(), degree, pipeline(degree, schedule, micros));
        CHECK(p.schedule_bubble == Approx(published).epsilon(1e-6));
        CHECK(p.bubble() == Approx(published).epsilon(0.1)); // the last stage has the head, too
      }
}

TEST_CASE("interleaved and zero_bubble leave less idle") {
  for (const int64_t micros : {4, 8, 16}) {
    const double plain = plan(quiet(), 4, pipeline(4, "1f1b", micros)).schedule_bubble;
    CHECK(plan(quiet(), 4, pipeline(4, "interleaved", micros, 2)).schedule_bubble < plain);
    CHECK(plan(quiet(), 4, pipeline(4, "zero_bubble", micros)).schedule_bubble < plain);
  }
}

TEST_CASE("a pipeline of more stages than a word has bits is planned") {
  // The sum over all stages (tokens, the clip norm) has an input for each: the undefined-behaviour sanitizer found it.
  std::vector<std::string> sets = pipeline(40, "1f1b", 2);
  sets.insert(sets.end(), {"model.layers=40", "parallel.data.degree=1"});
  const Prediction p = plan(quiet(), 40, sets);
  CHECK(p.memory.size() == 40);
  CHECK(p.schedule_bubble == Approx(39.0 / 41.0).epsilon(1e-6));
}

TEST_CASE("more bandwidth, and faster arithmetic, are never slower") {
  const std::vector<std::string> layout = {"parallel.tensor.degree=2", "parallel.pipeline.degree=2",
                                           "parallel.data.degree=2", "parallel.data.zero=1"};
  double before = 1e300;
  for (const double bandwidth : {1e7, 1e8, 1e9, 1e10, 1e12}) {
    Machine machine = quiet();
    machine.network[0].bytes_per_second = bandwidth;
    const double seconds = plan(machine, 8, layout).seconds;
    CHECK(seconds <= before);
    machine.f32_flops *= 2;
    CHECK(plan(machine, 8, layout).seconds <= seconds);
    before = seconds;
  }
}

TEST_CASE("ranks beyond the cores are slower, and a pipeline's idle ranks leave theirs to others") {
  Machine machine = quiet();
  machine.nodes = 1;
  machine.cores = 2;
  const auto seconds = [&](int64_t ranks, const std::vector<std::string>& sets) {
    return plan(machine.for_ranks(ranks), ranks, sets).seconds;
  };
  const double two = seconds(2, {});
  CHECK(seconds(4, {}) == Approx(two).epsilon(0.15)); // the same work on the same cores, and the update twice as often
  CHECK(seconds(4, {}) > two);
  CHECK(seconds(8, {}) > seconds(4, {}));
  // Four stages on two cores lose less than four stages on four cores of half the speed.
  const std::vector<std::string> stages = {"parallel.pipeline.degree=4"};
  Machine halves = machine.for_ranks(4);
  halves.ranks_of_core = 1;
  halves.f32_flops /= 2;
  halves.bytes_per_second /= 2;
  CHECK(seconds(4, stages) < 0.95 * plan(halves, 4, stages).seconds);
}

TEST_CASE("computed, idle and exposed time add up to the step") {
  Machine machine = quiet();
  machine.network[0] = {"all", 0, 1e-6, 1e9, 0.8, 0};
  for (const auto& [ranks, sets] : std::vector<std::pair<int64_t, std::vector<std::string>>>{
           {1, {}},
           {2, {"parallel.tensor.degree=2"}},
           {4, {"parallel.pipeline.degree=4", "parallel.pipeline.schedule=zero_bubble"}},
           {8, {"parallel.tensor.degree=2", "parallel.pipeline.degree=2", "parallel.data.zero=1"}},
           {4, {"parallel.context.degree=4"}},
           {8, {"parallel.context.degree=2", "parallel.pipeline.degree=2", "parallel.data.zero=1"}},
           {8, {"parallel.data.zero=3", "parallel.recompute.mode=full"}}}) {
    const Prediction p = plan(machine, ranks, sets);
    INFO(p.run.layout);
    CHECK(p.computed + p.idle + p.exposed() == Approx(p.seconds));
    CHECK(p.tokens_per_step() == 8 * 64);
  }
}

TEST_CASE("context sends keys, values and their gradients around the ring, and waits the less the more it computes") {
  Machine machine = quiet();
  machine.network[0] = {"all", 0, 0, 1e9, 1, 0};
  const auto sent = [&](int64_t degree, const std::vector<std::string>& more = {}) {
    std::vector<std::string> sets = {"parallel.context.degree=" + std::to_string(degree)};
    sets.insert(sets.end(), more.begin(), more.end());
    double bytes = 0;
    for (const Traffic& t : plan(machine, degree, sets).traffic)
      if (t.axes == "context" && t.op == "send") bytes += t.bytes;
    return bytes;
  };
  const double tensor = 8 * 8 * 64 * 64 * 4; // micro-batches, layers, tokens, width, bytes
  for (const int64_t degree : {2, 4})
    CHECK(sent(degree) == Approx(4 * tensor * static_cast<double>(degree - 1) / static_cast<double>(degree)));
  CHECK(sent(2, {"parallel.context.again=true"}) == Approx(6 * tensor / 2));
  const auto exposed = [&](double flops) {
    machine.f32_flops = flops;
    return plan(machine, 2, {"parallel.context.degree=2"}).exposed();
  };
  CHECK(exposed(1e9) < exposed(1e12));
}

TEST_CASE("a rank needs less memory the more is divided") {
  const auto memory = [](const std::vector<std::string>& sets) { return plan(quiet(), 4, sets).largest_memory(); };
  const auto states = [](int64_t zero) {
    const Prediction p = plan(quiet(), 4, {"parallel.data.zero=" + std::to_string(zero)});
    uint64_t bytes = 0;
    for (const MemoryRow& row : p.memory[0].rows)
      if (row.what == "optimizer states") bytes = row.bytes;
    return bytes;
  };
  CHECK(memory({"parallel.data.zero=1"}) < memory({"parallel.data.zero=0"}));
  CHECK(memory({"parallel.data.zero=3"}) < memory({"parallel.data.zero=1"}));
  CHECK(static_cast<double>(states(1)) == Approx(static_cast<double>(states(0)) / 4).epsilon(0.05));
  CHECK(memory({"parallel.recompute.mode=full"}) < memory({"parallel.recompute.mode=none"}));
  CHECK(memory({"parallel.tensor.degree=4"}) < memory({}));
  CHECK(memory({"parallel.context.degree=4"}) < memory({"parallel.context.degree=2", "parallel.data.degree=2"}));

  Machine small = quiet();
  const Prediction p = plan(small, 4, {});
  CHECK(p.fits());
  small.memory_bytes = static_cast<double>(p.largest_memory()) / 2;
  CHECK_FALSE(plan(small, 4, {}).fits());
  CHECK(report_table(plan(small, 4, {})).find("DOES NOT FIT") != std::string::npos);
}

TEST_CASE("JSON and trace can be read, and what one queue computes never overlaps") {
  Machine machine = quiet();
  machine.network[0] = {"all", 0, 1e-6, 1e9, 1, 0};
  Prediction p = plan(machine, 8, {"parallel.tensor.degree=2", "parallel.pipeline.degree=4"}, true);
  p.run.tokens = 1e9;
  const nlohmann::json json = nlohmann::json::parse(report_json(p));
  CHECK(json["ranks"] == 8);
  CHECK(json["memory"].size() == 4);
  CHECK(json["seconds_per_step"].get<double>() == Approx(p.seconds));
  CHECK(json["days"].get<double>() == Approx(1e9 / p.tokens_per_step() * p.seconds / 86400));
  const nlohmann::json trace = nlohmann::json::parse(report_trace(p));
  std::map<std::pair<int, int>, double> end;
  size_t spans = 0;
  for (const auto& event : trace["traceEvents"]) {
    if (event["ph"] != "X") continue;
    double& last = end[{event["pid"].get<int>(), event["tid"].get<int>()}];
    const double begin = event["ts"].get<double>();
    if (event["tid"] == 0) CHECK(begin >= last - 1e-6);
    last = begin + event["dur"].get<double>();
    CHECK(last <= p.seconds * 1e6 + 1e-6);
    ++spans;
  }
  CHECK(spans > 4 * 2 * 8);
  CHECK(end.count({3, 0}) == 1);
  const std::string picture = report_timeline(p, 60);
  CHECK(std::count(picture.begin(), picture.end(), '\n') == 5);
  CHECK(picture.find('F') != std::string::npos);
}

TEST_CASE("layouts that cannot run are refused as training refuses them") {
  CHECK_THROWS_AS(plan(quiet(), 3, {"parallel.tensor.degree=3"}), Error); // 4 heads
  CHECK_THROWS_AS(plan(quiet(), 16, {}), Error);                          // 8 sequences on 16 ranks
  CHECK_THROWS_AS(plan(quiet(), 8, {"parallel.tensor.degree=3"}), Error); // ranks
}

TEST_CASE("candidates divide ranks, heads, layers and sequences") {
  const ModelShape shape = model_shape(registry(), Config::parse(kConfig, "test.toml"));
  CHECK(shape.layers == 8);
  CHECK(shape.heads == 4);
  CHECK(shape.width == 64);
  CHECK(shape.vocabulary == 64);
  const std::vector<Candidate> all = candidates(shape, quiet(), 16);
  REQUIRE(!all.empty());
  double before = 0;
  for (const Candidate& c : all) {
    CHECK(c.tensor * c.context * c.pipeline * c.data == 16);
    CHECK(64 % (2 * c.context) == 0);
    CHECK(4 % c.tensor == 0);
    CHECK(c.pipeline * c.chunks <= 8);
    CHECK(8 % (c.data * c.micro_batch) == 0);
    CHECK(c.estimate >= before);
    before = c.estimate;
  }
}

TEST_CASE("suggestions fit, the fastest first, and their arguments give the same plan") {
  Machine machine = quiet();
  machine.network[0] = {"all", 0, 1e-6, 1e9, 1, 0};
  machine.memory_bytes = 2e6;
  SuggestCount count;
  const std::vector<Suggestion> found = suggest(
      registry(), "configs/tiny-gpt.toml", {"run.global_batch=8", "model.vocabulary=64"}, machine, 4, &count, 3, 12);
  REQUIRE(!found.empty());
  CHECK(found.size() <= 3);
  CHECK(count.planned <= 12);
  CHECK(count.planned <= count.possible);
  double before = 0;
  for (const Suggestion& s : found) {
    CHECK(s.prediction.fits());
    CHECK(s.prediction.seconds >= before);
    before = s.prediction.seconds;
    std::vector<std::string> sets = s.candidate.sets();
    for (const char* set : {"run.global_batch=8", "model.vocabulary=64"}) sets.push_back(set);
    const Config config = Config::load("configs/tiny-gpt.toml", sets);
    CHECK(plan_run(registry(), config, machine, 4, false).seconds == Approx(before));
  }
  CHECK(nlohmann::json::parse(suggestions_json(found)).size() == found.size());
}

TEST_CASE("the published layout of 13B on 13,824 nodes leaves half of the time idle") {
  const Machine machine = load_machine("configs/machines/fugaku.toml").with_ranks_per_node(1);
  const Config config = Config::load("configs/fugaku/13b-as-run.toml");
  const Prediction p = plan_run(registry(), config, machine, 13824, false);
  CHECK(p.run.micro_batches == 7);
  CHECK(p.schedule_bubble == Approx(0.5));
  CHECK(p.bubble() > 0.45);
  CHECK(p.fits());
}

} // namespace
} // namespace kumiki
