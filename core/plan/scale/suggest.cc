#include "core/plan/scale/suggest.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/plan/scale/network.h"
#include "core/plan/scale/report.h"
#include "kumiki/comm.h"

namespace kumiki {
namespace {

// The layers of the busiest stage when `layers` and an output head worth `head` layers are cut into `stages`: the last
// stage takes k of them, the others share the rest.
struct Cut {
  double busiest = 0; // layers, the head included
  double usual = 0;
};
Cut cut(int64_t layers, double head, int64_t stages) {
  if (stages == 1) return {static_cast<double>(layers) + head, static_cast<double>(layers) + head};
  Cut best{1e300, 0};
  for (int64_t k = 1; k <= layers - stages + 1; ++k) {
    const double usual = std::ceil(static_cast<double>(layers - k) / static_cast<double>(stages - 1));
    const double busiest = std::max(static_cast<double>(k) + head, usual);
    if (busiest < best.busiest) best = {busiest, usual};
  }
  return best;
}

// The formulas of docs/machines.md, "What --suggest estimates".
class Estimate {
 public:
  Estimate(const ModelShape& model, const Machine& machine) : s_(model), machine_(machine), network_(machine) {}

  void fill(Candidate& c) const {
    const double tensor = static_cast<double>(c.tensor), pipeline = static_cast<double>(c.pipeline);
    const double context = static_cast<double>(c.context);
    const double chunks = static_cast<double>(c.chunks), layers = static_cast<double>(s_.layers);
    const double width = static_cast<double>(s_.width), data = static_cast<double>(c.data);
    const double batch = static_cast<double>(c.micro_batch);
    const int64_t micro_batches = s_.sequences / (c.data * c.micro_batch);
    const double micros = static_cast<double>(micro_batches);
    const double vocabulary = static_cast<double>(s_.vocabulary);
    const double head = vocabulary / (12 * width); // in layers of 12 w² weights
    const Cut stages = cut(s_.layers, head, c.pipeline * c.chunks);
    const double layers_of_rank = c.pipeline == 1 ? layers + head : (chunks - 1) * stages.usual + stages.busiest;
    const double element = s_.bf16 ? 2 : 4;
    // Bytes of the residual stream, of the tokens of one rank.
    const double state = batch * static_cast<double>(s_.sequence) / context * width * element;

    // One micro-batch on one rank, forward and backward.
    const double rate = machine_.flops(s_.bf16) * machine_.efficiency.at("matmul") * 0.95;
    double compute = batch * s_.flops / (layers + head) * layers_of_rank / (tensor * context * rate);
    if (c.recompute == "full") compute *= 4.0 / 3;
    if (c.recompute == "selective") compute *= 1.02;
    double messages = 0;
    if (c.tensor > 1) {
      std::vector<uint32_t> ranks;
      for (int64_t r = 0; r < c.tensor; ++r) ranks.push_back(static_cast<uint32_t>(r));
      const double once = network_.collective(KM_COMM_ALL_REDUCE, network_.place(ranks), state);
      messages += (c.recompute == "full" ? 6 : 4) * once * layers_of_rank;
    }
    if (c.context > 1) {
      const double kv = state * static_cast<double>(s_.key_heads) / static_cast<double>(s_.heads) / tensor;
      const double once = network_.send(0, static_cast<uint32_t>(c.tensor), kv);
      // Keys and values there, their gradients back; half of it is hidden behind the parts of attention.
      messages += (c.recompute == "full" ? 6 : 4) * (context - 1) * once * layers_of_rank * 0.5;
    }
    if (c.pipeline > 1)
      messages +=
          2 * chunks * network_.send(0, static_cast<uint32_t>(c.tensor * c.context), state / (c.sequence ? tensor : 1));
    const double warm = c.pipeline == 1               ? 0
                        : c.schedule == "zero_bubble" ? (pipeline - 1) / 3
                                                      : (pipeline - 1) / chunks;
    const double weights = (12 * width * width * layers_of_rank + vocabulary * width) / tensor;
    double once_a_step = 0;
    if (c.data > 1) {
      const double link = machine_.network.back().bytes_per_second;
      once_a_step = 2 * weights * 4 / link * 0.25; // most of it is hidden
      if (c.zero == 3) once_a_step += weights * 4 / link * micros;
    }
    const double updated = weights / (c.zero > 0 ? data : 1);
    if (c.context > 1)
      once_a_step += 2 * updated * 4 / machine_.network.back().bytes_per_second * (context - 1) / context;
    once_a_step += updated * 28 / machine_.bytes_per_second;
    c.estimate = (micros + warm) * (compute + messages) + once_a_step;

    // Memory of the first rank, which holds the most activations.
    const double divided = c.sequence ? tensor : 1;
    const double kept =
        c.recompute == "full" ? 1 / divided : 5 / divided + (c.recompute == "selective" ? 11 : 12) / tensor;
    const double held = c.pipeline == 1 ? 1
                        : c.chunks > 1  ? std::min(micros, pipeline * (1 + (pipeline - 1) / (pipeline * chunks)))
                                        : std::min(micros, pipeline);
    const double one_layer = 17 / tensor + 5 / divided;
    const double all = weights * 4;
    c.memory = c.zero == 0   ? 4 * all
               : c.zero == 3 ? 4 * all / data + 3 * 48 * width * width / tensor
                             : 2 * all + 3 * all / data;
    c.memory += state * (kept * layers_of_rank * held + one_layer) + static_cast<double>(machine_.workspace);
  }

