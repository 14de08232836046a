#include "core/run/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/fs.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/signals.h"
#include "core/checkpoint/checkpoint.h"
#include "core/run/evaluator.h"
#include "core/run/generator.h"
#include "core/run/initial.h"
#include "core/run/measures.h"
#include "core/run/profile.h"
#include "core/run/saved.h"
#include "core/run/schedule.h"

namespace kumiki {
namespace {

int64_t largest_micro_batches(const Config& config, const Strategies& strategies) {
  const GlobalBatch& batch = config.run().global_batch;
  return std::max(batch.start, batch.end) / (config.run().micro_batch * strategies.batch_degree());
}

class Trainer {
 public:
  Trainer(const Config& config, Registry& registry, const TrainOptions& options, Communicator* communicator)
      : config_(config),
        options_(options),
        begin_(real_clock().seconds()),
        folder_(run_folder(config)),
        engine_(registry, config, {.without_kernels = {}, .communicator = communicator}),
        communicator_(communicator),
        first_(engine_.first_rank()),
        micro_batch_(config.run().micro_batch * engine_.strategies().batch_degree()),
        store_(engine_.chain().device()) {}

  int run() {
    open_folder();
    make_plans();
    restore_or_initialize();
    announce();
    return loop();
  }

 private:
  // -- set-up --
  // The first rank looks after the folder; the others are told what it found.
  void open_folder() {
    if (communicator_) same_configuration();
    checkpoints_ = folder_ + "/checkpoints";
    std::string latest;
    if (first_) {
      latest = latest_checkpoint(real_fs(), checkpoints_);
      if (options_.resume) {
        warn_of_broken_checkpoints();
        if (latest.empty()) log_info("no checkpoint in " + checkpoints_ + ": starting at step 0");
      } else if (!latest.empty()) {
        if (!options_.fresh)
          throw Error(
              checkpoints_, "an earlier run of this name has checkpoints",
              "go on with --resume, start over with --fresh (removes them), or give another name: --set run.name=…");
        real_fs().remove(checkpoints_);
        latest.clear();
      }
      real_fs().make_folders(folder_);
      real_fs().remove(folder_ + "/stop");
      write_file(real_fs(), folder_ + "/config.toml", config_.to_toml(engine_.registry().option_lookup()));
    }
    if (communicator_) communicator_->broadcast(latest);
    if (!latest.empty()) reader_ = std::make_unique<CheckpointReader>(real_fs(), latest);
    if (reader_) kernel_choices_ = reader_->state().kernel_choices;
    if (config_.kernels().select == "fastest") engine_.choose_fastest(&kernel_choices_);
  }

  // Ranks with other samples or another model would train on in silence wherever their messages fit.
  void same_configuration() {
    const std::string own = config_.to_toml(engine_.registry().option_lookup());
    std::string first = own;
    communicator_->broadcast(first);
    if (own == first) return;
    size_t at = 0;
    while (at < own.size() && at < first.size() && own[at] == first[at]) ++at;
    const size_t line = own.rfind('\n', at) == std::string::npos ? 0 : own.rfind('\n', at) + 1;
    communicator_->abort(2, "its configuration is not that of rank 0; first at \"" +
                                own.substr(line, own.find('\n', at) - line) +
                                "\"\n  start all ranks with the same file and the same --set");
  }

  // Folders with a step's name that are no complete checkpoints: resuming passes over them, which the user should know.
  void warn_of_broken_checkpoints() const {
    if (!real_fs().exists(checkpoints_)) return;
    const std::vector<std::string> good = list_checkpoints(real_fs(), checkpoints_);
    for (const std::string& name : real_fs().list(checkpoints_))
      if (checkpoint_step(name) >= 0 && std::find(good.begin(), good.end(), checkpoints_ + "/" + name) == good.end())
        log_warning(checkpoints_ + "/" + name + " is no complete checkpoint (manifest.json is missing): passed over");
  }

