#include "core/cli/doctor_measure.h"

#include <fstream>
#include <memory>

#include "core/base/cores.h"
#include "core/base/error.h"
#include "core/base/format.h"
#include "core/base/peak.h"
#include "core/cli/doctor_conditions.h"
#include "core/cli/doctor_file.h"

namespace kumiki {
namespace {

std::string giga(double value, const char* unit) { return format("%.1f %s", value * 1e-9, unit); }

double memory_of_host() {
  std::ifstream in("/proc/meminfo");
  std::string name;
  double kilobytes = 0;
  in >> name >> kilobytes;
  return name == "MemTotal:" ? kilobytes * 1024 : 0;
}

// The peaks of this rank's cores; with other ranks at the same time.
void measure_peaks(MachineFacts& facts, const std::vector<int>& cores, Communicator* communicator) {
  const bool speaks = !communicator || communicator->place().rank == 0;
  const std::string all = cores.size() == 1 ? "" : ", " + std::to_string(cores.size()) + " cores";
  if (communicator) {
    communicator->barrier();
    facts.f32_flops = f32_peak(cores);
  } else {
    facts.f32_flops = measure_speed().groups.back().flops;
  }
  if (facts.f32_flops <= 0)
    throw Error("doctor --measure", "no loop of multiply-adds for this processor is known",
                "write the machine file by hand");
  if (communicator) communicator->barrier();
  facts.bf16_flops = bf16_peak(cores);
  if (communicator) communicator->barrier();
  facts.bytes_per_second = memory_peak(cores);
  if (!speaks) return;
  if (communicator) doctor_row("f32 peak", giga(facts.f32_flops, "GFLOP/s") + all + " of this rank, beside the others");
  doctor_row("bf16 peak", facts.bf16_flops > 0 ? giga(facts.bf16_flops, "GFLOP/s") + all
                                               : "no vector products of bf16 that are known here");
  doctor_row("memory bandwidth", giga(facts.bytes_per_second, "GB/s") + all + " (triad)");
}

// With no text it only tries, and leaves what is in the file: before half a minute is spent on measuring.
void write_file(const std::string& file, const std::string* text) {
  std::ofstream out(file, text ? std::ios::out : std::ios::app);
  if (text) out << *text;
  out.close();
  if (!out) throw Error(file, "cannot be written", "name a file in a folder that exists");
  if (text) doctor_row("machine file", file);
}

MachineFacts measure_all(Communicator* communicator, const std::string& processor) {
  MachineFacts facts;
  facts.processor = processor;
  facts.instructions = peak_instructions();
  std::vector<int> cores = process_cores();
  if (communicator) {
    const km_rank_info& place = communicator->place();
    facts.ranks = place.local_size;
    cores = cores_of_rank(place.local_rank, place.local_size);
    if (cores.empty())
      throw Error(
          "doctor --measure",
          std::to_string(place.local_size) + " ranks share " + std::to_string(process_cores().size()) + " cores",
          "start at most one rank for each core, or measure messages alone: --network");
  }
  facts.cores = static_cast<int64_t>(cores.size());
  facts.memory_bytes = memory_of_host() / static_cast<double>(facts.ranks);
  measure_peaks(facts, cores, communicator);
  facts.rates = measure_rates(communicator);
  if (communicator) facts.network = measure_network(*communicator);
  return facts;
}

} // namespace

void measure_machine(const MeasureArguments& arguments, Communicator* communicator) {
  if (arguments.network_only && !communicator)
    throw Error("doctor --network", "there is one rank: no messages to measure",
                "start it by a launcher: mpirun -np 2 kumiki doctor --measure --network");
  const bool speaks = !communicator || communicator->place().rank == 0;
  if (speaks && !arguments.output.empty()) write_file(arguments.output, nullptr);
  MachineFacts facts;
  if (arguments.network_only)
    facts.network = measure_network(*communicator);
  else
    facts = measure_all(communicator, arguments.processor);
  if (!speaks) return;
  const std::string text = arguments.network_only ? network_text(facts.network) : machine_text(facts);
  if (arguments.output.empty())
    std::printf("\n%s", text.c_str());
  else
    write_file(arguments.output, &text);
}

} // namespace kumiki
