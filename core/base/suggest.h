// "did you mean": the nearest of some names to one that does not exist. Floor: base.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kumiki {

// Insertions, deletions, substitutions and swaps of neighbours that turn a into b.
size_t edit_distance(std::string_view a, std::string_view b);
// The nearest name, if it is near enough to be a slip of the finger; else empty.
std::string nearest(std::string_view name, const std::vector<std::string>& names);
// `did you mean "width"?`, or `known: a, b, c`; empty if there are no names.
std::string suggestion(std::string_view name, const std::vector<std::string>& names);

} // namespace kumiki
