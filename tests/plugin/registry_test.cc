#include <catch2/catch.hpp>

#include <sys/stat.h>

#include <fstream>

#include "core/base/hash.h"
#include "core/plugin/registry.h"
#include "kumiki/metrics.h"
#include "tests/plugin/samples.h"

using namespace kumiki;
using Catch::Contains;

TEST_CASE("a plugin that does not fit is refused in one line that names the file and the remedy") {
  struct Case {
    std::string sample, why, remedy;
  };
  const std::vector<Case> cases = {
      {"no_symbol", "it has no symbol kumiki_plugin_v0", "KM_PLUGIN"},
      {"major_too_new", "it was built for ABI 1, this kumiki speaks ABI 0", "use a newer kumiki"},
      {"minor_too_new", "was built for ABI 0.99; this host speaks 0.1 to 0.1", "rebuild it"},
      {"negotiates_nothing", "it was built for ABI 0.99, this kumiki speaks 0.1 to 0.1", "build it again"},
      {"plugin_too_small", "km_plugin has 40 bytes, in ABI 0.1 it has 64", "build the plugin again"},
      {"component_too_small", "km_component has 40 bytes, in ABI 0.1 it has 48", "build the plugin again"},
      {"option_too_small", "km_option of metrics sample has 48 bytes, in ABI 0.1 it has 56", "build the plugin again"},
      {"table_too_small", "the table of metrics sample has 24 bytes, in ABI 0.1 it has 40", "build the plugin again"},
      {"silent", "it gave no description of itself and no reason", ""},
      {"twice", "metrics sample is also in", "remove one of the two"},
      {"nameless", "a component lacks its kind, name, table or options", "tell its authors"},
  };
  for (const Case& one : cases) {
    CAPTURE(one.sample);
    const TempFolder folder;
    const std::string path = copy_sample(folder, one.sample);
    Registry registry(std::vector<std::string>{});
    const std::string text = error_text([&] { registry.add_file(path); });
    CHECK_THAT(text, Contains(path) && Contains("refused") && Contains(one.why) && Contains(one.remedy));
    CHECK(text.find('\n') == std::string::npos);
    CHECK(registry.components().empty());
    CHECK(registry.plugins().empty());
  }
}

TEST_CASE("what a good plugin says is copied, also where its structs are larger than the host's") {
  for (const std::string sample : {"good", "larger_structs"}) {
    CAPTURE(sample);
    const TempFolder folder;
    copy_sample(folder, sample, "sample");
    Registry registry({folder.path()});
    const Component& first = registry.find("metrics", "sample");
    const Component& second = registry.find("metrics", "sample_second");
    CHECK(first.summary == "a sample");
    CHECK(second.summary == "another");
    CHECK(first.plugin == second.plugin);
    CHECK(first.plugin->name == "samples");
    CHECK(first.plugin->licence == "Apache-2.0");
    CHECK(first.plugin->file == folder / "sample.so");
    REQUIRE(first.options.size() == 3);
    CHECK(std::string(first.options[1].name) == "file");
    CHECK(std::string(first.options[2].choices) == "fast|slow");
    const km_metrics table = table_of<km_metrics>(first, "metrics", KM_METRICS_VERSION);
    CHECK(table.struct_size == sizeof(km_metrics));
    CHECK(table.event != nullptr);
    void* self = nullptr;
    Host host;
    CHECK_THROWS_WITH(check(table.open(host.abi(), nullptr, nullptr, &self), first.title(), "open"),
                      "metrics sample: open: sample cannot open: 7");
  }
}

TEST_CASE("a table that is shorter than the host's reads as zero behind its end") {
  const uint32_t smaller[2] = {8, 77};
  Component component;
  component.kind = "metrics";
  component.interface_version = KM_METRICS_VERSION;
  component.table = smaller;
  component.table_size = 8;
  const km_metrics table = table_of<km_metrics>(component, "metrics", KM_METRICS_VERSION);
  CHECK(table.struct_size == 8);
  CHECK(table.reserved == 77);
  CHECK(table.open == nullptr);
  CHECK(table.event == nullptr);
  CHECK(ability_of<km_metrics>(smaller).event == nullptr);
  CHECK(ability_of<km_metrics>(nullptr).struct_size == 0);
}

TEST_CASE("another version of a kind's interface is an error that names the file") {
  const TempFolder folder;
  copy_sample(folder, "other_interface", "sample");
  Registry registry({folder.path()});
  const Component& component = registry.find("metrics", "sample");
  CHECK_THROWS_WITH(table_of<km_metrics>(component, "metrics", KM_METRICS_VERSION),
                    Contains(folder / "sample.so") && Contains("version 2 of the interface metrics"));
  CHECK_THROWS_AS(table_of<km_metrics>(component, "data", 1), std::logic_error);
}

TEST_CASE("a file or folder that everybody may write to is refused, a sticky folder is not") {
  const TempFolder folder;
  const std::string path = copy_sample(folder, "good");
  const auto load = [&] {
    Registry registry(std::vector<std::string>{});
    registry.add_file(path);
  };
  REQUIRE(::chmod(path.c_str(), 0757) == 0);
  CHECK_THAT(error_text(load), Contains("everybody may write to the file; run: chmod o-w " + path));
  REQUIRE(::chmod(path.c_str(), 0775) == 0);
  CHECK(error_text(load) == "no error");
  REQUIRE(::chmod(folder.path().c_str(), 0777) == 0);
  CHECK_THAT(error_text(load), Contains("everybody may write to its folder; run: chmod o-w " + folder.path()));
  REQUIRE(::chmod(folder.path().c_str(), 01777) == 0);
  CHECK(error_text(load) == "no error");
  REQUIRE(::chmod(folder.path().c_str(), 0755) == 0);
}

