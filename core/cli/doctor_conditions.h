// The part of `kumiki doctor` that judges: large pages, denormals, shared cores, eco mode. In: this machine and
// process. Out: rows of text on stdout, a row "problem" for each that was found. Floor: cli.
#pragma once

#include "core/cli/doctor_checks.h"

namespace kumiki {

// Large pages, denormals on the threads of a pool, threads of one core. Touches 64 MiB. [main]
void show_conditions();

// The f32 peak of one core, of each memory group of this process and of all its cores, and what is wrong with them.
// Some tenths of a second each. Returns the figures: one_core, and all cores last in `groups`. [main]
SpeedFacts measure_speed();

// For the rows of doctor: a name and a value.
void doctor_row(const std::string& name, const std::string& value);

} // namespace kumiki
