#include "core/run/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <functional>
#include <optional>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/fs.h"
#include "core/base/log.h"
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

volatile std::sig_atomic_t stop_signal = 0;
void on_signal(int signal) { stop_signal = signal; }

int64_t largest_micro_batches(const Config& config) {
  const GlobalBatch& batch = config.run().global_batch;
  return std::max(batch.start, batch.end) / config.run().micro_batch;
}

class Signals {
 public:
  Signals() {
    stop_signal = 0;
    struct sigaction action = {};
    action.sa_handler = on_signal;
    for (size_t i = 0; i < 3; ++i) sigaction(kSignals[i], &action, &old_[i]);
  }
  ~Signals() {
    for (size_t i = 0; i < 3; ++i) sigaction(kSignals[i], &old_[i], nullptr);
  }

 private:
  static constexpr int kSignals[3] = {SIGUSR1, SIGINT, SIGTERM};
  struct sigaction old_[3];
};

class Trainer {
 public:
  Trainer(const Config& config, Registry& registry, const TrainOptions& options)
      : config_(config),
        options_(options),
        begin_(real_clock().seconds()),
        folder_(run_folder(config)),
        engine_(registry, config, {}),
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
  void open_folder() {
    checkpoints_ = folder_ + "/checkpoints";
    const std::string latest = latest_checkpoint(real_fs(), checkpoints_);
    if (options_.resume) {
      warn_of_broken_checkpoints();
      if (latest.empty())
        log_info("no checkpoint in " + checkpoints_ + ": starting at step 0");
      else
        reader_ = std::make_unique<CheckpointReader>(real_fs(), latest);
    } else if (!latest.empty()) {
      if (!options_.fresh)
        throw Error(
            checkpoints_, "an earlier run of this name has checkpoints",
            "go on with --resume, start over with --fresh (removes them), or give another name: --set run.name=…");
      real_fs().remove(checkpoints_);
    }
    real_fs().make_folders(folder_);
    real_fs().remove(folder_ + "/stop");
    write_file(real_fs(), folder_ + "/config.toml", config_.to_toml(engine_.registry().option_lookup()));
    if (reader_) kernel_choices_ = reader_->state().kernel_choices;
    if (config_.kernels().select == "fastest") engine_.choose_fastest(&kernel_choices_);
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
      if (sequences % run.micro_batch == 0) continue;
      throw config_.table("run").error(
          "global_batch",
          std::to_string(sequences) + " sequences are no multiple of micro_batch = " + std::to_string(run.micro_batch),
          "make it one, or take another micro_batch");
    }
    optimizer_ = engine_.open_optimizer();
    graph_ = engine_.model().build(engine_.shape(KM_MODE_TRAIN, run.micro_batch), engine_.chain());
    flops_ = training_flops(*graph_);
    if (run.eval_every > 0)
      evaluator_ = std::make_unique<Evaluator>(engine_, store_, std::make_unique<Graph>(*graph_), KM_SPLIT_VALIDATION);
    make_training_graph(*graph_, *optimizer_, engine_.chain(), engine_.training_options());
    plan_ = make_plan(*graph_, engine_.chain(), training_plan_options(config_));
    store_.add(plan_);
    if (run.sample_every > 0 && engine_.feed()->has_tokenizer())
      generator_ = std::make_unique<Generator>(engine_, store_);
    store_.finish();
    executor_ = std::make_unique<Executor>(plan_, engine_.chain(), store_);
    executor_->profile(options_.profile);
    staging_ = std::make_unique<Staging>(plan_, static_cast<int32_t>(largest_micro_batches(config_)));
    for (ValueId p : graph_->parameters()) parameters_ += graph_->value(p).type.elements();
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
    writer_ = std::make_unique<CheckpointWriter>(real_fs(), real_clock(), writer_options);
    const km_run_info info = {sizeof info,         0,          config_.run().name.c_str(), folder_.c_str(), step_ + 1,
                              config_.run().steps, parameters_};
    measures_ = std::make_unique<Measures>(engine_.host(), engine_.registry(), config_, info);
  }

  void announce() {
    std::string kernels;
    std::map<std::string, std::string> ops_of;
    for (const auto& [op, member] : engine_.chain().chosen())
      ops_of[member] += (ops_of[member].empty() ? "" : ", ") + op;
    for (const auto& [member, ops] : ops_of) log_debug(member + ": " + ops);
    for (const KernelChain::Member& m : engine_.chain().members()) kernels += (kernels.empty() ? "" : " > ") + m.plugin;
    char text[512];
    std::snprintf(text, sizeof text,
                  "%s: %.2f M parameters, %s, %u threads, kernels %s, %.2f GB planned, ready in %.2f s",
                  config_.run().name.c_str(), static_cast<double>(parameters_) * 1e-6, config_.run().compute.c_str(),
                  engine_.pool().threads(), kernels.c_str(),
                  static_cast<double>(plan_.leaf_bytes() + plan_.arena.bytes) * 1e-9, real_clock().seconds() - begin_);
    measures_->event(step_, "start", text);
    if (reader_) measures_->event(step_, "notice", "resumed from " + reader_->folder());
    reader_.reset();
  }

  // -- the loop --
  int loop() {
    const RunSettings& run = config_.run();
    Signals signals;
    Prefetch prefetch(*engine_.feed());
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
      if (executor_->run(one_rank_schedule(static_cast<int32_t>(sequences / run.micro_batch)), *staging_) != KM_OK)
        throw Error("step " + std::to_string(step_ + 1),
                    "failed in " + executor_->failed() + ": " + Host::take_error());

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
        measures_->event(step_, "stop", why + ": checkpoint saved, go on with --resume");
        finish();
        return kExitStopped;
      }
    }
    if (saved_step_ != step_) save();
    writer_->wait();
    measures_->event(step_, "checkpoint", latest_checkpoint(real_fs(), checkpoints_));
    finish();
    return 0;
  }

  int64_t next_global_batch(int64_t tokens) const {
    return global_batch(config_.run().global_batch, tokens, config_.run().micro_batch);
  }

  void stage(const BatchRows& rows, int64_t sequences, double rate) {
    const RunSettings& run = config_.run();
    staging_->set_all("step", static_cast<double>(step_ + 1));
    staging_->set_all("learning_rate", rate);
    staging_->set_all("loss_scale", 1.0);
    staging_->set_all("seed", static_cast<double>(run.seed));
    for (int64_t m = 0; m < sequences / run.micro_batch; ++m) {
      staging_->set("micro", static_cast<double>(m), static_cast<int32_t>(m));
      staging_->set("sample", static_cast<double>(sample_ + m * run.micro_batch), static_cast<int32_t>(m));
      stage_rows(*staging_, static_cast<int32_t>(m), rows, m * run.micro_batch, run.micro_batch, run.sequence);
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
      measures_->event(step_ + 1, "notice", "gradient norm is not finite: the update is skipped");
      return {};
    }
    save();
    writer_->wait();
    finish();
    log_error("step " + std::to_string(step_ + 1) + ": the " + (std::isfinite(loss) ? "gradient norm" : "loss") +
              " is not finite; the weights before this step are saved in " + checkpoints_ +
              "\n  try a lower optimizer.learning_rate, a longer schedule.warmup or a smaller optimizer.clip");
    return kExitNumeric;
  }

  void report(double begin, double data_seconds, int64_t sequences, double loss, double rate, double norm) {
    const double seconds = real_clock().seconds() - begin;
    const double tokens = static_cast<double>(sequences * config_.run().sequence);
    const double flops = flops_.full * static_cast<double>(sequences / config_.run().micro_batch);
    measures_->step({{"step", static_cast<double>(step_)},
                     {"loss", loss},
                     {"learning_rate", rate},
                     {"grad_norm", norm},
                     {"tokens", static_cast<double>(tokens_)},
                     {"tokens_per_second", tokens / seconds},
                     {"flops_per_second", flops / seconds},
                     {"step_seconds", seconds},
                     {"data_seconds", data_seconds},
                     {"comm_seconds", 0.0}});
  }

  void between_steps() {
    const RunSettings& run = config_.run();
    const bool last = step_ == run.steps;
    if (evaluator_ && (step_ % run.eval_every == 0 || last)) {
      const Evaluation e = evaluator_->run(run.eval_batches);
      std::vector<km_metric> metrics = {{"step", static_cast<double>(step_)}, {"eval_loss", e.loss}};
      if (e.bits_per_byte > 0) metrics.push_back({"eval_bits_per_byte", e.bits_per_byte});
      measures_->step(metrics);
    }
    if (generator_ && (step_ % run.sample_every == 0 || last)) {
      GenerateOptions options;
      options.tokens = run.sample_tokens;
      options.seed = static_cast<uint64_t>(run.seed);
      measures_->event(step_, "sample", run.sample_prompt + generator_->run(run.sample_prompt, options, nullptr));
    }
    if (config_.checkpoint().every > 0 && step_ % config_.checkpoint().every == 0) {
      save();
      measures_->event(step_, "checkpoint", checkpoints_ + "/" + checkpoint_name(step_));
    }
  }

  std::string why_stop() {
    if (stop_signal != 0) return std::string("signal ") + strsignal(stop_signal);
    if (real_fs().exists(folder_ + "/stop")) return "file " + folder_ + "/stop";
    if (config_.run().max_wall > 0 && real_clock().seconds() - begin_ > config_.run().max_wall)
      return "run.max_wall is over";
    return "";
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
    if (options_.profile) log_info("profile of the plan's steps\n" + profile_table(*executor_));
    writer_->wait();
  }

  const Config& config_;
  const TrainOptions& options_;
  const double begin_;
  const std::string folder_;
  std::string checkpoints_;
  Engine engine_;
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
  int64_t parameters_ = 0;
  int64_t step_ = 0, sample_ = 0, tokens_ = 0, saved_step_ = -1;
  int skipped_ = 0;
};

} // namespace

PlanOptions training_plan_options(const Config& config) {
  PlanOptions options;
  options.prepack = largest_micro_batches(config) > 1;
  return options;
}

std::string run_folder(const Config& config) { return config.run().output + "/" + config.run().name; }

int train(const Config& config, Registry& registry, const TrainOptions& options) {
  return Trainer(config, registry, options).run();
}

} // namespace kumiki
