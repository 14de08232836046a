// kumiki: the command line. Each command stands in a file of its own; this one makes them known and turns what they throw
// into one message and an exit code (docs/configuration.md lists them).
#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <functional>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/cli/checkpoint_command.h"
#include "core/cli/commands.h"
#include "core/cli/config_command.h"
#include "core/cli/data_command.h"
#include "core/cli/doctor_command.h"
#include "core/cli/plugin_command.h"

int main(int argc, char** argv) {
  CLI::App app{"kumiki trains large language models; every part of it is a plugin", "kumiki"};
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("kumiki 0.1"));
  bool verbose = false;
  app.add_flag("-v,--verbose", verbose, "say more: why a kernel was passed over, which plugin did what");
  app.parse_complete_callback([&] {
    if (verbose) kumiki::set_log_level(kumiki::LogLevel::kDebug);
  });
  int exit_code = 0;
  kumiki::add_train_command(app, &exit_code);
  kumiki::add_plan_command(app);
  kumiki::add_generate_command(app);
  kumiki::add_eval_command(app);
  kumiki::add_config_command(app);
  kumiki::add_plugin_command(app);
  kumiki::add_checkpoint_command(app);
  kumiki::add_data_command(app);
  kumiki::add_doctor_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const kumiki::Error& error) {
    kumiki::flush_log();
    std::fprintf(stderr, "kumiki: %s\n", error.what());
    return error.exit_code;
  } catch (const std::bad_alloc&) {
    kumiki::flush_log();
    std::fprintf(stderr, "kumiki: out of memory\n  `kumiki plan CONFIG --show memory` says what a run needs\n");
    return 6;
  } catch (const std::exception& error) {
    kumiki::flush_log();
    std::fprintf(stderr, "kumiki: internal error: %s\n", error.what());
    return 1;
  }
  kumiki::flush_log();
  return exit_code;
}
