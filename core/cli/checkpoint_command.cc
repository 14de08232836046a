#include "core/cli/checkpoint_command.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/fs.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/huggingface.h"
#include "core/checkpoint/model_form.h"
#include "core/config/config.h"
#include "core/plugin/registry.h"

namespace kumiki {
namespace {

std::string size_text(uint64_t bytes) {
  char text[32];
  if (bytes < 10'000'000) {
    std::snprintf(text, sizeof text, "%.1f kB", static_cast<double>(bytes) / 1e3);
  } else {
    std::snprintf(text, sizeof text, "%.1f MB", static_cast<double>(bytes) / 1e6);
  }
  return text;
}

// -- inspect --
void print_tensors(const CheckpointReader& reader, bool states) {
  size_t width = 0;
  const auto shown = [&](const StoredTensor& tensor) { return (tensor.name.find('/') != std::string::npos) == states; };
  for (const StoredTensor& tensor : reader.tensors())
    if (shown(tensor)) width = std::max(width, tensor.name.size());
  int64_t count = 0, elements = 0;
  uint64_t bytes = 0;
  for (const StoredTensor& tensor : reader.tensors()) {
    if (!shown(tensor)) continue;
    const int64_t own = checked_elements(tensor.shape);
    const uint64_t own_bytes = static_cast<uint64_t>(own) * km_dtype_bytes(tensor.dtype);
    std::printf("  %-*s %-5s %-18s %12s\n", static_cast<int>(width), tensor.name.c_str(),
                safetensors_dtype(tensor.dtype).c_str(), shape_text(tensor.shape).c_str(),
                size_text(own_bytes).c_str());
    ++count;
    elements += own;
    bytes += own_bytes;
  }
  std::printf("%lld %s, %lld elements, %s\n", static_cast<long long>(count),
              states ? "tensors of optimizer state" : "parameters", static_cast<long long>(elements),
              size_text(bytes).c_str());
}

void inspect(const std::string& path, bool all) {
  const CheckpointReader reader(real_fs(), find_checkpoint(real_fs(), path), false);
  const RunState& state = reader.state();
  std::printf("%s\nstep %lld, next sample %lld, %lld tokens seen, seed %llu\n", reader.folder().c_str(),
              static_cast<long long>(state.step), static_cast<long long>(state.sample),
              static_cast<long long>(state.tokens), static_cast<unsigned long long>(state.seed));
  for (const auto& [name, value] : state.numbers) std::printf("%s = %.17g\n", name.c_str(), value);
  for (const auto& [problem, kernel] : state.kernel_choices)
    std::printf("kernel of %s: %s\n", problem.c_str(), kernel.c_str());
  print_tensors(reader, false);
  if (all) print_tensors(reader, true);
  std::printf("%s in all files\n", size_text(reader.bytes()).c_str());
}

// -- verify --
void verify(const std::string& path) {
  Fs& fs = real_fs();
  std::vector<std::string> folders = {path};
  if (!fs.exists(path + "/manifest.json")) {
    folders = list_checkpoints(fs, path + "/checkpoints");
    if (folders.empty()) folders = list_checkpoints(fs, path);
    if (folders.empty()) find_checkpoint(fs, path); // says what is wrong with the path
  }
  std::unique_ptr<Error> first;
  for (const std::string& folder : folders) {
    try {
      const CheckpointReader reader(fs, folder);
      std::printf("good    %s  step %lld, %s\n", folder.c_str(), static_cast<long long>(reader.state().step),
                  size_text(reader.bytes()).c_str());
    } catch (const Error& error) {
      std::printf("broken  %s\n", folder.c_str());
      if (!first) first = std::make_unique<Error>(error);
    }
  }
  if (first) throw Error(*first);
}

// -- export --
struct ExportArguments {
  std::string checkpoint, format = "hf", out, dtype = "f32";
  std::vector<std::string> tokenizer;
};

// The tokenizers that the run's data names.
std::vector<std::string> tokenizers_of(const Config& config) {
  std::vector<std::string> files;
  for (const ComponentUse& use : config.data()) {
    if (!use.options.has("tokenizer")) continue;
    const std::string path = use.options.get_path("tokenizer", "");
    const bool file = real_fs().exists(path) && !real_fs().is_folder(path);
    if (file && std::find(files.begin(), files.end(), path) == files.end()) files.push_back(path);
  }
  return files;
}

void export_model(const ExportArguments& arguments) {
  const CheckpointReader reader(real_fs(), find_checkpoint(real_fs(), arguments.checkpoint));
  const Config config = Config::parse(reader.state().config_toml, reader.folder() + "/state.json");
  Registry registry(config);
  const ModelForm model(registry, config);
  const int64_t sequence = config.run().sequence;
  const ModelForm::HuggingFace form = model.describe(model.vocabulary_of(reader, sequence), sequence);
  ExportOptions options;
  options.out = arguments.out;
  options.config_json = form.config_json;
  options.dtype = arguments.dtype == "bf16" ? KM_BF16 : KM_F32;
  options.tokenizer_files = arguments.tokenizer.empty() ? tokenizers_of(config) : arguments.tokenizer;
  const size_t tensors = export_hugging_face(real_fs(), reader, form.rows, options);
  std::printf("%s: %zu tensors of step %lld as %s, config.json", arguments.out.c_str(), tensors,
              static_cast<long long>(reader.state().step), arguments.dtype.c_str());
  for (const std::string& file : options.tokenizer_files) std::printf(", %s", file.substr(file.rfind('/') + 1).c_str());
  std::printf("\n");
}

// -- import --
struct ImportArguments {
  std::string folder, out, config;
  std::vector<std::string> sets;
  int64_t sequence = 0;
};

// Positions that config.json speaks of; 0: none.
int64_t positions_of(const std::string& config_json) {
  const nlohmann::json config = nlohmann::json::parse(config_json, nullptr, false);
  for (const char* key : {"n_positions", "max_position_embeddings"})
    if (config.is_object() && config.contains(key) && config[key].is_number_integer())
      return config[key].get<int64_t>();
  return 0;
}

std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

// A configuration must name data; these tokens stand until the user names theirs.
std::string placeholder_data(int64_t vocabulary) {
  return "[[data]]\nuse = \"synthetic\"\nvocabulary = " + std::to_string(vocabulary) + "\n";
}

// The configuration of the run that goes on from the imported model. `sequence` 0: as in the user's configuration.
Config compose(const ImportArguments& arguments, const std::string& model_table, int64_t sequence) {
  std::string out = arguments.out;
  while (out.size() > 1 && out.back() == '/') out.pop_back();
  const size_t slash = out.rfind('/');
  const std::string name = "import of " + arguments.folder;
  const Config alone =
      Config::parse("[run]\nsteps = 1\nsequence = 1\n[model]\n" + model_table + placeholder_data(2), name);
  std::string text;
  if (!arguments.config.empty()) text += "extends = [" + quoted(arguments.config) + "]\n";
  text += "[run]\nname = " + quoted(slash == std::string::npos ? out : out.substr(slash + 1)) + "\n";
  text += "output = " + quoted(slash == std::string::npos ? "." : slash == 0 ? "/" : out.substr(0, slash)) + "\n";
  if (arguments.config.empty()) text += "steps = 1000\n";
  if (sequence > 0) text += "sequence = " + std::to_string(sequence) + "\n";
  text += "[model]\n" + model_table;
  const int64_t vocabulary = alone.model().options.get_i64("vocabulary", 256);
  if (arguments.config.empty()) text += placeholder_data(std::max<int64_t>(2, std::min<int64_t>(256, vocabulary)));
  const Config config = Config::parse(text, name, arguments.sets);
  // What the user's configuration says of another model must not leak into this one.
  const Table merged = config.table("model"), imported = alone.table("model");
  for (const std::string& key : merged.keys()) {
    if (!imported.has(key) && merged.origin(key).rfind("--set", 0) != 0)
      throw merged.key_error(key, "the imported model does not say model." + key,
                             "take this line out of the configuration");
  }
  return config;
}

bool same_shapes(const std::vector<StoredTensor>& a, const std::vector<StoredTensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const StoredTensor& x, const StoredTensor& y) {
    return x.name == y.name && x.shape == y.shape;
  });
}

