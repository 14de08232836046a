/* What a kernels component must keep besides right numbers; each function makes Catch2's assertions. `path` is a plugin
 * as KernelsPlugin takes it; nothing is checked where it steps aside. */
#ifndef KUMIKI_TESTS_OPS_CONTRACT_H
#define KUMIKI_TESTS_OPS_CONTRACT_H

#include <string>

namespace kumiki::test {

/* Where it would leave an addend out, it must leave the op to the next. */
void check_refuses_addends(const std::string& path, const std::string& reference_path);

/* Kernels share a packed weight by (parameter, format): that must not mix a square weight with itself turned. */
void check_packing_names(const std::string& path);

} // namespace kumiki::test

#endif
