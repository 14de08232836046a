#include "core/cli/data_command.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "core/base/fs.h"
#include "core/cli/data_tokenize.h"
#include "core/config/config.h"
#include "core/config/reader.h"
#include "core/plugin/host.h"
#include "core/plugin/options.h"
#include "core/plugin/registry.h"
#include "core/run/feed.h"
#include "kumiki/data.h"

namespace kumiki {
namespace {

// -- tokenize --
struct TokenizeArguments {
  std::vector<std::string> inputs;
  std::string output, use = "tokenizer", form = "auto", key = "text";
  std::vector<std::string> options, plugins;
  std::string tokenizer;
  unsigned threads = 0;
  bool no_end_of_document = false;
};

DocumentForm form_of(const TokenizeArguments& arguments) {
  if (arguments.form == "file") return DocumentForm::kFile;
  if (arguments.form == "lines") return DocumentForm::kLine;
  if (arguments.form == "jsonl") return DocumentForm::kJsonl;
  const auto is_jsonl = [](std::string path) {
    if (path.size() > 3 && path.substr(path.size() - 3) == ".gz") path.resize(path.size() - 3);
    return path.size() > 6 && path.substr(path.size() - 6) == ".jsonl";
  };
  return std::all_of(arguments.inputs.begin(), arguments.inputs.end(), is_jsonl) ? DocumentForm::kJsonl
                                                                                 : DocumentForm::kFile;
}

// What the command line says of the component, as its table would stand in a configuration.
Table options_of(const TokenizeArguments& arguments) {
  auto table = std::make_shared<ConfigValue>();
  if (!arguments.tokenizer.empty()) {
    const Origin origin{
        std::make_shared<const ConfigSource>(ConfigSource{"--tokenizer " + arguments.tokenizer, "", ""})};
    table->map().push_back({"tokenizer", origin, ConfigValue(arguments.tokenizer, origin)});
  }
  for (const std::string& option : arguments.options) {
    ConfigValue one = read_set(option);
    for (ConfigValue::Entry& entry : one.map()) table->map().push_back(std::move(entry));
  }
  return Table("data", table);
}

// A data component, open for its tokenizer alone.
class OpenTokenizer {
 public:
  OpenTokenizer(Registry& registry, const TokenizeArguments& arguments)
      : component_(registry.find("data", arguments.use)),
        table_(table_of<km_data>(component_, "data", KM_DATA_VERSION)) {
    const OptionValues options(component_, options_of(arguments));
    const km_data_context context = {sizeof context, KM_SPLIT_TRAIN, 1, 0, 0};
    check(table_.open(host_.abi(), options.get(), &context, &self_), component_.title(), "open");
    const void* const ability = table_.ability ? table_.ability(self_, KM_TOKENIZER_ABILITY) : nullptr;
    tokenizer_ = ability_of<km_tokenizer>(ability);
    if (!tokenizer_.encode || !tokenizer_.end_of_document) {
      table_.close(self_);
      throw Error(component_.title(), "has no tokenizer",
                  "name a data component with the ability " KM_TOKENIZER_ABILITY
                  " by --use, and its options by --option");
    }
  }
  ~OpenTokenizer() { table_.close(self_); }
  OpenTokenizer(const OpenTokenizer&) = delete;
  OpenTokenizer& operator=(const OpenTokenizer&) = delete;

  int64_t vocabulary() const {
    km_data_info info{};
    info.struct_size = sizeof info;
    check(table_.info(self_, &info), component_.title(), "info");
    return info.vocabulary;
  }
  TokenizeRequest request() const { return {&tokenizer_, self_, component_.title(), 1, true}; }