  void make_plans() {
    const RunSettings& run = config_.run();
    for (int64_t sequences : {run.global_batch.start, run.global_batch.end}) {
      if (sequences % micro_batch_ == 0) continue;
      const int64_t degree = engine_.strategies().batch_degree();
      throw config_.table("run").error(
          "global_batch",
          std::to_string(sequences) + " sequences are no multiple of micro_batch = " + std::to_string(run.micro_batch) +
              (degree > 1 ? " on each of " + std::to_string(degree) + " ranks that read data" : ""),
          "make it a multiple of " + std::to_string(micro_batch_) + ", or take another micro_batch");
    }
    optimizer_ = engine_.open_optimizer();
    graph_ = engine_.model().build(engine_.shape(KM_MODE_TRAIN, run.micro_batch), engine_.chain());
    flops_ = training_flops(*graph_); // of the whole model
    for (ValueId p : graph_->parameters()) parameters_ += graph_->value(p).type.elements();
    const Strategies& strategies = engine_.strategies();
    strategies.rewrite_forward(*graph_);
    if (run.eval_every > 0)
      evaluator_ = std::make_unique<Evaluator>(engine_, store_, std::make_unique<Graph>(*graph_), KM_SPLIT_VALIDATION);
    make_training_graph(*graph_, *optimizer_, engine_.chain(), strategies, engine_.training_options());
    const PlanOptions plan_options = training_plan_options(config_, strategies);
    check_schedules(strategies, graph_->stages(), plan_options.micro_batches, true);
    plan_ = make_plan(*graph_, engine_.chain(), plan_options, &strategies);
    store_.add(plan_);
    if (run.sample_every > 0 && engine_.feed()->has_tokenizer())
      generator_ = std::make_unique<Generator>(engine_, store_);
    store_.finish();
    executor_ = std::make_unique<Executor>(plan_, engine_.chain(), store_, engine_.links(plan_));
    executor_->profile(options_.profile);
    staging_ = std::make_unique<Staging>(plan_, plan_options.micro_batches);
  }

  void restore_or_initialize() {
    if (reader_) {
      load_leaves(*reader_, store_);
      step_ = reader_->state().step;
      sample_ = reader_->state().sample;
      tokens_ = reader_->state().tokens;
    } else {
      initialize_parameters(*graph_, static_cast<uint64_t>(config_.run().seed), store_, engine_.pool());
    }
    WriterOptions writer_options;
    writer_options.folder = checkpoints_;
    writer_options.keep = config_.checkpoint().keep;
    writer_options.rank = engine_.strategies().rank();
    writer_options.ranks = engine_.strategies().ranks();
    // The first rank's writer clears the folder; the others begin after it.
    if (communicator_ && !first_) communicator_->barrier();
    writer_ = std::make_unique<CheckpointWriter>(real_fs(), real_clock(), writer_options);
    if (communicator_ && first_) communicator_->barrier();
    if (!first_) return;
    const km_run_info info = {sizeof info,         0,          config_.run().name.c_str(), folder_.c_str(), step_ + 1,
                              config_.run().steps, parameters_};
    measures_ = std::make_unique<Measures>(engine_.host(), engine_.registry(), config_, info);
  }

  void announce() {
    if (!first_) {
      reader_.reset();
      return;
    }
    std::string kernels;
    std::map<std::string, std::string> ops_of;
    for (const auto& [op, member] : engine_.chain().chosen())
      ops_of[member] += (ops_of[member].empty() ? "" : ", ") + op;
    for (const auto& [member, ops] : ops_of) log_debug(member + ": " + ops);
    for (const KernelChain::Member& m : engine_.chain().members()) kernels += (kernels.empty() ? "" : " > ") + m.plugin;
    char text[512];
    std::snprintf(
        text, sizeof text, "%s: %.2f M parameters, %s, %s%u threads, kernels %s, %.2f GB planned, ready in %.2f s",
        config_.run().name.c_str(), static_cast<double>(parameters_) * 1e-6, config_.run().compute.c_str(),
        (engine_.strategies().alone()
             ? ""
             : std::to_string(engine_.strategies().ranks()) + " ranks (" + engine_.strategies().text() + "), ")
            .c_str(),
        engine_.pool().threads(), kernels.c_str(), static_cast<double>(plan_.leaf_bytes() + plan_.arena.bytes) * 1e-9,
        real_clock().seconds() - begin_);
    event(step_, "start", text);
    if (reader_) event(step_, "notice", "resumed from " + reader_->folder());
    reader_.reset();
  }

  void event(int64_t step, const char* kind, const std::string& text) {
    if (measures_) measures_->event(step, kind, text);
  }
  void metrics(const std::vector<km_metric>& values) {
    if (measures_) measures_->step(values);
  }