// run.sequence: what the user says; else what config.json says where the parameters depend on it (a table of
// positions); else at most 1024, because one step's memory grows with it.
int64_t choose_sequence(const ImportArguments& arguments, const ModelForm& model, int64_t positions) {
  if (arguments.sequence > 0) return arguments.sequence;
  if (positions > 1 && !same_shapes(model.parameters(0, positions), model.parameters(0, positions - 1)))
    return positions;
  if (!arguments.config.empty()) return 0;
  return positions > 0 ? std::min<int64_t>(positions, 1024) : 1024;
}

void import_model(const ImportArguments& arguments) {
  Fs& fs = real_fs();
  const std::string checkpoints = arguments.out + "/checkpoints";
  if (!list_checkpoints(fs, checkpoints).empty())
    throw Error(checkpoints, "there are checkpoints already", "name another folder with --out, or remove it first");
  const std::string config_json = read_hugging_face_config(fs, arguments.folder);
  Registry known;
  const std::string model_table = model_table_from_config(known, config_json);
  const Config draft = compose(arguments, model_table, arguments.config.empty() ? 1 : 0);
  Registry registry(draft);
  int64_t sequence = 0;
  {
    const ModelForm model(registry, draft);
    sequence = choose_sequence(arguments, model, positions_of(config_json));
  }
  const Config config = compose(arguments, model_table, sequence);
  const ModelForm model(registry, config);
  const std::vector<ModelRow> rows = model.describe(0, config.run().sequence).rows;
  const HuggingFaceReader reader(fs, arguments.folder, rows, model.parameters(0, config.run().sequence));
  RunState state;
  state.seed = static_cast<uint64_t>(config.run().seed);
  state.config_toml = config.to_toml(registry.option_lookup());
  WriterOptions options;
  options.folder = checkpoints;
  CheckpointWriter writer(fs, real_clock(), options);
  const std::vector<Slice> slices = reader.slices();
  writer.save(state, slices);
  writer.wait();
  write_file(fs, arguments.out + "/config.toml", state.config_toml);
  uint64_t bytes = 0;
  for (const Slice& slice : slices) bytes += slice.bytes;
  std::printf("%s: %zu parameters, %s, sequence %lld\n", arguments.out.c_str(), slices.size(), size_text(bytes).c_str(),
              static_cast<long long>(config.run().sequence));
  for (const std::string& name : reader.passed_over()) std::printf("passed over: %s\n", name.c_str());
  if (arguments.config.empty())
    std::printf("%s/config.toml has synthetic data: put yours in its [[data]] before training\n",
                arguments.out.c_str());
}

} // namespace

