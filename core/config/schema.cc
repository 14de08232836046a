#include "core/config/schema.h"

#include <string_view>

namespace kumiki {
namespace {

constexpr uint32_t kI64 = KM_OPTION_I64, kF64 = KM_OPTION_F64, kString = KM_OPTION_STRING,
                   kStrings = KM_OPTION_STRING_LIST;
constexpr uint32_t kNeeded = KM_OPTION_REQUIRED;

} // namespace

const std::vector<CoreTable>& core_tables() {
  static const std::vector<CoreTable> tables = {
      {"run", false, "", "What is trained, for how long, and in which pieces."},
      {"model", false, "model", "The network. All keys but `use` are options of the model component."},
      {"kernels", false, "kernels",
       "Who computes. Options of a kernels component stand in a table of its name, e.g. `[kernels.generic]`."},
      {"optimizer", false, "optimizer",
       "How parameters are updated. Other keys are options of the optimizer component."},
      {"data", true, "data", "Where samples come from; several `[[data]]` are blended by weight."},
      {"parallel", true, "parallel",
       "How the work is divided over ranks. The first `[[parallel]]` is the innermost axis."},
      {"comm", false, "comm", "How ranks talk to each other. Other keys are options of the comm component."},
      {"metrics", true, "metrics", "Who receives what the run measured. Without any `[[metrics]]`: `console`."},
      {"checkpoint", false, "", "When the state of the run is saved."},
      {"plugins", false, "", "Plugins that do not lie in the program's own `lib/kumiki`."},
  };
  return tables;
}

const std::vector<CoreKey>& core_keys() {
  static const std::vector<CoreKey> keys = {
      {"run",
       {"name", kString, 0, nullptr, 0, 0, nullptr,
        "name of the run and of its folder; default: the file's name without .toml"}},
      {"run",
       {"seed", kI64, 0, "1", 0, kNoLimit, nullptr, "of all random numbers: initial values, shuffling, dropout"}},
      {"run", {"steps", kI64, kNeeded, nullptr, 0, kNoLimit, nullptr, "updates of the whole run"}},
      {"run", {"sequence", kI64, kNeeded, nullptr, 1, kNoLimit, nullptr, "tokens of one sequence"}},
      {"run", {"micro_batch", kI64, 0, "1", 1, kNoLimit, nullptr, "sequences of one forward pass on one rank"}},
      {"run",
       {"global_batch", kI64, 0, nullptr, 1, kNoLimit, nullptr,
        "sequences of one update, a multiple of micro_batch x data degree; default: micro_batch; a table makes a "
        "ramp"}},
      {"run.global_batch", {"start", kI64, kNeeded, nullptr, 1, kNoLimit, nullptr, "sequences of the first update"}},
      {"run.global_batch",
       {"end", kI64, kNeeded, nullptr, 1, kNoLimit, nullptr, "sequences of an update after the ramp"}},
      {"run.global_batch", {"tokens", kI64, kNeeded, nullptr, 1, kNoLimit, nullptr, "tokens seen when the ramp ends"}},
      {"run",
       {"compute", kString, 0, "f32", 0, 0, "f32|bf16", "what matrix products take; parameters and states stay f32"}},
      {"run",
       {"threads", kI64, 0, "0", 0, 65536, nullptr,
        "compute threads of one rank; 0: all cores that the process may use"}},
      {"run", {"output", kString, 0, "runs", 0, 0, nullptr, "folder in which the run's folder is made"}},
      {"run", {"eval_every", kI64, 0, "0", 0, kNoLimit, nullptr, "steps between evaluations; 0: none"}},
      {"run", {"eval_batches", kI64, 0, "16", 1, kNoLimit, nullptr, "micro-batches of one evaluation"}},
      {"run",
       {"max_wall", kF64, 0, "0", 0, kNoLimit, nullptr,
        "seconds after which the run saves and stops (exit code 85); 0: no limit"}},
      {"run",
       {"time_limit", kF64, 0, "120", 1, kNoLimit, nullptr,
        "seconds that a rank waits for a message of others before it says for whom and ends the job (exit code 86)"}},
      {"run",
       {"compare_every", kI64, 0, "100", 0, kNoLimit, nullptr,
        "steps after which ranks that hold the same weights compare them (exit code 87); 0: never"}},
      {"run", {"sample_every", kI64, 0, "0", 0, kNoLimit, nullptr, "steps between samples of generated text; 0: none"}},
      {"run", {"sample_prompt", kString, 0, nullptr, 0, 0, nullptr, "text that the samples go on from"}},
      {"run", {"sample_tokens", kI64, 0, "64", 1, kNoLimit, nullptr, "tokens of one sample of generated text"}},

      {"model", {"use", kString, kNeeded, nullptr, 0, 0, nullptr, "the model component"}},

      {"kernels",
       {"use", kStrings, 0, "[generic, reference]", 0, 0, nullptr,
        "the chain of kernels components; for each op the first that can do it"}},
      {"kernels",
       {"select", kString, 0, "order", 0, 0, "order|fastest",
        "of several that can do an op: the first of the chain, or the fastest, measured at the start"}},

      {"optimizer", {"use", kString, 0, "adamw", 0, 0, nullptr, "the optimizer component"}},
      {"optimizer", {"learning_rate", kF64, 0, "3e-4", 0, 1e6, nullptr, "after the warm-up, the schedule's peak"}},
      {"optimizer",
       {"clip", kF64, 0, "1.0", 0, kNoLimit, nullptr,
        "longest norm of the whole gradient; longer ones are scaled down to it; 0: none"}},
      {"optimizer",
       {"schedule", kOptionTable, 0, nullptr, 0, 0, nullptr, "how the learning rate changes, the keys below"}},
      {"optimizer.schedule",
       {"use", kString, 0, "constant", 0, 0, "constant|cosine|linear|wsd",
        "course after the warm-up: as it is, half a cosine or a line down to minimum, or warm-up, stable, decay"}},
      {"optimizer.schedule",
       {"warmup", kI64, 0, "0", 0, kNoLimit, nullptr, "steps in which the rate rises from 0, linearly"}},
      {"optimizer.schedule", {"minimum", kF64, 0, "0", 0, 1e6, nullptr, "learning rate of the last step"}},
      {"optimizer.schedule", {"decay", kI64, 0, "0", 0, kNoLimit, nullptr, "wsd: steps of the decay at the end"}},

      {"data", {"use", kString, kNeeded, nullptr, 0, 0, nullptr, "the data component"}},
      {"data",
       {"weight", kF64, 0, "1.0", 0, kNoLimit, nullptr, "share of the samples, relative to the other [[data]]"}},

      {"parallel", {"use", kString, kNeeded, nullptr, 0, 0, nullptr, "the strategy"}},
      {"parallel",
       {"degree", kI64, 0, "0", 0, kNoLimit, nullptr, "ranks along the axis; 0: what remains of the ranks"}},

      {"comm", {"use", kString, 0, "auto", 0, 0, nullptr, "the comm component; auto: mpi under a launcher, else self"}},

      {"metrics", {"use", kString, kNeeded, nullptr, 0, 0, nullptr, "the metrics component"}},

      {"checkpoint",
       {"every", kI64, 0, "0", 0, kNoLimit, nullptr, "steps between checkpoints; 0: only at the end of the run"}},
      {"checkpoint", {"keep", kI64, 0, "3", 0, kNoLimit, nullptr, "newest checkpoints that are kept; 0: all"}},

      {"plugins",
       {"path", kStrings, 0, nullptr, 0, 0, nullptr,
        "plugin files: absolute, or relative to the file that names them, else to lib/kumiki"}},
      {"plugins",
       {"sha256", kOptionTable, 0, nullptr, 0, 0, nullptr,
        "pins, file name = 64 hexadecimal digits: another content is refused"}},
  };
  return keys;
}

std::vector<km_option> core_keys_of(const std::string& table) {
  std::vector<km_option> out;
  for (const CoreKey& key : core_keys()) {
    if (table == key.table) out.push_back(key.option);
  }
  return out;
}

const km_option* find_core_key(const std::string& table, const std::string& key) {
  for (const CoreKey& candidate : core_keys()) {
    if (table == candidate.table && key == candidate.option.name) return &candidate.option;
  }
  return nullptr;
}

bool is_core_key(const std::string& table, const std::string& key) { return find_core_key(table, key) != nullptr; }

const CoreTable* find_core_table(const std::string& name) {
  for (const CoreTable& table : core_tables()) {
    if (name == table.name) return &table;
  }
  return nullptr;
}

std::vector<std::string> default_list(const char* text) {
  std::vector<std::string> out;
  std::string_view rest = text ? text : "";
  const auto trim = [](std::string_view part) {
    const std::string_view blank = " \t[]\"";
    const size_t first = part.find_first_not_of(blank);
    return first == std::string_view::npos ? std::string_view()
                                           : part.substr(first, part.find_last_not_of(blank) - first + 1);
  };
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    const std::string_view part = trim(rest.substr(0, comma));
    if (!part.empty()) out.emplace_back(part);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  }
  return out;
}

} // namespace kumiki