 private:
  Host host_;
  const Component& component_;
  km_data table_;
  km_tokenizer tokenizer_{};
  void* self_ = nullptr;
};

// A bar on stderr, where that is a terminal: share of the input that is read, and time left.
class Progress {
 public:
  explicit Progress(const DocumentReader& reader) : reader_(reader), shown_(isatty(STDERR_FILENO) != 0) {}
  ~Progress() {
    if (shown_) std::fputs("\r\033[K", stderr);
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  void operator()() {
    const auto now = Clock::now();
    if (!shown_ || now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    const double share =
        static_cast<double>(reader_.bytes_read()) / static_cast<double>(std::max<int64_t>(1, reader_.bytes()));
    constexpr int kWidth = 40;
    const std::string full(static_cast<size_t>(std::clamp(share, 0.0, 1.0) * kWidth), '#');
    std::fprintf(stderr, "\r[%-*s] %5.1f %%  left %.0f s\033[K", kWidth, full.c_str(), 100 * share,
                 share > 0 ? seconds() * (1 - share) / share : 0.0);
  }

 private:
  using Clock = std::chrono::steady_clock;
  const DocumentReader& reader_;
  bool shown_;
  Clock::time_point start_ = Clock::now(), last_ = start_;
};

void tokenize_files(const TokenizeArguments& arguments) {
  std::string prefix = arguments.output;
  for (const char* end : {".bin", ".idx"})
    if (prefix.size() > 4 && prefix.compare(prefix.size() - 4, 4, end) == 0) prefix.resize(prefix.size() - 4);
  Registry registry;
  for (const std::string& plugin : arguments.plugins) registry.add_file(plugin);
  const OpenTokenizer tokenizer(registry, arguments);
  DocumentReader reader(arguments.inputs, form_of(arguments), arguments.key);
  MegatronWriter writer(real_fs(), prefix, tokenizer.vocabulary());
  TokenizeRequest request = tokenizer.request();
  request.threads = arguments.threads > 0 ? arguments.threads : std::max(1u, std::thread::hardware_concurrency());
  request.end_of_document = !arguments.no_end_of_document;
  double seconds = 0;
  {
    Progress progress(reader);
    tokenize(reader, writer, request, [&progress] { progress(); });
    if (writer.tokens() == 0) throw Error(arguments.inputs.front(), "there is no text in it");
    writer.finish();
    seconds = progress.seconds();
  }
  std::printf("%s.bin, %s.idx: %lld tokens in %lld documents of %zu files (%.1f MB), %.1f s\n", prefix.c_str(),
              prefix.c_str(), static_cast<long long>(writer.tokens()), static_cast<long long>(writer.documents()),
              reader.files(), static_cast<double>(writer.bytes()) / 1e6, seconds);
}

void add_tokenize(CLI::App& command) {
  const auto arguments = std::make_shared<TokenizeArguments>();
  CLI::App* tokenize =
      command.add_subcommand("tokenize", "text files to a .bin/.idx pair, as `megatron` data reads them");
  tokenize->add_option("input", arguments->inputs, "text files and folders, .gz too")->required();
  tokenize->add_option("-o,--output", arguments->output, "the pair's path without its ending")->required();
  tokenize->add_option("-t,--tokenizer", arguments->tokenizer, "a SentencePiece model; without: bytes are the tokens");
  tokenize
      ->add_option("--form", arguments->form,
                   "what a document is: a file, a line, a JSON object a line; auto: jsonl for *.jsonl, else file")
      ->check(CLI::IsMember({"auto", "file", "lines", "jsonl"}));
  tokenize->add_option("--key", arguments->key, "jsonl: the field that holds the text (text)");
  tokenize->add_option("--threads", arguments->threads, "threads that tokenize; 0: all cores");
  tokenize->add_flag("--no-eod", arguments->no_end_of_document, "do not append the end-of-document token");
  tokenize->add_option("--use", arguments->use, "the data component whose tokenizer is taken (tokenizer)");
  tokenize->add_option("--option", arguments->options, "an option of that component: key=value");
  tokenize->add_option("--plugin", arguments->plugins, "also look into this plugin file");
  tokenize->callback([arguments] { tokenize_files(*arguments); });
}

// -- show --
struct ShowArguments {
  std::string config, split = "train";
  std::vector<std::string> sets;
  int64_t sample = 0, count = 1;
};

std::string text_of(const Feed& feed, const std::vector<int32_t>& tokens) {
  std::string text(tokens.size() * 4 + 64, '\0');
  for (;;) {
    uint64_t bytes = 0;
    check(
        feed.tokenizer().decode(feed.tokenizer_self(), tokens.data(), tokens.size(), text.data(), text.size(), &bytes),
        "tokenizer", "decode");
    const bool all = bytes <= text.size();
    text.resize(bytes);
    if (all) return text;
  }
}

void print_tokens(const Feed& feed, const std::vector<int32_t>& tokens) {
  if (feed.has_tokenizer()) {
    std::printf("%s\n", text_of(feed, tokens).c_str());
    return;
  }
  for (size_t i = 0; i < tokens.size(); ++i) std::printf("%d%s", tokens[i], i + 1 == tokens.size() ? "\n" : " ");
}

void show_samples(const ShowArguments& arguments) {
  const Config config = Config::load(arguments.config, arguments.sets);
  Registry registry(config);
  Host host;
  const uint32_t split = arguments.split == "train"        ? KM_SPLIT_TRAIN
                         : arguments.split == "validation" ? KM_SPLIT_VALIDATION
                                                           : KM_SPLIT_TEST;
  Feed feed(host, registry, config, split, config.table("model").get_i64("vocabulary", 0));
  std::printf("%lld samples an epoch (0: endless), %lld tokens each, vocabulary %lld%s\n",
              static_cast<long long>(feed.samples()), static_cast<long long>(config.run().sequence),
              static_cast<long long>(feed.vocabulary()), feed.segments() ? ", documents kept apart" : "");
  const auto sequence = static_cast<size_t>(config.run().sequence);
  BatchRows rows;
  for (int64_t number = arguments.sample; number < arguments.sample + arguments.count; ++number) {
    feed.read(number, 1, rows);
    std::printf("---- sample %lld\n", static_cast<long long>(number));
    for (size_t begin = 0, end = 0; begin < sequence; begin = end) {
      // A document at a time, where they are kept apart.
      for (end = begin + 1; end < sequence && (rows.segments.empty() || rows.segments[end] == rows.segments[begin]);)
        ++end;
      if (begin > 0) std::printf("---- next document\n");
      print_tokens(feed, {rows.tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                          rows.tokens.begin() + static_cast<std::ptrdiff_t>(end)});
    }
  }
}

void add_show(CLI::App& command) {
  const auto arguments = std::make_shared<ShowArguments>();
  CLI::App* show =
      command.add_subcommand("show", "samples of a run as text, or as numbers where there is no tokenizer");
  show->add_option("config", arguments->config, "the run's TOML file")->required();
  show->add_option("--sample", arguments->sample, "number of the first sample, over the whole run (0)")
      ->check(CLI::NonNegativeNumber);
  show->add_option("--count", arguments->count, "how many (1)")->check(CLI::PositiveNumber);
  show->add_option("--split", arguments->split, "train, validation or test (train)")
      ->check(CLI::IsMember({"train", "validation", "test"}));
  show->add_option("--set", arguments->sets, "a value of the configuration: run.sequence=64");
  show->callback([arguments] { show_samples(*arguments); });
}

} // namespace

void add_data_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("data", "make data sets, and look at what a run reads");
  command->require_subcommand(1);
  add_tokenize(*command);
  add_show(*command);
}

} // namespace kumiki
