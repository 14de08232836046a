#include "tests/run/rig.h"

#include <cstdlib>
#include <random>

#include "core/base/error.h"
#include "core/run/evaluator.h"
#include "core/run/initial.h"

namespace kumiki::test {

Config tiny(const std::string& model, const std::string& kernels, const std::vector<std::string>& sets) {
  const std::string text =
      "[run]\nsteps = 10\nsequence = 16\nmicro_batch = 2\n"
      "global_batch = 4\nthreads = 1\n[model]\n" +
      model_table(model) + "[kernels]\nuse = [" + kernels +
      "]\n[optimizer]\nuse = \"adamw\"\nlearning_rate = 1e-3\n"
      "[[data]]\nuse = \"synthetic\"\nvocabulary = 40\n";
  return Config::parse(text, "tiny.toml", sets);
}

std::string model_table(const std::string& name) {
  if (name == "llama") return "use = \"llama\"\nlayers = 2\nwidth = 32\nheads = 4\nkey_heads = 2\nfeed_forward = 48\n";
  std::string table = "use = \"gpt\"\nlayers = 2\nwidth = 32\nheads = 4\n";
  if (name == "gpt dropout") table += "dropout = 0.1\n";
  if (name == "gpt untied") table += "tied = false\n";
  return table;
}

Rig::Rig(const Config& config, const RigOptions& options) : config_(config) {
  ::setenv("KUMIKI_PLUGINS", "plugins", 0);
  registry_ = std::make_unique<Registry>(config_);
  engine_ = std::make_unique<Engine>(*registry_, config_, Engine::Options{});
  optimizer_ = engine_->open_optimizer();
  const RunSettings& run = config_.run();
  graph_ = engine_->build(engine_->shape(KM_MODE_TRAIN, run.micro_batch));
  TrainingOptions training = engine_->training_options();
  training.fuse = options.fuse;
  make_training_graph(*graph_, *optimizer_, engine_->chain(), engine_->strategies(), training);
  plan_ = make_plan(*graph_, engine_->chain(), {options.prepack, options.keep_gradients, 1});
  store_ = std::make_unique<Store>(engine_->chain().device());
  store_->add(plan_);
  store_->finish();
  executor_ = std::make_unique<Executor>(plan_, engine_->chain(), *store_);
  staging_ = std::make_unique<Staging>(plan_, static_cast<int32_t>(run.global_batch.end / run.micro_batch));
  initialize_parameters(*graph_, static_cast<uint64_t>(run.seed), *store_, engine_->pool());
}

std::vector<ScheduleEntry> Rig::schedule() const { return make_schedule(plan_, staging_->micro_batches()); }

void Rig::stage() {
  const RunSettings& run = config_.run();
  const int64_t sequences = run.global_batch.end, first = done_ * sequences;
  BatchRows rows;
  engine_->feed()->read(first, sequences, rows);
  staging_->set_all("step", static_cast<double>(done_ + 1));
  staging_->set_all("learning_rate", config_.optimizer().learning_rate);
  staging_->set_all("loss_scale", 1.0);
  staging_->set_all("seed", static_cast<double>(run.seed));
  for (int32_t m = 0; m < staging_->micro_batches(); ++m) {
    staging_->set("micro", m, m);
    staging_->set("sample", static_cast<double>(first + m * run.micro_batch), m);
    stage_rows(*staging_, m, rows, m * run.micro_batch, run.micro_batch, run.sequence);
  }
}

double Rig::step() {
  stage();
  if (executor_->run(schedule(), *staging_) != KM_OK)
    throw Error("step", executor_->failed() + ": " + Host::take_error());
  ++done_;
  return static_cast<double>(executor_->scalar("loss")) / static_cast<double>(executor_->scalar("tokens"));
}

double Rig::loss() {
  stage();
  std::vector<ScheduleEntry> without_tail = schedule();
  without_tail.pop_back();
  if (executor_->run(without_tail, *staging_) != KM_OK)
    throw Error("loss", executor_->failed() + ": " + Host::take_error());
  return static_cast<double>(executor_->scalar("loss"));
}

std::vector<std::string> Rig::parameters() const {
  std::vector<std::string> names;
  for (ValueId p : graph_->parameters()) names.push_back(graph_->value(p).name);
  return names;
}

std::vector<float> Rig::parameter(const std::string& name) const {
  std::vector<float> values(static_cast<size_t>(graph_->value(graph_->find(name)).type.elements()));
  store_->device().download(values.data(), store_->leaf(name), values.size() * sizeof(float));
  return values;
}

void Rig::set_parameter(const std::string& name, const std::vector<float>& values) {
  store_->device().upload(store_->leaf(name), values.data(), values.size() * sizeof(float));
}

std::vector<float> Rig::gradient(const std::string& name) const {
  const ValueId id = graph_->find(name);
  std::vector<float> values(static_cast<size_t>(graph_->value(id).type.elements()));
  executor_->read(plan_.gradients.at(id), values.data(), values.size() * sizeof(float));
  return values;
}

void Rig::stir(double deviation) { test::stir(*graph_, *store_, deviation); }

void stir(const Graph& graph, Store& store, double deviation) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0.0f, static_cast<float>(deviation));
  for (ValueId p : graph.parameters()) {
    const Value& v = graph.value(p);
    std::vector<float> values(static_cast<size_t>(v.type.elements()));
    store.device().download(values.data(), store.leaf(v.name), values.size() * sizeof(float));
    for (float& x : values) x += normal(random);
    store.device().upload(store.leaf(v.name), values.data(), values.size() * sizeof(float));
  }
}

} // namespace kumiki::test