  // -- the loop --
  int loop() {
    const RunSettings& run = config_.run();
    const StopSignals signals;
    if (communicator_) communicator_->set_time_limit(run.time_limit);
    const Strategies& strategies = engine_.strategies();
    Prefetch prefetch(*engine_.feed(), {run.micro_batch, strategies.batch_degree(), strategies.batch_index()});
    while (step_ < run.steps) {
      const double begin = real_clock().seconds();
      const int64_t sequences = next_global_batch(tokens_);
      const BatchRows rows = prefetch.get(sample_, sequences);
      const double data_seconds = real_clock().seconds() - begin;
      // What the next step will read: known now, because a batch's tokens are known.
      if (step_ + 1 < run.steps)
        prefetch.ahead(sample_ + sequences, next_global_batch(tokens_ + sequences * run.sequence));

      const double rate = learning_rate(config_.optimizer(), step_ + 1, run.steps);
      stage(rows, sequences, rate);
      if (options_.trace) trace_step(++traced_);
      if (communicator_) communicator_->set_step(step_ + 1);
      const double waited = communicator_ ? communicator_->waited() : 0;
      if (executor_->run(schedule_of(sequences), *staging_) != KM_OK) {
        const std::string where = "step " + std::to_string(step_ + 1);
        if (communicator_ && !communicator_->error().empty()) throw Error(where, communicator_->error());
        throw Error(where, "failed in " + executor_->failed() + ": " + Host::take_error());
      }
      comm_seconds_ = communicator_ ? communicator_->waited() - waited : 0;

      const double count = executor_->scalar("tokens");
      const double loss = count > 0 ? static_cast<double>(executor_->scalar("loss")) / count : 0;
      const double norm = executor_->scalar("gradient_norm");
      if (const std::optional<int> code = check_finite(loss, norm)) return *code;
      ++step_;
      sample_ += sequences;
      tokens_ += sequences * run.sequence;
      report(begin, data_seconds, sequences, loss, rate, norm);
      between_steps();
      if (const std::string why = why_stop(); !why.empty() && step_ < run.steps) {
        save();
        writer_->wait();
        event(step_, "stop", why + ": checkpoint saved, go on with --resume");
        finish();
        return kExitStopped;
      }
    }
    if (options_.trace && traced_ >= 2 && traced_ < 5) trace_step(5); // a run that was too short for all three
    if (saved_step_ != step_) save();
    writer_->wait();
    event(step_, "checkpoint", latest_checkpoint(real_fs(), checkpoints_));
    finish();
    return 0;
  }

  int64_t next_global_batch(int64_t tokens) const {
    return global_batch(config_.run().global_batch, tokens, micro_batch_);
  }

  // One for each size of a global batch: a ramp goes through few, and they need not be made again.
  const std::vector<ScheduleEntry>& schedule_of(int64_t sequences) {
    std::vector<ScheduleEntry>& schedule = schedules_[sequences];
    if (schedule.empty())
      schedule = make_schedule(plan_, static_cast<int32_t>(sequences / micro_batch_), &engine_.strategies());
    return schedule;
  }

  void stage(const BatchRows& rows, int64_t sequences, double rate) {
    const RunSettings& run = config_.run();
    staging_->set_all("step", static_cast<double>(step_ + 1));
    staging_->set_all("learning_rate", rate);
    staging_->set_all("loss_scale", 1.0);
    staging_->set_all("seed", static_cast<double>(run.seed));
    const int64_t own = engine_.strategies().batch_index() * run.micro_batch; // of the rows of all ranks
    for (int64_t m = 0; m < sequences / micro_batch_; ++m) {
      staging_->set("micro", static_cast<double>(m), static_cast<int32_t>(m));
      staging_->set("sample", static_cast<double>(sample_ + m * micro_batch_ + own), static_cast<int32_t>(m));
      stage_rows(*staging_, static_cast<int32_t>(m), rows, m * run.micro_batch, run.micro_batch, run.sequence,
                 engine_.strategies().token_share());
    }
  }

