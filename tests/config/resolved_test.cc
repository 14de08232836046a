#include <catch2/catch.hpp>

#include <filesystem>

#include "core/config/schema.h"
#include "tests/config/good_config.h"
#include "tests/config/temp_folder.h"

using namespace kumiki;

namespace {

const std::vector<km_option> kTextOptions = {
    {"path", KM_OPTION_PATH, KM_OPTION_REQUIRED, nullptr, 0, 0, nullptr, "files"},
    {"split", KM_OPTION_F64, 0, "0.05", 0, 1, nullptr, "share"},
    {"names", KM_OPTION_STRING_LIST, 0, "[a, b]", 0, 0, nullptr, "names"},
    {"sizes", KM_OPTION_I64_LIST, 0, "1, 2", 0, 0, nullptr, "sizes"},
    {"keep", KM_OPTION_BOOL, 0, "true", 0, 0, nullptr, "keep"},
    {"mode", KM_OPTION_STRING, 0, "fast", 0, 0, "fast|slow", "mode"},
    {"limit", KM_OPTION_I64, 0, "7", 0, 0, nullptr, "limit"},
};

const std::vector<km_option>* lookup(const std::string& kind, const std::string& name) {
  return kind == "data" && name == "text" ? &kTextOptions : nullptr;
}

} // namespace

TEST_CASE("the resolved configuration loads again to the same values, from another folder") {
  const TempFolder folder;
  const std::string path = folder.write("inner/a.toml", std::string(kGood) + R"(
odd = { "a b" = [1, 2.5, "x\ty\\\"", true, [], {}], n = -0.1 }
[kernels]
use = ["onednn", "generic"]
[kernels.onednn]
blocks = 4
[plugins]
path = ["./acme.so", "other.so"]
sha256 = { "acme.so" = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" }
)");
  folder.write("inner/acme.so", "not loaded here");
  const Config first = Config::load(
      path, {"run.global_batch={start=2,end=64,tokens=1e9}", "run.name=木 \"1\"", "parallel.pipeline.degree=2"});
  const std::string text = first.to_toml(lookup);
  CAPTURE(text);
  const Config second = Config::load(folder.write("runs/x/config.toml", text));
  CHECK(second.to_toml(lookup) == text);
  CHECK(second.run().name == "木 \"1\"");
  CHECK(second.run().global_batch.tokens == 1000000000);
  CHECK(second.optimizer().schedule.minimum == 1e-5);
  CHECK(second.data()[0].options.get_string("path", "") == folder / "inner/corpus/a.txt");
  CHECK(second.data()[0].options.get_f64("split", 0) == 0.05);
  CHECK(second.plugins().path == std::vector<std::string>{folder / "inner/acme.so", "other.so"});
  CHECK(second.plugins().sha256 == first.plugins().sha256);
  CHECK(second.kernel_chain()[0].options.get_i64("blocks", 0) == 4);
  CHECK(second.parallel().size() == 3);
}

TEST_CASE("with origins, every value says where it came from, and the text still loads") {
  const Config config = good_config({"run.threads=3"});
  const std::string text = config.to_toml(lookup, true);
  const auto line_of = [&](const std::string& start) {
    const size_t at = text.find("\n" + start);
    REQUIRE(at != std::string::npos);
    return text.substr(at + 1, text.find('\n', at + 1) - at - 1);
  };
  CHECK(contains(line_of("steps = 100"), "# good.toml:2:9"));
  CHECK(contains(line_of("threads = 3"), "# --set run.threads=3"));
  CHECK(contains(line_of("micro_batch = 1"), "# default"));
  CHECK(contains(line_of("warmup = 10"), "# good.toml:11:39"));
  CHECK(contains(line_of("split = 0.05"), "# default"));
  CHECK(Config::parse(text, "b.toml").to_toml(lookup) == config.to_toml(lookup));
}

TEST_CASE("every default of the schema is one that the schema allows, and every key has its line of help") {
  for (const CoreKey& key : core_keys()) {
    const km_option& row = key.option;
    CAPTURE(key.table, row.name);
    CHECK(std::string(row.help).size() > 5);
    const std::string table = key.table;
    CHECK(find_core_table(table.substr(0, table.find('.'))) != nullptr);
    if (!row.default_text) continue;
    CHECK((row.flags & KM_OPTION_REQUIRED) == 0);
    if (row.type == KM_OPTION_I64 || row.type == KM_OPTION_F64) {
      CHECK(std::stod(row.default_text) >= row.minimum);
      CHECK(std::stod(row.default_text) <= row.maximum);
      CHECK(row.maximum <= kNoLimit);
    }
    if (row.choices) CHECK(contains("|" + std::string(row.choices) + "|", "|" + std::string(row.default_text) + "|"));
  }
}

TEST_CASE("paths are relative to the file that names them, in --set to the current folder") {
  const TempFolder folder;
  folder.write("base/b.toml", "[[data]]\nuse = \"text\"\npath = \"../x.txt\"\n");
  const std::string path =
      folder.write("a.toml", "extends = [\"base/b.toml\"]\n[run]\nsteps=1\nsequence=1\n[model]\nuse=\"gpt\"\n");
  CHECK(Config::load(path).data()[0].options.get_path("path", "") == folder / "x.txt");
  CHECK(Config::load(path, {"data.text.path=x.txt"}).data()[0].options.get_path("path", "") ==
        (std::filesystem::current_path() / "x.txt").string());
  CHECK(Config::load(path, {"data.text.path=/x.txt"}).data()[0].options.get_path("path", "") == "/x.txt");
  CHECK(Config::load(path).data()[0].options.get_path("absent", "").empty());
}
