// Plans as tables for people: memory by purpose, and the steps in order.
#include <cstdio>

#include "core/plan/plan.h"

namespace kumiki {
namespace {

std::string place_text(const Plan& plan, const Location& location) {
  if (location.leaf != Location::kArena) {
    const Leaf& leaf = plan.leaves[location.leaf];
    return leaf.name + (location.offset ? "+" + std::to_string(location.offset) : "");
  }
  return "@" + std::to_string(location.offset) +
         (location.slot_stride ? "+slot*" + std::to_string(location.slot_stride) : "");
}

void add_segment(const Plan& plan, const KernelChain& chain, const std::string& name, const Segment& segment,
                 std::string& text) {
  text += name + "\n";
  for (size_t i = 0; i < segment.steps.size(); ++i) {
    const Step& step = segment.steps[i];
    char line[64];
    std::snprintf(line, sizeof line, "%5zu  ", i);
    text += line;
    text += step.op + " " + step.shape;
    switch (step.first.kind) {
      case StepKind::kRun:
      case StepKind::kPack: text += "  by " + chain.members()[step.first.member].name; break;
      case StepKind::kCopy: text += "  copy"; break;
      case StepKind::kZero: text += "  zeros"; break;
      case StepKind::kComm:
        text += "  message " + std::to_string(step.comm) + " among " + plan.groups[step.first.message.group];
        break;
      case StepKind::kNothing: break;
    }
    if (step.last_only) text += "  (with the last micro-batch)";
    for (size_t a = 0; a < step.awaits.size(); ++a) text += (a ? "," : "  awaits ") + std::to_string(step.awaits[a]);
    if (step.varies) text += "  (adds from the second micro-batch on)";
    for (const Location& l : step.first.buffers) text += " " + place_text(plan, l);
    text += "\n";
  }
}

} // namespace

std::string memory_table(const Plan& plan) {
  std::string text;
  char line[128];
  uint64_t sum = 0;
  for (const MemoryRow& row : plan.memory) {
    std::snprintf(line, sizeof line, "%-20s %12.2f MB\n", row.what.c_str(), static_cast<double>(row.bytes) * 1e-6);
    text += line;
    sum += row.bytes;
  }
  std::snprintf(line, sizeof line, "%-20s %12.2f MB\n", "total", static_cast<double>(sum) * 1e-6);
  text += line;
  std::snprintf(line, sizeof line, "the arena is %.2f MB, %.1f %% above what lives at once\n",
                static_cast<double>(plan.arena.bytes) * 1e-6,
                plan.arena.live_peak == 0
                    ? 0.0
                    : 100.0 * (static_cast<double>(plan.arena.bytes) / static_cast<double>(plan.arena.live_peak) - 1));
  return text + line;
}

std::string step_table(const Plan& plan, const KernelChain& chain) {
  std::string text;
  add_segment(plan, chain, "head: once before the micro-batches", plan.head, text);
  for (const Segment& segment : plan.body) {
    const char* part = segment.part == Part::kForward    ? "forward"
                       : segment.part == Part::kBackward ? "backward"
                                                         : "weights";
    const std::string of =
        plan.body.size() > 1 ? ", " + std::string(part) + " of stage " + std::to_string(segment.stage) : "";
    add_segment(plan, chain, "body: for each micro-batch" + of, segment, text);
  }
  add_segment(plan, chain, "tail: once after them", plan.tail, text);
  return text;
}

} // namespace kumiki