 private:
  const ModelShape& s_;
  const Machine& machine_;
  const Network network_;
};

// How the candidate's stages run: schedule and chunks.
std::vector<std::pair<std::string, int64_t>> schedules(int64_t pipeline, int64_t layers, int64_t micros) {
  if (pipeline == 1) return {{"1f1b", 1}};
  std::vector<std::pair<std::string, int64_t>> all = {{"1f1b", 1}, {"zero_bubble", 1}};
  for (int64_t chunks = 2; chunks * pipeline <= layers && micros % pipeline == 0; ++chunks)
    if (layers % (chunks * pipeline) == 0 || chunks == 2) all.emplace_back("interleaved", chunks);
  return all;
}

constexpr int64_t kMostContext = 8; // further around a ring, messages outweigh what a rank computes

// All that differ in micro-batch, schedule, ZeRO and recomputation.
void add_candidates(const ModelShape& model, int64_t ranks, int64_t tensor, int64_t context, int64_t pipeline,
                    std::vector<Candidate>& all) {
  const int64_t data = ranks / tensor / context / pipeline;
  for (const int64_t micro_batch : {1, 2, 4, 8, 16}) {
    if (model.sequences % (data * micro_batch)) continue;
    for (const auto& [schedule, chunks] : schedules(pipeline, model.layers, model.sequences / (data * micro_batch)))
      for (const int64_t zero : {0, 1, 3})
        for (const char* recompute : {"none", "selective", "full"}) {
          if (data == 1 && zero > 0) continue;
          Candidate c;
          c.tensor = tensor, c.context = context, c.pipeline = pipeline, c.data = data;
          c.schedule = schedule, c.chunks = chunks, c.zero = zero;
          c.micro_batch = micro_batch, c.recompute = recompute;
          c.sequence = tensor > 1 && model.sequence / context % tensor == 0;
          all.push_back(std::move(c));
        }
  }
}

std::string text_of(const Candidate& c) {
  std::string text = "tensor " + std::to_string(c.tensor) + (c.sequence ? " sequence" : "");
  if (c.context > 1) text += ", context " + std::to_string(c.context);
  text += ", pipeline " + std::to_string(c.pipeline);
  if (c.pipeline > 1) text += " " + c.schedule + (c.chunks > 1 ? " " + std::to_string(c.chunks) : "");
  text += ", data " + std::to_string(c.data) + " zero " + std::to_string(c.zero) + ", micro_batch " +
          std::to_string(c.micro_batch) + ", recompute " + c.recompute;
  return text;
}

} // namespace

std::vector<std::string> Candidate::sets() const {
  const auto number = [](int64_t n) { return std::to_string(n); };
  return {"parallel.tensor.degree=" + number(tensor),
          std::string("parallel.tensor.sequence=") + (sequence ? "true" : "false"),
          "parallel.context.degree=" + number(context),
          "parallel.pipeline.degree=" + number(pipeline),
          "parallel.pipeline.schedule=" + schedule,
          "parallel.pipeline.chunks=" + number(chunks > 1 ? chunks : 0),
          "parallel.data.degree=" + number(data),
          "parallel.data.zero=" + number(zero),
          "parallel.recompute.mode=" + recompute,
          "parallel.recompute.layers=0",
          "run.micro_batch=" + number(micro_batch)};
}

std::vector<Candidate> candidates(const ModelShape& model, const Machine& machine, int64_t ranks) {
  const Estimate estimate(model, machine);
  std::vector<Candidate> all;
  for (int64_t tensor = 1; tensor <= model.heads; ++tensor) {
    if (ranks % tensor || model.heads % tensor || model.key_heads % tensor) continue;
    for (int64_t context = 1; context <= kMostContext; context *= 2) {
      if (ranks / tensor % context || (context > 1 && model.sequence % (2 * context))) continue;
      for (int64_t pipeline = 1; pipeline <= model.layers; ++pipeline)
        if (ranks / tensor / context % pipeline == 0) add_candidates(model, ranks, tensor, context, pipeline, all);
    }
  }
  for (Candidate& c : all) estimate.fill(c);
  // The formula for memory is rough: what is a little too large by it is planned, too, and the plan decides.
  const double most = machine.memory_bytes > 0 ? 2 * machine.memory_bytes : 1e300;
  std::erase_if(all, [most](const Candidate& c) { return c.memory > most; });
  std::stable_sort(all.begin(), all.end(),
                   [](const Candidate& a, const Candidate& b) { return a.estimate < b.estimate; });
  return all;
}

std::vector<Suggestion> suggest(Registry& registry, const std::string& config, const std::vector<std::string>& sets,
                                const Machine& machine, int64_t ranks, SuggestCount* count, size_t most, size_t tries) {
  const ModelShape model = model_shape(registry, Config::load(config, sets));
  const std::vector<Candidate> all = candidates(model, machine, ranks);
  std::vector<Suggestion> found;
  size_t planned = 0;
  // What plans of this kind took, as a share of the estimate, at the least: those that cannot fit by that are passed
  // over.
  std::map<std::tuple<int64_t, std::string, std::string>, double> least;
  for (const Candidate& candidate : all) {
    if (planned == tries) break;
    const auto known = least.find({candidate.zero, candidate.recompute, candidate.schedule});
    if (known != least.end() && machine.memory_bytes > 0 && candidate.memory * known->second > machine.memory_bytes)
      continue;
    std::vector<std::string> with = sets;
    for (const std::string& set : candidate.sets()) with.push_back(set);
    try {
      ++planned;
      Prediction prediction = plan_run(registry, Config::load(config, with), machine, ranks, false);
      double& share = least.try_emplace({candidate.zero, candidate.recompute, candidate.schedule}, 1e300).first->second;
      share = std::min(share, static_cast<double>(prediction.largest_memory()) / candidate.memory);
      if (!prediction.fits()) continue;
      prediction.programs.clear();
      found.push_back({candidate, std::move(prediction)});
    } catch (const Error& error) {
      log_debug("layout " + text_of(candidate) + ": " + error.what());
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const Suggestion& a, const Suggestion& b) {
    return a.prediction.seconds < b.prediction.seconds;
  });
  if (count) *count = {all.size(), planned};
  if (found.size() > most) found.resize(most);
  return found;
}

std::string suggestions_table(const std::vector<Suggestion>& suggestions) {
  if (suggestions.empty()) return "no layout of these ranks fits into the memory of a rank\n";
  char line[256];
  std::string text = "      step   % of peak   bubble   messages    memory   layout\n";
  for (const Suggestion& s : suggestions) {
    const Prediction& p = s.prediction;
    std::snprintf(line, sizeof line, "%10s   %7.1f %%  %5.1f %%   %6.1f %%  %8s   ", with_seconds(p.seconds).c_str(),
                  100 * p.share_of_peak(), 100 * p.bubble(), 100 * p.exposed() / p.seconds,
                  with_unit(static_cast<double>(p.largest_memory()), "B").c_str());
    text += line + text_of(s.candidate) + "\n";
  }
  text += "the first:";
  for (const std::string& set : suggestions.front().candidate.sets()) text += " --set " + set;
  return text + "\n";
}

std::string suggestions_json(const std::vector<Suggestion>& suggestions) {
  nlohmann::json json = nlohmann::json::array();
  for (const Suggestion& s : suggestions) {
    nlohmann::json one = nlohmann::json::parse(report_json(s.prediction));
    one["sets"] = s.candidate.sets();
    json.push_back(std::move(one));
  }
  return json.dump(2) + "\n";
}

} // namespace kumiki
