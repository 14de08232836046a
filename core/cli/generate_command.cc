#include <cstdio>
#include <memory>
#include <string>

#include "core/base/error.h"
#include "core/base/fs.h"
#include "core/cli/commands.h"
#include "core/run/evaluator.h"
#include "core/run/generator.h"
#include "core/run/saved.h"

namespace kumiki {
void add_generate_command(CLI::App& app) {
  struct Arguments {
    std::string run, prompt;
    std::vector<std::string> sets;
    GenerateOptions options;
  };
  auto a = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("generate", "continue a prompt with a trained model");
  command->add_option("run", a->run, "a run folder (runs/NAME) or a checkpoint")->required();
  command->add_option("--prompt", a->prompt, "the text to continue");
  command->add_option("--tokens", a->options.tokens, "at most so many tokens")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--temperature", a->options.temperature, "0 = always the likeliest token")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--top-k", a->options.top_k, "draw from the k likeliest tokens; 0 = all")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--seed", a->options.seed, "another seed, another text")->capture_default_str();
  command->add_option("--set", a->sets, "change a value of the run's configuration")->allow_extra_args(false);
  command->callback([a] {
    const CheckpointReader reader(real_fs(), find_checkpoint(real_fs(), a->run));
    const Config config = Config::parse(reader.state().config_toml, reader.folder() + "/state.json", a->sets);
    Registry registry(config);
    Engine engine(registry, config, {});
    Store store(engine.chain().device());
    Generator generator(engine, store);
    store.finish();
    load_leaves(reader, store);
    std::printf("%s", a->prompt.c_str());
    std::fflush(stdout);
    generator.run(a->prompt, a->options, [](const std::string& piece) {
      std::fputs(piece.c_str(), stdout);
      std::fflush(stdout);
    });
    std::printf("\n");
  });
}

void add_eval_command(CLI::App& app) {
  struct Arguments {
    std::string config, checkpoint, split = "validation";
    std::vector<std::string> sets;
    int64_t batches = 0;
  };
  auto a = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("eval", "the loss of a checkpoint on the data of a configuration");
  command->add_option("config", a->config, "the configuration (TOML)")->required();
  command->add_option("--checkpoint", a->checkpoint, "a run folder (runs/NAME) or a checkpoint")->required();
  command->add_option("--split", a->split, "of the data")
      ->capture_default_str()
      ->check(CLI::IsMember({"train", "validation", "test"}));
  command->add_option("--batches", a->batches, "micro-batches; 0 = the whole split")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--set", a->sets, "set a value: --set run.sequence=256 (may be repeated)")
      ->allow_extra_args(false);
  command->callback([a] {
    const Config config = Config::load(a->config, a->sets);
    Registry registry(config);
    check_components(config, registry);
    const CheckpointReader reader(real_fs(), find_checkpoint(real_fs(), a->checkpoint));
    Engine engine(registry, config, {});
    Store store(engine.chain().device());
    const uint32_t split = a->split == "train"  ? KM_SPLIT_TRAIN
                           : a->split == "test" ? KM_SPLIT_TEST
                                                : KM_SPLIT_VALIDATION;
    Evaluator evaluator(engine, store,
                        engine.model().build(engine.shape(KM_MODE_TRAIN, config.run().micro_batch), engine.chain()),
                        split);
    store.finish();
    load_leaves(reader, store);
    const Evaluation e = evaluator.run(a->batches);
    std::printf("step %lld  loss %.6f  tokens %lld", static_cast<long long>(reader.state().step), e.loss,
                static_cast<long long>(e.tokens));
    if (e.bits_per_byte > 0) std::printf("  bits per byte %.4f", e.bits_per_byte);
    std::printf("\n");
  });
}

} // namespace kumiki
