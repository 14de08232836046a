#include "core/cli/doctor_rates.h"

#include <map>
#include <memory>
#include <tuple>

#include "core/base/error.h"
#include "core/plan/scale/step_cost.h"
#include "core/run/engine.h"
#include "core/run/evaluator.h"
#include "core/run/initial.h"
#include "core/run/trainer.h"

namespace kumiki {
namespace {

// Widths as tensor parallelism and small models leave them to a rank, up to those of GPT-2.
struct ModelSize {
  int width, heads, tokens, layers, vocabulary;
};
constexpr ModelSize kShapes[] = {{64, 1, 256, 4, 2048},
                                 {128, 2, 256, 4, 4096},
                                 {256, 4, 256, 4, 8192},
                                 {512, 8, 512, 2, 8192},
                                 {768, 12, 1024, 1, 8192}};
constexpr int kMicroBatches = 2; // gradients are stored in one and added to in the other
constexpr int kSteps = 3;

std::string config_of(const ModelSize& s) {
  const auto line = [](const char* key, int value) { return std::string(key) + " = " + std::to_string(value) + "\n"; };
  return "[run]\nsteps = 1\nmicro_batch = 1\n" + line("global_batch", kMicroBatches) + line("sequence", s.tokens) +
         "[model]\nuse = \"gpt\"\n" + line("layers", s.layers) + line("width", s.width) + line("heads", s.heads) +
         line("vocabulary", s.vocabulary) + "[optimizer]\nuse = \"adamw\"\n[[data]]\nuse = \"synthetic\"\n";
}

// A training step of one model, ready to be run.
class Bench {
 public:
  Bench(Registry& registry, const Config& config, const std::vector<int>& cores)
      : engine_(registry, config, options(cores)), store_(engine_.chain().device()) {
    const std::unique_ptr<Optimizer> optimizer = engine_.open_optimizer();
    graph_ = engine_.model().build(engine_.shape(KM_MODE_TRAIN, config.run().micro_batch), engine_.chain());
    make_training_graph(*graph_, *optimizer, engine_.chain(), engine_.strategies(), engine_.training_options());
    const PlanOptions plan_options = training_plan_options(config, engine_.strategies());
    plan_ = make_plan(*graph_, engine_.chain(), plan_options, &engine_.strategies());
    store_.add(plan_);
    store_.finish();
    initialize_parameters(*graph_, 1, store_, engine_.pool());
    executor_ = std::make_unique<Executor>(plan_, engine_.chain(), store_);
    schedule_ = make_schedule(plan_, plan_options.micro_batches, &engine_.strategies());
    stage(plan_options.micro_batches);
    executor_->profile(true);
  }

  void step() {
    if (executor_->run(schedule_, *staging_) != KM_OK)
      throw Error("doctor --measure", "failed in " + executor_->failed() + ": " + Host::take_error());
  }
  const Executor& executor() const { return *executor_; }
  const Graph& graph() const { return *graph_; }
  const Plan& plan() const { return plan_; }

 private:
  static Engine::Options options(const std::vector<int>& cores) {
    Engine::Options options;
    options.cores = cores;
    return options;
  }

  void stage(int32_t micro_batches) {
    staging_ = std::make_unique<Staging>(plan_, micro_batches);
    staging_->set_all("step", 1);
    staging_->set_all("learning_rate", 1e-4);
    staging_->set_all("loss_scale", 1);
    BatchRows rows;
    engine_.feed()->read(0, micro_batches, rows);
    for (int32_t m = 0; m < micro_batches; ++m) {
      staging_->set("micro", m, m);
      stage_rows(*staging_, m, rows, m, 1, engine_.config().run().sequence);
    }
  }

  Engine engine_;
  Store store_;
  std::unique_ptr<Graph> graph_;
  Plan plan_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Staging> staging_;
  std::vector<ScheduleEntry> schedule_;
};

// What the profile's rows are of: its first step of that op, shape and phase.
std::map<std::tuple<std::string, std::string, Phase>, const Step*> steps_of(const Plan& plan) {
  std::map<std::tuple<std::string, std::string, Phase>, const Step*> steps;
  const auto add = [&](const Segment& segment, Phase phase) {
    for (const Step& step : segment.steps) steps.try_emplace({step.op, step.shape, phase}, &step);
  };
  add(plan.head, Phase::kHead);
  for (const Segment& segment : plan.body) add(segment, Phase::kBody);
  add(plan.tail, Phase::kTail);
  return steps;
}

} // namespace

Rates measure_rates(Communicator* communicator) {
  std::vector<int> cores;
  if (communicator) cores = cores_of_rank(communicator->place().local_rank, communicator->place().local_size);
  Registry registry;
  registry.load_all();
  Rates rates;
  double calls = 0, overhead = 0;
  for (const ModelSize& shape : kShapes) {
    const Config config = Config::parse(config_of(shape), "doctor");
    Bench bench(registry, config, cores);
    bench.step(); // touches memory, wakes threads
    const std::vector<ProfileRow> before = bench.executor().profile_rows();
    const double overhead_before = bench.executor().overhead_seconds();
    if (communicator) communicator->barrier();
    for (int step = 0; step < kSteps; ++step) bench.step();
    overhead += bench.executor().overhead_seconds() - overhead_before;
    const std::vector<ProfileRow> after = bench.executor().profile_rows();
    const auto steps = steps_of(bench.plan());
    const Machine any; // classes do not depend on the machine's figures where nothing is skinny
    const StepCost cost(any, bench.graph());
    for (size_t i = 0; i < after.size(); ++i) {
      const ProfileRow& row = after[i];
      const double n = static_cast<double>(row.calls - before[i].calls);
      const auto step = steps.find({row.op, row.shape, row.phase});
      if (n == 0 || step == steps.end()) continue;
      calls += n;
      RateSample sample;
      sample.op_class = cost.op_class(*step->second);
      sample.smallest = cost.smallest(*step->second);
      sample.flops = n * row.flops, sample.bytes = n * row.bytes;
      sample.seconds = row.seconds - before[i].seconds;
      sample.calls = n;
      rates.samples.push_back(std::move(sample));
    }
  }
  rates.step_overhead = calls > 0 ? overhead / calls : 0;
  return rates;
}

} // namespace kumiki