  // A loss that is not finite ends the run: nothing was changed by that step (the update is skipped on the device). A norm
  // that overflows while the loss is sound is skipped, up to ten times in a row.
  std::optional<int> check_finite(double loss, double norm) {
    if (std::isfinite(loss) && std::isfinite(norm)) {
      skipped_ = 0;
      return {};
    }
    if (std::isfinite(loss) && ++skipped_ < 10) {
      event(step_ + 1, "notice", "gradient norm is not finite: the update is skipped");
      return {};
    }
    save();
    writer_->wait();
    finish();
    if (first_)
      log_error("step " + std::to_string(step_ + 1) + ": the " + (std::isfinite(loss) ? "gradient norm" : "loss") +
                " is not finite; the weights before this step are saved in " + checkpoints_ +
                "\n  try a lower optimizer.learning_rate, a longer schedule.warmup or a smaller optimizer.clip");
    return kExitNumeric;
  }

  void report(double begin, double data_seconds, int64_t sequences, double loss, double rate, double norm) {
    const double seconds = real_clock().seconds() - begin;
    const double tokens = static_cast<double>(sequences * config_.run().sequence);
    const double flops = flops_.full * static_cast<double>(sequences / config_.run().micro_batch); // of all ranks
    metrics({{"step", static_cast<double>(step_)},
             {"loss", loss},
             {"learning_rate", rate},
             {"grad_norm", norm},
             {"tokens", static_cast<double>(tokens_)},
             {"tokens_per_second", tokens / seconds},
             {"flops_per_second", flops / seconds},
             {"step_seconds", seconds},
             {"data_seconds", data_seconds},
             {"comm_seconds", comm_seconds_}});
  }

  void between_steps() {
    const RunSettings& run = config_.run();
    const bool last = step_ == run.steps;
    if (options_.after_step) options_.after_step(store_, engine_.strategies().rank(), step_);
    if (communicator_ && run.compare_every > 0 && (step_ % run.compare_every == 0 || last)) compare_weights();
    if (evaluator_ && (step_ % run.eval_every == 0 || last)) {
      const Evaluation e = evaluator_->run(run.eval_batches);
      std::vector<km_metric> values = {{"step", static_cast<double>(step_)}, {"eval_loss", e.loss}};
      if (e.bits_per_byte > 0) values.push_back({"eval_bits_per_byte", e.bits_per_byte});
      metrics(values);
    }
    if (generator_ && (step_ % run.sample_every == 0 || last)) {
      GenerateOptions options;
      options.tokens = run.sample_tokens;
      options.seed = static_cast<uint64_t>(run.seed);
      event(step_, "sample", run.sample_prompt + generator_->run(run.sample_prompt, options, nullptr));
    }
    if (config_.checkpoint().every > 0 && step_ % config_.checkpoint().every == 0) {
      save();
      event(step_, "checkpoint", checkpoints_ + "/" + checkpoint_name(step_));
    }
  }

  // Step `n` of this run begins. The second to the fourth are kept: the first one warms up.
  void trace_step(int64_t n) {
    constexpr int64_t kFirst = 2, kEnd = 5;
    if (n == kFirst) {
      if (communicator_) communicator_->barrier();
      trace_origin_ = trace_now();
    }
    if (n == kFirst || n == kEnd) {
      trace_events_ = executor_->trace(n == kFirst);
      if (communicator_)
        for (const TraceEvent& e : communicator_->trace(n == kFirst)) trace_events_.push_back(e);
    }
    if (n != kEnd) return;
    std::vector<std::string> ranks;
    for (int64_t r = 0; r < engine_.strategies().ranks(); ++r) {
      std::string text;
      if (r == engine_.strategies().rank()) text = trace_text(trace_events_, r, trace_origin_);
      if (communicator_) communicator_->broadcast(text, static_cast<uint32_t>(r));
      if (first_) ranks.push_back(std::move(text));
    }
    if (!first_) return;
    write_file(real_fs(), folder_ + "/trace.json", trace_file(ranks));
    event(step_, "notice", "trace of three steps in " + folder_ + "/trace.json (open it in ui.perfetto.dev)");
  }

