// Writes docs/configuration.md anew: bazel run //tests/plugin:update_reference
#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/base/fs.h"
#include "core/plugin/reference.h"

int main() {
  const char* root = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  if (!root) {
    std::fprintf(stderr, "start it by `bazel run //tests/plugin:update_reference`\n");
    return 2;
  }
  try {
    ::setenv("KUMIKI_PLUGINS", "plugins", 1);
    kumiki::Registry registry;
    const std::string text = kumiki::configuration_reference(registry);
    for (const std::string& refusal : registry.refusals()) std::fprintf(stderr, "%s\n", refusal.c_str());
    if (!registry.refusals().empty()) return 1;
    kumiki::write_file(kumiki::real_fs(), std::string(root) + "/docs/configuration.md", text);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
