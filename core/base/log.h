// The log: lines on stderr, written by one thread of its own so that no rank waits for the terminal. Results never go
// here (they go to stdout or files). Floor: base. All functions [any].
#pragma once

#include <string>
#include <string_view>

namespace kumiki {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Lines below the level are dropped. kInfo at first; --verbose makes it kDebug.
void set_log_level(LogLevel level);
LogLevel log_level();
// Text before each line, e.g. "rank 3: "; empty at first.
void set_log_prefix(const std::string& prefix);
// One line, without newline; line ends inside stay. Dropped lines cost a comparison.
void log(LogLevel level, std::string_view text);
inline void log_debug(std::string_view text) { log(LogLevel::kDebug, text); }
inline void log_info(std::string_view text) { log(LogLevel::kInfo, text); }
inline void log_warning(std::string_view text) { log(LogLevel::kWarning, text); }
inline void log_error(std::string_view text) { log(LogLevel::kError, text); }
// Returns when every line so far is written. The end of the process does the same.
void flush_log();

} // namespace kumiki