  // Ranks that hold the same parameters hold the same bits: each compares its own with those of the first along each axis.
  void compare_weights() {
    for (size_t axis = 0; axis < graph_->axes().size(); ++axis) {
      if (engine_.strategies().is_pipeline(graph_->axes()[axis])) continue;
      std::vector<uint64_t> own;
      std::vector<const Leaf*> compared;
      for (const Leaf& leaf : plan_.leaves) {
        if (leaf.kind != ValueKind::kParameter) continue;
        if (graph_->placement(leaf.value, axis).spread != Spread::kReplicated) continue;
        own.push_back(xxh3(reinterpret_cast<const void*>(store_.leaf(leaf.name)), leaf.type.bytes()));
        compared.push_back(&leaf);
      }
      if (own.empty()) continue;
      std::vector<uint64_t> first = own;
      const std::vector<uint32_t> ranks = engine_.strategies().group(graph_->axes()[axis].name);
      communicator_->broadcast(communicator_->group(ranks), first.data(), first.size() * sizeof(uint64_t));
      for (size_t i = 0; i < own.size(); ++i)
        if (own[i] != first[i])
          communicator_->abort(
              kExitDiverged,
              "after step " + std::to_string(step_) + ": " + compared[i]->name + " differs between rank " +
                  std::to_string(ranks[0]) + " and this one, which should hold the same (axis " +
                  graph_->axes()[axis].name +
                  ")\n  the last good state is in the newest checkpoint: go on with --resume; if it comes "
                  "again, look at the memory of both machines");
    }
  }

  // All ranks stop after the same step, for the reason of any of them.
  std::string why_stop() {
    enum : int64_t { kGoOn, kWall, kFile, kSignal };
    int64_t why[2] = {kGoOn, StopSignals::take()};
    if (config_.run().max_wall > 0 && real_clock().seconds() - begin_ > config_.run().max_wall) why[0] = kWall;
    if (first_ && real_fs().exists(folder_ + "/stop")) why[0] = kFile;
    if (why[1] != 0) why[0] = kSignal;
    if (communicator_) communicator_->all_reduce(why, 2, KM_REDUCE_MAX);
    switch (why[0]) {
      case kSignal: return std::string("signal ") + strsignal(static_cast<int>(why[1]));
      case kFile: return "file " + folder_ + "/stop";
      case kWall: return "run.max_wall is over";
      default: return "";
    }
  }

  void save() {
    RunState state;
    state.step = step_;
    state.sample = sample_;
    state.tokens = tokens_;
    state.seed = static_cast<uint64_t>(config_.run().seed);
    state.config_toml = config_.to_toml(engine_.registry().option_lookup());
    state.kernel_choices = kernel_choices_;
    state.numbers["vocabulary"] = static_cast<double>(engine_.vocabulary());
    writer_->save(state, leaf_slices(store_));
    saved_step_ = step_;
  }

  void finish() {
    if (options_.profile && first_) log_info("profile of the plan's steps\n" + profile_table(*executor_));
    writer_->wait();
  }

  const Config& config_;
  const TrainOptions& options_;
  const double begin_;
  const std::string folder_;
  std::string checkpoints_;
  Engine engine_;
  Communicator* const communicator_;
  const bool first_;          // rank 0: it writes what there is one of
  const int64_t micro_batch_; // sequences of one micro-batch of all ranks that read data
  Store store_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Graph> graph_;
  ModelFlops flops_;
  Plan plan_;
  std::unique_ptr<Evaluator> evaluator_;
  std::unique_ptr<Generator> generator_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<CheckpointReader> reader_;
  std::unique_ptr<CheckpointWriter> writer_;
  std::unique_ptr<Measures> measures_;
  std::map<std::string, std::string> kernel_choices_;
  std::map<int64_t, std::vector<ScheduleEntry>> schedules_; // by sequences
  int64_t traced_ = 0, trace_origin_ = 0;
  std::vector<TraceEvent> trace_events_;
  double comm_seconds_ = 0; // of the last step: waited for messages
  int64_t parameters_ = 0;
  int64_t step_ = 0, sample_ = 0, tokens_ = 0, saved_step_ = -1;
  int skipped_ = 0;
};

} // namespace

PlanOptions training_plan_options(const Config& config, const Strategies& strategies) {
  PlanOptions options;
  options.micro_batches = static_cast<int32_t>(largest_micro_batches(config, strategies));
  options.prepack = options.micro_batches > 1;
  return options;
}

std::string run_folder(const Config& config) { return config.run().output + "/" + config.run().name; }

int train(const Config& config, Registry& registry, const TrainOptions& options, Communicator* communicator) {
  return Trainer(config, registry, options, communicator).run();
}

} // namespace kumiki
