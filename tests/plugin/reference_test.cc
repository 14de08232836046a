// docs/configuration.md is what the core and the plugins declare. If this fails, run
//   bazel run //tests/plugin:update_reference
#include <catch2/catch.hpp>

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "core/config/schema.h"
#include "core/plugin/reference.h"

using namespace kumiki;

namespace {

// Section title -> text, cut at lines that begin with '#'.
std::map<std::string, std::string> sections(const std::string& text) {
  std::map<std::string, std::string> out;
  std::istringstream in(text);
  std::string title;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line[0] == '#') title = line;
    out[title] += line + "\n";
  }
  for (auto& [name, body] : out) {
    while (body.size() > 1 && body[body.size() - 1] == '\n' && body[body.size() - 2] == '\n') body.pop_back();
  }
  return out;
}

} // namespace

TEST_CASE("docs/configuration.md is what the core and the plugins declare") {
  ::setenv("KUMIKI_PLUGINS", "plugins", 1);
  Registry registry;
  const std::map<std::string, std::string> now = sections(configuration_reference(registry));
  std::ifstream in("docs/configuration.md");
  REQUIRE(in);
  std::map<std::string, std::string> file = sections(std::string(std::istreambuf_iterator<char>(in), {}));
  REQUIRE(registry.components().size() > 3);
  for (const auto& [title, text] : now) {
    CAPTURE(title);
    CHECK(file[title] == text);
  }
  // A component may be in the file and not here only where its plugin cannot be loaded on this machine.
  if (registry.refusals().empty()) CHECK(file.size() == now.size());
}

TEST_CASE("the reference has every key of the core") {
  Registry registry(std::vector<std::string>{});
  const std::string text = configuration_reference(registry);
  for (const CoreKey& key : core_keys()) {
    CAPTURE(key.table, key.option.name);
    CHECK(text.find("| `" + std::string(key.option.name) + "` |") != std::string::npos);
  }
}