TEST_CASE("a symbolic link does not hide who may write to the file it means") {
  const TempFolder folder, other;
  const std::string path = copy_sample(folder, "good");
  std::filesystem::create_symlink(path, other / "link.so");
  REQUIRE(::chmod(folder.path().c_str(), 0777) == 0);
  Registry registry(std::vector<std::string>{});
  CHECK_THAT(error_text([&] { registry.add_file(other / "link.so"); }), Contains("everybody may write to its folder"));
  REQUIRE(::chmod(folder.path().c_str(), 0755) == 0);
}

TEST_CASE("two plugins with the same component: the error names both files") {
  const TempFolder folder;
  const std::string first = copy_sample(folder, "good", "first"), second = copy_sample(folder, "good", "second");
  Registry registry(std::vector<std::string>{});
  registry.add_file(first);
  CHECK_NOTHROW(registry.add_file(first));
  CHECK_THAT(error_text([&] { registry.add_file(second); }),
             Contains(first) && Contains(second) && Contains("metrics sample"));
  CHECK(registry.find("metrics", "sample").plugin->file == first);
}

TEST_CASE("a plugin that takes the name of one in the folders is found out at once") {
  const TempFolder folder, own;
  const std::string in_tree = copy_sample(folder, "good", "sample"), users = copy_sample(own, "good");
  Registry registry({folder.path()});
  CHECK_THAT(error_text([&] { registry.add_file(users); }), Contains(in_tree) && Contains(users));
}

TEST_CASE("files are read only when they are needed") {
  const TempFolder folder;
  copy_sample(folder, "good", "sample");
  copy_sample(folder, "other_name", "file_of_another_name");
  copy_sample(folder, "no_symbol", "broken");
  Registry registry({folder.path()});
  registry.find("metrics", "sample");
  CHECK(registry.plugins().size() == 1);
  CHECK(registry.refusals().empty());
  // Not in a file of its name: all are read, and the broken one stops nobody.
  CHECK(registry.find("metrics", "other").plugin->file == folder / "file_of_another_name.so");
  REQUIRE(registry.refusals().size() == 1);
  CHECK_THAT(registry.refusals()[0], Contains(folder / "broken.so"));
  CHECK(registry.components().size() == 4);
}

TEST_CASE("one file may hold all components of a kind") {
  const TempFolder folder;
  copy_sample(folder, "good", "metrics");
  copy_sample(folder, "no_symbol", "broken");
  Registry registry({folder.path()});
  registry.find("metrics", "sample_second");
  CHECK(registry.refusals().empty());
}

TEST_CASE("a component that is not there: what was meant, or where was looked") {
  const TempFolder folder;
  copy_sample(folder, "good", "sample");
  copy_sample(folder, "no_symbol", "broken");
  Registry registry({folder.path()});
  CHECK_THROWS_WITH(registry.find("metrics", "smaple"), Contains("there is no metrics component \"smaple\"") &&
                                                            Contains("did you mean \"sample\"?") &&
                                                            Contains("broken.so"));
  CHECK_THROWS_WITH(registry.find("data", "text"), Contains("looked in: " + folder.path()));
  CHECK_THROWS_WITH(registry.find("metrics", "broken"), Contains("broken.so: plugin refused"));
  CHECK(registry.try_find("metrics", "../sample") == nullptr);
}

TEST_CASE("a file is looked for beside the file that names it, then in the folders") {
  const TempFolder folder, own;
  copy_sample(folder, "good", "sample");
  copy_sample(own, "other_name", "own");
  Registry registry({folder.path()});
  registry.add_file("./own.so", own.path());
  registry.add_file("sample.so", own.path());
  CHECK(registry.plugins().size() == 2);
  CHECK_THROWS_WITH(
      registry.add_file("absent.so", own.path(), "a.toml:3:1"),
      "a.toml:3:1: there is no plugin file absent.so\n  looked for " + own / "absent.so" + ", " + folder / "absent.so");
}

TEST_CASE("a pin refuses another content") {
  const TempFolder folder;
  const std::string path = copy_sample(folder, "good", "sample");
  std::ifstream in(path, std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(in), {});
  const std::string right = sha256_hex(bytes), wrong(64, '0');
  const auto config = [&](const std::string& file, const std::string& hex) {
    return Config::parse("[run]\nsteps=1\nsequence=1\n[model]\nuse=\"m\"\n[[data]]\nuse=\"d\"\n[plugins]\npath=[\"" +
                             path + "\"]\nsha256={\"" + file + "\"=\"" + hex + "\"}\n",
                         "a.toml");
  };
  CHECK_NOTHROW(Registry(config("sample.so", right), {}));
  std::string upper = right;
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  CHECK_NOTHROW(Registry(config("sample.so", upper), {}));
  CHECK_THROWS_WITH(Registry(config("sample.so", wrong), {}), Contains(path) && Contains(right) && Contains(wrong));
  CHECK_THROWS_WITH(Registry(config("smaple.so", right), {}),
                    Contains("a.toml:10:9") && Contains("no plugin smaple.so"));
  // Also where the file is found lazily.
  Registry registry({folder.path()});
  registry.pin("sample.so", wrong);
  CHECK_THROWS_WITH(registry.find("metrics", "sample"), Contains("not the pinned"));
}

TEST_CASE("a file that is no library is refused with the loader's reason") {
  const TempFolder folder;
  const std::string path = folder.write("text.so", "this is no library");
  Registry registry(std::vector<std::string>{});
  CHECK_THAT(error_text([&] { registry.add_file(path); }), Contains(path) && Contains("it cannot be loaded"));
  CHECK_THAT(error_text([&] { registry.add_file(folder.path()); }), Contains("it is not a file"));
}
