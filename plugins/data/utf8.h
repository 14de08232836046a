// Strict UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF (RFC 3629).
#pragma once

#include <cstdint>
#include <string_view>

namespace kumiki::data {

// The offset of the first byte that does not begin or go on with a valid character, or text.size().
int64_t valid_utf8(std::string_view text);

} // namespace kumiki::data