void add_checkpoint_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("checkpoint", "look at checkpoints; take models to and from Hugging Face's form");
  command->require_subcommand(1);
  const char* const which = "a run folder (runs/NAME) or a checkpoint";

  const auto inspected = std::make_shared<std::pair<std::string, bool>>();
  CLI::App* inspect_command = command->add_subcommand("inspect", "what a checkpoint holds");
  inspect_command->add_option("checkpoint", inspected->first, which)->required();
  inspect_command->add_flag("--all", inspected->second, "the optimizer's tensors too");
  inspect_command->callback([inspected] { inspect(inspected->first, inspected->second); });

  const auto verified = std::make_shared<std::string>();
  CLI::App* verify_command = command->add_subcommand(
      "verify", "read every byte and compare checksums; of a run folder: of all its checkpoints");
  verify_command->add_option("checkpoint", *verified, which)->required();
  verify_command->callback([verified] { verify(*verified); });

  const auto exported = std::make_shared<ExportArguments>();
  CLI::App* export_command = command->add_subcommand("export", "write the model so that transformers opens it");
  export_command->add_option("checkpoint", exported->checkpoint, which)->required();
  export_command->add_option("--format", exported->format, "hf: config.json and safetensors")
      ->capture_default_str()
      ->check(CLI::IsMember({"hf"}));
  export_command->add_option("--out", exported->out, "a new folder")->required();
  export_command->add_option("--dtype", exported->dtype, "of the tensors")
      ->capture_default_str()
      ->check(CLI::IsMember({"f32", "bf16"}));
  export_command->add_option("--tokenizer", exported->tokenizer,
                             "file to copy beside it; default: the run's tokenizer");
  export_command->callback([exported] { export_model(*exported); });

  const auto imported = std::make_shared<ImportArguments>();
  CLI::App* import_command =
      command->add_subcommand("import", "make a run folder at step 0 of a model in Hugging Face's form");
  import_command->add_option("folder", imported->folder, "with config.json and model.safetensors")->required();
  import_command->add_option("--out", imported->out, "the run folder, e.g. runs/NAME")->required();
  import_command->add_option("--config", imported->config, "take data, optimizer and the rest from this configuration");
  import_command->add_option("--set", imported->sets, "set a value: --set run.steps=500 (may be repeated)");
  import_command
      ->add_option("--sequence", imported->sequence, "run.sequence; default: as the model and --config want it")
      ->check(CLI::PositiveNumber);
  import_command->callback([imported] { import_model(*imported); });
}

} // namespace kumiki
